"""Quantizes a model with calibration texts, one decoder layer at a time.

Each layer is loaded, run on the calibration texts in floating point, has its scales folded and its weights quantized,
and is run again with the dequantized weights, so that the next layer sees the inputs it will have in the quantized
model. In memory are one layer in float32, what its linear layers see (`InputStatistics`), and the hidden states of the
texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.quantized.format import STATIC, Integers, LayerShape, QuantizedFormat, StaticInput
from mindcoder.checkpoint.quantized.kv_tensors import cache_shapes
from mindcoder.checkpoint.stored_tensor import convert_dtype
from mindcoder.errors import UserError
from mindcoder.families.registry import family_of
from mindcoder.families.scale_folds import ScaleFold
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightRule
from mindcoder.progress import tqdm
from mindcoder.quantization.activations import output_error, static_input
from mindcoder.quantization.algorithms.awq import channel_scales
from mindcoder.quantization.algorithms.clipping import by_gram, clipped
from mindcoder.quantization.algorithms.gptq import Gptq
from mindcoder.quantization.algorithms.registry import ALGORITHMS, AWQ, GPTQ, Rounding
from mindcoder.quantization.algorithms.smooth import smoothing_scales
from mindcoder.quantization.algorithms.sparse import sparse
from mindcoder.quantization.calibration.blocks import (
    BlockRunner,
    BlockStatistics,
    CacheRecord,
    calibration_network,
    embedded,
)
from mindcoder.quantization.calibration.statistics import InputStatistics
from mindcoder.quantization.calibration.texts import TokenRow
from mindcoder.quantization.decoder_layer import DecoderLayerWeights, read_single
from mindcoder.quantization.layer import Measured
from mindcoder.quantization.report import LayerReport
from mindcoder.quantization.rounding import as_stored, from_integers, to_integers
from mindcoder.quantization.selection import Selection
from mindcoder.quantization.spool import Spool

FOLDED_EXACTLY = 1e-3  # largest relative change of a layer's output by folded scales, which are rounded to float32


@dataclass(frozen=True)
class CalibratedMethod:
    """How weights are chosen.

    Attributes:
        integers: what they become.
        form: the format that they are written in.
        algorithm: one of `mindcoder.quantization.algorithms.registry.NAMES`.
        act_order: see `Gptq`.
        smooth: strength of SmoothQuant; None without.
        threshold: largest relative error of a layer's output that is accepted; None for any.
        kv_int8: whether scales of keys and values in int8 are measured, too.
    """

    integers: Integers
    form: QuantizedFormat
    algorithm: str
    act_order: bool = False
    smooth: float | None = None
    threshold: float | None = None
    kv_int8: bool = False


@dataclass
class Calibrated:
    """The quantized layers of a model.

    Attributes:
        tensors: what is written instead of a tensor, by its name in Hugging Face's files.
        layers: reports of those in integers, by module.
        kept: reports of those that stay in floating point because of their errors, by module.
        cache: scales of keys and values.
    """

    tensors: dict[str, list[TensorPlan]] = field(default_factory=dict)
    layers: dict[str, LayerReport] = field(default_factory=dict)
    kept: dict[str, LayerReport] = field(default_factory=dict)
    cache: list[TensorPlan] = field(default_factory=list)

    def selection(self, chosen: Selection, names: Sequence[str]) -> Selection:
        """``chosen`` without the layers that stay in floating point.

        Args:
            names: of the model's tensors, in order.

        Raises:
            UserError: none is left.
        """
        quantized = [(plan, shape) for plan, shape in chosen.quantized if shape.module in self.layers]
        if not quantized:
            least = min(report.output_error or 0.0 for report in self.kept.values())
            raise UserError(
                f"--fallback auto: every linear layer's error of the output is above it, the least {least:.2%}"
            )
        kept = {**{name: report.reason for name, report in self.kept.items()}, **chosen.kept}
        modules = [*(name.removesuffix(".weight") for name in names), *kept]
        return Selection(quantized, {module: kept[module] for module in dict.fromkeys(modules) if module in kept})


@dataclass(frozen=True, eq=False)
class QuantizedModule:
    """A linear layer in integers.

    Attributes:
        shape: the layer.
        numbers: int8 ``[out, in]``.
        scale, offset: float32 ``[out, groups]``.
        values: what the numbers stand for, float32 ``[out, in]``.
        report: its errors.
        input: how activations become integers, if by one scale.
    """

    shape: LayerShape
    numbers: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    values: np.ndarray
    report: LayerReport
    input: StaticInput | None = None


def calibrate(
    config: TransformerConfig,
    plans: Mapping[str, TensorPlan],
    selection: Selection,
    method: CalibratedMethod,
    rows: Sequence[TokenRow],
    spool: Spool,
    show_progress: bool = True,
) -> Calibrated:
    """Quantize the selected layers.

    Args:
        config: of the model, without padding of the vocabulary.
        plans: of its parameters, by global name.
        rows: the calibration texts.
        spool: takes the tensors.

    Raises:
        UserError: weights or hidden states are not finite, or the texts do not determine a layer's weights.
    """
    network = calibration_network(config)
    hidden_states = embedded(network, rows, lambda name: read_single(plans[name]))
    runner = BlockRunner(network, rows)
    shapes = {shape.module: shape for _, shape in selection.quantized}
    found, caches = Calibrated(), list(cache_shapes(config, shapes))
    for number in tqdm(
        range(config.num_layers), desc="calibrate", unit=" layers", disable=None if show_progress else True
    ):
        layer = DecoderLayerWeights(config, number, plans)
        runner.load(layer.parameters)
        statistics = runner.record(hidden_states)
        _check_finite(statistics, number)
        inputs = _folded(layer, statistics, shapes, method, config)
        if layer.changed:
            _check_folds(runner, layer, hidden_states[0], number)
        _quantize(layer, inputs, shapes, method, found, spool)
        _keep_floats(layer, plans, found, spool)
        if number + 1 < config.num_layers or method.kv_int8:
            runner.load(layer.parameters)
            cache = CacheRecord(config.kv_size) if method.kv_int8 else None
            hidden_states = runner.run(hidden_states, cache)
            if cache is not None:
                for form, values in method.form.cache_scales(caches[number], cache.key, cache.value):
                    found.cache.append(spool.put(form.name, form.dtype, values))
    return found


def _folded(
    layer: DecoderLayerWeights,
    statistics: BlockStatistics,
    shapes: Mapping[str, LayerShape],
    method: CalibratedMethod,
    config: TransformerConfig,
) -> dict[str, InputStatistics]:
    """Fold scales into the layer, where quantized layers read them; the statistics of its inputs after that."""
    inputs = dict(statistics.inputs)
    rules = [rule for rule in layer.rules if rule.huggingface.removesuffix(".weight") in shapes]
    chosen = {module for rule in rules for module in layer.modules(rule)}
    folds = [fold for fold in family_of(config.model_type).scale_folds(config) if chosen.intersection(fold.targets)]
    steps: list[tuple[ScaleFold, float | None]] = [
        (fold, method.smooth) for fold in folds if fold.is_norm and method.smooth is not None
    ]
    steps += [(fold, None) for fold in folds if method.algorithm == AWQ]
    for fold, strength in steps:
        weights = [layer.matrix(name) for name in fold.targets if name in chosen]
        seen = inputs[fold.targets[0]]
        if strength is not None:
            scales = smoothing_scales(fold, weights, seen, strength)
        else:
            # How scales are rounded in the file makes no difference to which exponent is best.
            scales = channel_scales(fold, weights, seen, lambda weight: _nearest(weight, method.integers))
        layer.fold(fold, scales)
        inputs.update(dict.fromkeys(fold.targets, seen.divided(fold.spread(scales))))
    return inputs


def _nearest(weight: np.ndarray, integers: Integers) -> np.ndarray:
    """The values of a weight's integers, rounded to nearest with `minmax`' scales."""
    groups = weight.reshape(len(weight), integers.groups(weight.shape[1]), -1)
    scale, offset = ALGORITHMS["minmax"](groups, integers)
    return from_integers(to_integers(groups, scale, offset, integers), scale, offset).reshape(weight.shape)


def _quantize(
    layer: DecoderLayerWeights,
    inputs: Mapping[str, InputStatistics],
    shapes: Mapping[str, LayerShape],
    method: CalibratedMethod,
    found: Calibrated,
    spool: Spool,
) -> None:
    """Quantize a layer's modules; those that read the same inputs together stay in floating point together, because
    engines fuse them.
    """
    beside: dict[int, list[tuple[WeightRule, QuantizedModule]]] = {}
    biases = {rule.huggingface: rule for rule in layer.rules if rule.huggingface.endswith(".bias")}
    for rule in layer.rules:
        module = rule.huggingface.removesuffix(".weight")
        if module in shapes and rule.huggingface.endswith(".weight"):
            seen = inputs[next(iter(layer.modules(rule)))]
            bias = biases.get(f"{module}.bias")
            added = None if bias is None else layer.tensor(bias)
            quantized = _quantized(shapes[module], layer.tensor(rule), added, seen, method)
            beside.setdefault(id(seen), []).append((rule, quantized))
    for modules in beside.values():
        worst = max((item for _, item in modules), key=lambda item: item.report.output_error or 0.0)
        falls = method.threshold is not None and (worst.report.output_error or 0.0) > method.threshold
        for rule, item in modules:
            if falls:
                found.kept[item.shape.module] = item.report.kept(_reason(item, worst, method.threshold))
                continue
            found.layers[item.shape.module] = item.report
            found.tensors[rule.huggingface] = _written(item, method, spool)
            layer.set_tensor(rule, item.values)


def _reason(item: QuantizedModule, worst: QuantizedModule, threshold: float | None) -> str:
    own = f"output error {item.report.output_error:.2%}"
    if item is worst or (item.report.output_error or 0.0) > (threshold or 0.0):
        return f"{own} is above auto:{threshold:g}"
    return f"{own}; reads the same inputs as {worst.shape.module.rpartition('.')[2]}"


def _quantized(
    shape: LayerShape,
    weight: np.ndarray,
    bias: np.ndarray | None,
    inputs: InputStatistics,
    method: CalibratedMethod,
) -> QuantizedModule:
    """A linear layer in integers.

    Args:
        weight: float32 ``[out, in]``, Hugging Face's rows, scales folded in.
        bias: float32 ``[out]``, if there is one.
        inputs: that it reads.
    """
    integers, rounded = method.integers, method.form.scale_dtype(shape)

    numbers, scale, offset = _numbers(shape, weight, inputs, method, lambda given: as_stored(given, rounded))
    groups = weight.reshape(*scale.shape, -1)
    values = from_integers(numbers.reshape(groups.shape), scale, offset)
    measured = Measured()
    measured.add(groups, values)
    values = values.reshape(weight.shape)
    if not integers.activations:
        report = measured.report(shape.module, integers, inputs.output_error(weight, values))
        return QuantizedModule(shape, numbers, scale, offset, values, report)
    static = None
    if integers.activations == STATIC:
        static = static_input(inputs, numbers, bias, method.form.has_input_offset)
    report = measured.report(
        shape.module, integers, output_error(weight, values, inputs.sample, integers, static)
    ).counted(numbers if integers.large else None)
    return QuantizedModule(shape, numbers, scale, offset, values, report, static)


def _numbers(
    shape: LayerShape,
    weight: np.ndarray,
    inputs: InputStatistics,
    method: CalibratedMethod,
    stored: Rounding,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers int8 ``[out, in]``, scale and offset ``[out, groups]``, by the algorithm."""
    integers = method.integers
    if method.algorithm == GPTQ:
        try:
            return Gptq(act_order=method.act_order)(weight, inputs.gram, integers, stored)
        except ValueError as error:
            raise UserError(f"{shape.module}: {error}; more or other calibration texts would help") from None
    groups = weight.reshape(len(weight), integers.groups(shape.inputs), -1)
    if integers.large:
        scale, offset = sparse(groups, integers)
    elif method.algorithm == AWQ:
        scale, offset = clipped(groups, integers, by_gram(inputs.gram, groups.shape[2]))
    else:
        scale, offset = ALGORITHMS[method.algorithm](groups, integers)
    scale = stored(scale)
    return to_integers(groups, scale, offset, integers).reshape(weight.shape), scale, offset


