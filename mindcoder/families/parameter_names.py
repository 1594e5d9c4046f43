"""Global parameter names taken apart: ``layers.3.attention.query.weight``; the same in every layout and checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

LAYERS = "layers"
# Parts that adapters add to a linear layer: the two matrices of a low-rank update (mindpet's names), the norms of DoRA.
LORA_A, LORA_B = "mindpet_delta_lora_a", "mindpet_delta_lora_b"
MAGNITUDE = "lora_magnitude"
# Beside a linear layer's weight of integers: what turns them into numbers, see `mindcoder.models.methods.weight_only`.
SCALE, OFFSET = "weight_scale", "weight_offset"
# The same beside codes of NF4, see `mindcoder.models.methods.nf4`: scales of blocks, and theirs.
ABSMAX, NESTED_ABSMAX, NESTED_OFFSET = "weight_absmax", "weight_nested_absmax", "weight_nested_offset"
# How its activations become integers too, see `mindcoder.models.methods.w8a8`.
INPUT = "input_rounding"


@dataclass(frozen=True)
class ParameterName:
    """A parameter of the network.

    Attributes:
        layer: index of its layer; None outside the layers (embeddings, final norm, head).
        module: which part of the network or layer it belongs to: ``attention.query``, ``token_embedding``.
        part: which parameter of that module: ``weight``, ``bias``.
    """

    layer: int | None
    module: str
    part: str

    @classmethod
    def parse(cls, name: str) -> ParameterName:
        """The parameter of global name ``name``.

        Raises:
            ValueError: the name has no layer number where there should be one.
        """
        layer, path = split_layer(name)
        module, _, part = path.rpartition(".")
        return cls(layer, module, part)


def split_layer(name: str) -> tuple[int | None, str]:
    """Layer and path within it, of a parameter or a module: ``layers.3.mlp.up`` -> ``(3, "mlp.up")``; outside the
    layers ``(None, name)``.

    Raises:
        ValueError: the name has no layer number where there should be one.
    """
    first, _, rest = name.partition(".")
    if first != LAYERS:
        return None, name
    layer, _, path = rest.partition(".")
    return int(layer), path


def in_layer(layer: int, path: str) -> str:
    """The inverse of `split_layer` within a layer: ``(3, "mlp.up")`` -> ``layers.3.mlp.up``."""
    return f"{LAYERS}.{layer}.{path}"
