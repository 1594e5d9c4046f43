"""Options, names and shapes of adapters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mindcoder.families.parameter_names import LORA_A, LORA_B, MAGNITUDE, in_layer, split_layer
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TransformerConfig

# MindFormers' names of Llama's linear layers, for which users write their patterns.
MINDFORMERS_NAMES = {
    "attention.query": "attention.wq",
    "attention.key": "attention.wk",
    "attention.value": "attention.wv",
    "attention.output": "attention.wo",
    "mlp.gate": "feed_forward.w1",
    "mlp.down": "feed_forward.w2",
    "mlp.up": "feed_forward.w3",
}


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank updates (Hu et al. 2021): ``y = x W^T + scaling * dropout(x) A^T B^T`` with A ``[rank, in]``, B
    ``[out, rank]``.

    Attributes:
        rank: R.
        alpha: ``scaling`` is ``alpha / rank``, or ``alpha / sqrt(rank)`` with ``rank_stabilized`` (Kalajdzievski 2023).
        dropout: rate on the update's input, in training.
        target_modules: patterns of the linear layers to adapt, see `matching_linears`.
        exclude_layers: patterns of linear layers to leave out.
        rank_stabilized: see ``alpha``.
        rate_ratio: learning rate of B divided by that of A (LoRA+, Hayou et al. 2024).
        magnitudes: learn the norm of each output row of the weight separately from its direction, which the update
            changes (DoRA, Liu et al. 2024).
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = (".*attention.*",)
    exclude_layers: tuple[str, ...] = ()
    rank_stabilized: bool = False
    rate_ratio: float = 1.0
    magnitudes: bool = False

    @property
    def scaling(self) -> float:
        """Factor of the update."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilized else self.rank)


PREFIX_PART = "attention.prefix.encoder"  # in the names of a prefix's parameters


@dataclass(frozen=True)
class PrefixOptions:
    """Learned keys and values before every sequence (P-tuning v2, Liu et al. 2021).

    Attributes:
        tokens: length of the prefix.
        projection: learn an embedding and a two-layer MLP that computes the keys and values (Li & Liang 2021), instead
            of the keys and values themselves.
        projection_dim: hidden size of that MLP.
        dropout: rate on the keys and values, in training.
    """

    tokens: int = 128
    projection: bool = False
    projection_dim: int = 128
    dropout: float = 0.0


def prefix_shapes(options: PrefixOptions, config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Global shape of every parameter of a prefix, by global name."""
    width, inner = 2 * config.kv_size, options.projection_dim
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(config.num_layers):
        name = in_layer(layer, f"{PREFIX_PART}.mindpet_delta_ptuning2")
        shapes[f"{name}_embedding.embedding_table"] = (options.tokens, width)
        if options.projection:
            shapes[f"{name}_dense_in.weight"], shapes[f"{name}_dense_in.bias"] = (inner, width), (inner,)
            shapes[f"{name}_dense_out.weight"], shapes[f"{name}_dense_out.bias"] = (width, inner), (width,)
    return shapes


def spellings(layer: int, module: str, config: TransformerConfig) -> Iterator[str]:
    """Names of a linear layer: ours, MindFormers' and Hugging Face's."""
    own = in_layer(layer, module)
    yield own
    yield f"model.layers.{layer}.{MINDFORMERS_NAMES[module]}"
    for rule in family_of(config.model_type).weights.rules:
        filled = rule.at_layer(layer)
        if f"{own}.weight" in filled.ours:
            yield filled.huggingface.removesuffix(".weight")


def _matches(patterns: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a pattern matches: a regular expression at the start of a name, or the last component of a name."""
    return any(re.match(pattern, name) or name.endswith(f".{pattern}") for pattern in patterns for name in names)


def matching_linears(options: LoraOptions, config: TransformerConfig) -> list[str]:
    """Global names (``layers.3.attention.query``) of the linear layers to adapt, layer by layer.

    Raises:
        ValueError: a pattern is not a regular expression, or none matches; the message lists the names.
    """
    found = []
    try:
        for layer in range(config.num_layers):
            for module in config.linear_shapes():
                names = list(spellings(layer, module, config))
                if _matches(options.target_modules, names) and not _matches(options.exclude_layers, names):
                    found.append(in_layer(layer, module))
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if not found:
        known = ", ".join(f"{names[0]} ({names[-1]})" for names in (
            list(spellings(0, module, config)) for module in config.linear_shapes()
        ))  # fmt: skip
        raise ValueError(f"{' '.join(options.target_modules)!r} matches no linear layer; available: {known}")
    return found


def adapter_shapes(options: LoraOptions, config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Global shape of every parameter of an adapter, by global name.

    Raises:
        ValueError: as `matching_linears`.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    linears = config.linear_shapes()
    for name in matching_linears(options, config):
        outputs, inputs = linears[split_layer(name)[1]]
        shapes[f"{name}.{LORA_A}"] = (options.rank, inputs)
        shapes[f"{name}.{LORA_B}"] = (outputs, options.rank)
        if options.magnitudes:
            shapes[f"{name}.{MAGNITUDE}"] = (outputs,)
    return shapes


def added_shapes(options: LoraOptions | PrefixOptions | None, config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Global shape of every parameter that ``options`` add to a network; none without options.

    Raises:
        ValueError: as `matching_linears`.
    """
    if options is None:
        return {}
    return adapter_shapes(options, config) if isinstance(options, LoraOptions) else prefix_shapes(options, config)