def _written(item: QuantizedModule, method: CalibratedMethod, spool: Spool) -> list[TensorPlan]:
    """The tensors of a module, as the format has them."""
    form, integers = method.form, method.integers
    weight = form.weight(item.shape, integers)
    tensors = [spool.put(weight.name, weight.dtype, form.encode(item.numbers, integers).reshape(weight.shape))]
    for small in form.beside(item.shape, integers):
        values = small.make(item.scale, item.offset).reshape(small.form.shape)
        tensors.append(spool.put(small.form.name, small.form.dtype, values))
    if item.input is not None:
        for own in form.beside_static(item.shape, integers):
            tensors.append(spool.put(own.form.name, own.form.dtype, own.make(item.scale, item.input)))
    return tensors


def _keep_floats(layer: DecoderLayerWeights, plans: Mapping[str, TensorPlan], found: Calibrated, spool: Spool) -> None:
    """Write the other tensors that folded scales have changed, in the model's dtype, which the layer goes on with."""
    for rule in layer.rules:
        if rule.huggingface in found.tensors or not layer.is_changed(rule):
            continue
        dtype = plans[rule.ours[0]].dtype
        values = convert_dtype(layer.tensor(rule), "F32", dtype)
        found.tensors[rule.huggingface] = [spool.put(rule.huggingface, dtype, values)]
        layer.set_tensor(rule, convert_dtype(values, dtype, "F32"))


def _check_finite(statistics: BlockStatistics, number: int) -> None:
    for name, inputs in statistics.inputs.items():
        if not np.isfinite(inputs.mean_abs).all():
            raise UserError(f"layers.{number}.{name}: its inputs on the calibration texts are not finite")


def _check_folds(runner: BlockRunner, layer: DecoderLayerWeights, states: np.ndarray, number: int) -> None:
    """Folded scales may not change what the layer computes: a family that states a wrong fold is found out here."""
    before = runner.first_output(states)
    runner.load(layer.parameters)
    after = runner.first_output(states)
    change = float(np.linalg.norm(after - before) / np.linalg.norm(before))
    if not change < FOLDED_EXACTLY:
        raise RuntimeError(f"layer {number} computes something else after its scales were folded: {change:.2%}")
