"""Metadata keys of GGUF that several architectures share and that are more than a value under another name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from mindcoder.families.config_fields import ConfigFields, shown
from mindcoder.families.fields import Field, Only, Whole
from mindcoder.families.gguf_form import EMBEDDING, HEAD, GgufFields
from mindcoder.families.rope_scaling import RopeScaling
from mindcoder.families.rotary_frequencies import llama3_factors, llama3_scaling
from mindcoder.families.transformer_config import TransformerConfig

DEFAULT_THETA = 10000.0  # of llama.cpp, for files without rope.freq_base


class Vocabulary:
    """Rows of the embedding; ``vocab_size`` may only repeat them."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        shape = cast(GgufFields, fields).shapes.get(EMBEDDING)
        if shape is None:
            raise ValueError(f"vocab_size is not known: tensor {EMBEDDING} is missing")
        found["vocab_size"] = shape[0]
        fields.only("vocab_size", (shape[0],))

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {"vocab_size": config.vocab_size}


@dataclass(frozen=True)
class Present:
    """A field of the network that says whether a tensor is there; no key does.

    Attributes:
        ours: field of `TransformerConfig`.
        tensor: one of those that it stands for.
        means: its value if the tensor is there.
        needed: whether llama.cpp loads no file without it.
    """

    ours: str
    tensor: str
    means: bool = True
    needed: bool = False

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        found[self.ours] = (self.tensor in cast(GgufFields, fields).shapes) is self.means

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        if self.needed and getattr(config, self.ours) is not self.means:
            raise ValueError(f"{self.ours} is false; llama.cpp does not load such a network without {self.tensor}")
        return {}


class KeyValueHeads:
    """Key/value heads: one number for all layers; absent: as many as query heads."""

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        name = "attention.head_count_kv"
        given = fields.get(name)
        if isinstance(given, list):
            if len(set(given)) != 1:
                raise ValueError(f"{name} {shown(given)}: layers that differ are not implemented; expected one number")
            fields.values[name] = given = given[0]
        found["num_kv_heads"] = found["num_heads"] if given is None else fields.whole(name, 0)

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        return {"attention.head_count_kv": config.num_kv_heads}


@dataclass(frozen=True)
class HeadSize:
    """Size of a head, the same for keys and values; absent: hidden size divided by heads.

    Attributes:
        may_differ: whether llama.cpp loads heads of another size.
    """

    may_differ: bool = False

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        key, value = (fields.optional_whole(f"attention.{name}_length") for name in ("key", "value"))
        implied = found["hidden_size"] // max(found["num_heads"], 1)
        if (key or implied) != (value or implied):
            raise ValueError(f"attention.value_length {value} and key_length {key}: expected the same")
        found["head_dim"] = key or 0

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        if config.head_dim * config.num_heads == config.hidden_size:
            return {}
        if not self.may_differ:
            raise ValueError(
                f"head_dim is {config.head_dim}; llama.cpp loads such a network with "
                f"{config.hidden_size}/{config.num_heads} only"
            )
        return dict.fromkeys(("attention.key_length", "attention.value_length"), config.head_dim)


@dataclass(frozen=True)
class Rotary:
    """Rotary positions: theta, and a linear scaling or Llama 3's, whose factors are a tensor.

    Attributes:
        has_factors: whether llama.cpp reads that tensor for the architecture.
        may_be_partial: whether llama.cpp lets a part of a head rotate.
    """

    has_factors: bool = False
    may_be_partial: bool = False

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        head_dim = found.get("head_dim") or found["hidden_size"] // max(found["num_heads"], 1)
        rotating = fields.get("rope.dimension_count")
        if rotating is not None and self.may_be_partial:
            found["rotary_dim"] = 0 if rotating == head_dim else fields.whole("rope.dimension_count", 0)
        elif rotating is not None:
            fields.only("rope.dimension_count", (head_dim,))
        found["position"] = "rope"
        found["rope_theta"] = fields.number("rope.freq_base", DEFAULT_THETA)
        found["rope_scaling"] = _linear(fields)
        factors = cast(GgufFields, fields).rope_factors
        if factors is not None and self.has_factors:
            if found["rope_scaling"] is not None:
                raise ValueError("rope.scaling.type linear and tensor rope_freqs.weight: expected one of them")
            found["rope_scaling"] = llama3_scaling(factors, found["rope_theta"])

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        theta = float(config.rope_theta)
        values: dict[str, Any] = {"rope.dimension_count": config.rotating_dim, "rope.freq_base": theta}
        scaling = config.rope_scaling
        if scaling is not None and scaling.kind == "linear":
            return {**values, "rope.scaling.type": "linear", "rope.scaling.factor": float(scaling.factor)}
        if scaling is not None and not (scaling.kind == "llama3" and self.has_factors):
            raise ValueError(f"rope_scaling {scaling.kind} cannot be expressed for this architecture in GGUF")
        return values


def rope_factors(config: TransformerConfig) -> Sequence[float] | None:
    """Content of ``rope_freqs.weight``: what each of the D/2 frequencies is divided by; None if there is no need."""
    scaling = config.rope_scaling
    if scaling is None or scaling.kind != "llama3":
        return None
    return llama3_factors(scaling, config.rope_theta, config.head_dim)


def _linear(fields: ConfigFields) -> RopeScaling | None:
    kind = fields.get("rope.scaling.type")
    factor = fields.get("rope.scaling.factor")
    old = fields.get("rope.scale_linear")  # of files before rope.scaling
    if kind is None:
        if factor not in (None, 0, 1):
            raise ValueError(f"rope.scaling.factor {shown(factor)} without rope.scaling.type")
        return None if old in (None, 0, 1) else RopeScaling("linear", fields.number("rope.scale_linear", 1.0))
    if kind == "none":
        return None
    if kind != "linear":
        raise ValueError(f"rope.scaling.type {shown(kind)} is not implemented; expected none or linear")
    return RopeScaling("linear", fields.number("rope.scaling.factor", 1.0)) if factor not in (0, 1) else None


@dataclass(frozen=True)
class Window:
    """Tokens that a token attends to; absent: all before it. llama.cpp reads it for no architecture that is here.

    Attributes:
        is_needed: whether llama.cpp wants the key in any case; 0 means none.
    """

    is_needed: bool = False

    def read(self, fields: ConfigFields, found: dict[str, Any]) -> None:
        """See `Field`."""
        found["sliding_window"] = fields.optional_whole("attention.sliding_window")
        if found["sliding_window"] == 0 and self.is_needed:
            found["sliding_window"] = None

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        """See `Field`."""
        if config.sliding_window is None and not self.is_needed:
            return {}
        return {"attention.sliding_window": config.sliding_window or 0}


def size_fields() -> tuple[Field, ...]:
    """Sizes that every architecture states, and keys of other networks, which may only say that this is none."""
    return (
        Vocabulary(),
        Whole("max_position_embeddings", "context_length"),
        Whole("hidden_size", "embedding_length"),
        Whole("num_layers", "block_count"),
        Whole("intermediate_size", "feed_forward_length"),
        Whole("num_heads", "attention.head_count"),
        Only("expert_count", (0,)),
        Only("expert_used_count", (0,)),
        Only("use_parallel_residual", (False,)),
        Only("attention.causal", (True,)),
        Only("tensor_data_layout", ("Meta AI original pth",)),
        Present("tied_head", HEAD, means=False),
    )
