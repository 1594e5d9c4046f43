"""Where the scales of a linear layer's input channels can be folded, so that the layer computes the same function.

Quantization multiplies the columns of a weight by scales that make it easier to round (AWQ), or its inputs easier
(SmoothQuant). What computes these inputs is divided by the same scales: exact, as long as it is a norm's weight and
bias or the outputs of a linear layer with nothing but products in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mindcoder.families.transformer_config import TransformerConfig

if TYPE_CHECKING:  # reading a YAML file needs no arrays
    import numpy as np


@dataclass(frozen=True)
class ScaleFold:
    """One place of a decoder layer; modules by their names in it.

    Attributes:
        source: norm or linear layer that computes the inputs.
        targets: linear layers that read them, all of those that do.
        is_norm: whether ``source`` is a norm.
        heads: of a value projection, whose channels several query heads read: key/value heads, query heads to each, and
            the size of a head. None where output ``i`` of the source is input ``i`` of the targets.
    """

    source: str
    targets: tuple[str, ...]
    is_norm: bool = False
    heads: tuple[int, int, int] | None = None

    def spread(self, scales: np.ndarray) -> np.ndarray:
        """Scales of the targets' inputs ``[in]`` from those of the source's outputs."""
        if self.heads is None:
            return scales
        groups, queries, size = self.heads
        return scales.reshape(groups, 1, size).repeat(queries, 1).reshape(-1)

    def gathered(self, values: np.ndarray) -> np.ndarray:
        """One value for each output of the source, from non-negative ones of the targets' inputs: the largest."""
        if self.heads is None:
            return values
        groups, queries, size = self.heads
        return values.reshape(groups, queries, size).max(1).reshape(-1)


def pre_norm_folds(config: TransformerConfig) -> tuple[ScaleFold, ...]:
    """The folds of a pre-norm decoder layer.

    Between ``up`` and ``down`` of an MLP without a gate lies an activation function, which no scale passes through.
    """
    inputs = tuple(name for name in ("mlp.gate", "mlp.up") if name in config.linear_shapes())
    heads = (config.num_kv_heads, config.num_heads // config.num_kv_heads, config.head_dim)
    folds = (
        ScaleFold("attention_norm", ("attention.query", "attention.key", "attention.value"), is_norm=True),
        ScaleFold("attention.value", ("attention.output",), heads=heads),
        ScaleFold("mlp_norm", inputs, is_norm=True),
    )
    return (*folds, ScaleFold("mlp.up", ("mlp.down",))) if config.gated_mlp else folds
