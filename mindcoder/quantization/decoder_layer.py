"""The weights of one decoder layer in memory, as calibration changes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.stored_tensor import convert_dtype
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import in_layer, split_layer
from mindcoder.families.registry import family_of
from mindcoder.families.scale_folds import ScaleFold
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightRule


class DecoderLayerWeights:
    """Parameters in float32 by their names within the layer.

    Args:
        config: of the model.
        layer: its number.
        plans: of the model's parameters, by global name.

    Attributes:
        rules: of the layer's tensors in Hugging Face's files.
        parameters: ``[out, in]``, or ``[channels]`` of norms and biases.
        changed: names of those that are no longer the model's.

    Raises:
        UserError: a weight is not finite.
    """

    def __init__(self, config: TransformerConfig, layer: int, plans: Mapping[str, TensorPlan]) -> None:
        self._config, self._number, self._table = config, layer, family_of(config.model_type).weights
        self.rules = [rule for rule in self._table.expand(config) if split_layer(rule.ours[0])[0] == layer]
        names = [name for rule in self.rules for name in rule.ours]
        self.parameters = {split_layer(name)[1]: read_single(plans[name]) for name in names}
        self.changed: set[str] = set()

    def matrix(self, module: str) -> np.ndarray:
        """Weight of a linear layer by its name in the layer, float32 ``[out, in]``."""
        return self.parameters[f"{module}.weight"]

    def fold(self, fold: ScaleFold, scales: np.ndarray) -> None:
        """Divide what computes some inputs by ``scales``, and multiply the weights that read them.

        Args:
            scales: float32 ``[source outputs]``, positive.
        """
        for part in ("weight", "bias"):
            name = f"{fold.source}.{part}"
            if name in self.parameters:
                values = self.parameters[name]
                self._set(name, values / (scales[:, None] if values.ndim == 2 else scales))
        for module in fold.targets:
            self._set(f"{module}.weight", self.matrix(module) * fold.spread(scales))

    def tensor(self, rule: WeightRule) -> np.ndarray:
        """A tensor as Hugging Face's file has it, float32."""
        return self._table.to_huggingface(rule, {name: self._own(name) for name in rule.ours}, self._config)

    def set_tensor(self, rule: WeightRule, values: np.ndarray) -> None:
        """The inverse of `tensor`."""
        for name, part in self._table.to_ours(rule, values, self._config).items():
            self._set(split_layer(name)[1], part)

    def is_changed(self, rule: WeightRule) -> bool:
        """Whether a tensor is no longer the model's."""
        return any(split_layer(name)[1] in self.changed for name in rule.ours)

    def modules(self, rule: WeightRule) -> Iterable[str]:
        """The linear layers that a tensor is the weight of, by their names in the layer; empty if of none."""
        shapes = self._config.linear_shapes()
        found = [split_layer(name)[1] for name in rule.ours]
        return [name.removesuffix(".weight") for name in found if name.removesuffix(".weight") in shapes]

    def _own(self, name: str) -> np.ndarray:
        return self.parameters[split_layer(name)[1]]

    def _set(self, name: str, values: np.ndarray) -> None:
        if not np.isfinite(values).all():
            raise UserError(f"{in_layer(self._number, name)}: is not finite any more after its scales were folded")
        self.parameters[name] = np.ascontiguousarray(values, np.float32)
        self.changed.add(name)


def read_single(plan: TensorPlan) -> np.ndarray:
    """A parameter in float32.

    Raises:
        UserError: it is not finite.
    """
    values = convert_dtype(plan.read(), plan.dtype, "F32")
    finite = np.isfinite(values)
    if not finite.all():
        where = np.argwhere(~finite)[0]
        raise UserError(f"{plan.name}: found {values[tuple(where)]} at {where.tolist()}, expected finite weights")
    return values
