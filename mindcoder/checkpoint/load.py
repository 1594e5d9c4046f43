"""Loads weights from ``--load_checkpoint`` into a network, one tensor at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor

from mindcoder.checkpoint.adapter import Prefix
from mindcoder.checkpoint.layout import read_local
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.stored_tensor import convert_dtype
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import ABSMAX, INPUT, OFFSET, SCALE, ParameterName
from mindcoder.families.transformer_config import TransformerConfig, with_todays_fields
from mindcoder.models.decoder import Decoder
from mindcoder.models.linear import Linear
from mindcoder.models.methods.base import ReadTensor
from mindcoder.models.methods.dense import Dense
from mindcoder.models.methods.nf4 import Nf4, single_level
from mindcoder.models.methods.w8a8 import W8A8
from mindcoder.models.methods.weight_only import WeightOnly
from mindcoder.models.tensor_parallel import INPUT_AXIS, NoTensorParallel


def check_architecture(state: Mapping[str, Any], config: TransformerConfig, path: Path | str) -> None:
    """Compare the architecture in a training checkpoint with the model; resuming requires them to be equal.

    Raises:
        UserError: lists the fields that differ.
    """
    saved = with_todays_fields(state.get("architecture", {}))
    differing = [
        f"{name} {saved[name]} instead of {value}"
        for name, value in config.architecture().items()
        if name in saved and saved[name] != value
    ]
    if differing:
        raise UserError(f"checkpoint of another shape: {', '.join(differing)}", path)


@dataclass(frozen=True)
class FittingWeights:
    """Weights that match a network, judging by their headers alone: nothing is read or built yet.

    Attributes:
        weights: what was opened.
        plans: what the network keeps of them, see `Weights.stored_parameters`.
    """

    weights: Weights
    plans: Mapping[str, TensorPlan]

    @property
    def files(self) -> list[Path]:
        """The files that determine the values, sorted."""
        return self.weights.files(self.plans)


def fitting_weights(location: str | Path | Weights, config: TransformerConfig) -> FittingWeights:
    """Open weights and compare them with the network of ``config`` before allocating memory for it.

    Raises:
        UserError: missing, damaged, or of another model.
    """
    weights = location if isinstance(location, Weights) else open_weights(location)
    return FittingWeights(weights, weights.stored_parameters(config))


def load_weights(decoder: Decoder, source: str | Path | FittingWeights) -> Weights:
    """Load ``decoder``'s parameters, including a learned prefix; returns the weights that were loaded.

    Linear layers whose weight is stored in integers or codes keep these (`mindcoder.models.methods.weight_only`,
    ``w8a8`` and ``nf4``).

    Raises:
        UserError: missing, damaged, or of another model.
    """
    fitting = source if isinstance(source, FittingWeights) else fitting_weights(source, decoder.config)
    weights, plans = fitting.weights, fitting.plans

    def local(name: str) -> np.ndarray:
        axis = _divided_axis(name, plans[name], decoder, weights.path)
        values = _as_numpy(read_local(plans[name], decoder.tp, axis), plans[name])
        linear, _, part = name.rpartition(".")
        # A static scale of the inputs is in these, too: it is checked first, by its own name.
        if part in (SCALE, OFFSET, ABSMAX) and values.dtype.kind == "f" and f"{linear}.{INPUT}" not in plans:
            finite = np.isfinite(values)
            if not finite.all():
                raise UserError(f"{name}: found {values[~finite][0]}, expected finite numbers", weights.path)
        return values

    loaded: set[str] = set()
    for name, linear in decoder.linears().items():
        read = _layer_reader(name, plans, local)
        absmax = plans.get(f"{name}.{ABSMAX}")
        if absmax is not None:
            read = _scales_of_shard(read, absmax, linear, decoder.tp)
        if absmax is not None and isinstance(linear.method, Dense):
            linear.use(Nf4.of(read, linear.method.compute_dtype))
        elif f"{name}.{SCALE}" in plans and isinstance(linear.method, Dense):
            method = W8A8 if f"{name}.{INPUT}" in plans else WeightOnly
            linear.use(method.of(read, linear.method.compute_dtype))
        else:
            linear.method.load(read)
        loaded |= {parameter.name for parameter in linear.method.get_parameters()}
    for target in decoder.get_parameters():
        if target.name not in loaded:
            target.set_data(Tensor(np.ascontiguousarray(local(target.name)), target.dtype))
    if weights.prefix is not None:
        _load_prefix(decoder, weights.prefix, weights.path)
    return weights


def _layer_reader(
    name: str, plans: Mapping[str, TensorPlan], local: Callable[[str], np.ndarray]
) -> Callable[[str], np.ndarray | None]:
    """Reads a linear layer's tensors by their names within it."""
    return lambda part: local(f"{name}.{part}") if f"{name}.{part}" in plans else None


def _scales_of_shard(read: ReadTensor, absmax: TensorPlan, linear: Linear, tp: NoTensorParallel) -> ReadTensor:
    """The reader of a layer in NF4, whose scales' own blocks do not end with a shard."""
    axis = linear.shard.value
    if tp.size == 1 or axis is None:
        return read
    return single_level(read, tp.shard(np.arange(math.prod(absmax.shape)).reshape(absmax.shape), axis))


def _divided_axis(name: str, plan: TensorPlan, decoder: Decoder, path: Path) -> int | None:
    """The axis along which a tensor is divided over tensor-parallel ranks; one scale for all inputs is not.

    Raises:
        UserError: groups of inputs would be cut.
    """
    axis, size = decoder.tp.axis(name, decoder.config), decoder.tp.size
    part = ParameterName.parse(name).part
    if axis is None or part not in (SCALE, OFFSET, ABSMAX) or axis != INPUT_AXIS:
        return axis
    if plan.shape[axis] == 1:
        return None
    if plan.shape[axis] % size:
        raise UserError(f"{name}: {plan.shape[axis]} groups of inputs cannot be divided over {size} ranks", path)
    return axis


def _load_prefix(decoder: Decoder, prefix: Prefix, path: Path) -> None:
    from mindcoder.peft.prefix import add_prefix

    try:
        added = add_prefix(decoder, prefix.options, 0)
    except ValueError as error:
        raise UserError(str(error), path) from None
    for target in added:
        target.set_data(Tensor(_single_or_half(prefix.plans[target.name]), target.dtype))


def read_parameters(location: str | Path, config: TransformerConfig) -> dict[str, np.ndarray]:
    """All parameters of ``config``'s network as arrays; bfloat16 is returned as float32.

    Raises:
        UserError: as `load_weights`.
    """
    return {name: _single_or_half(plan) for name, plan in open_weights(location).parameters(config).items()}


def _single_or_half(plan: TensorPlan) -> np.ndarray:
    """The values, in a dtype that numpy has."""
    return _as_numpy(plan.read(), plan)


def _as_numpy(values: np.ndarray, plan: TensorPlan) -> np.ndarray:
    return convert_dtype(values, "BF16", "F32") if plan.dtype == "BF16" else values
