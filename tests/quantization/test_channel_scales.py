"""AWQ's and SmoothQuant's scales: they fold exactly, follow their formulas, and lower the outputs' error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mindcoder.checkpoint.quantized.format import Integers
from mindcoder.families.scale_folds import ScaleFold, pre_norm_folds
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.quantization.algorithms.awq import channel_scales
from mindcoder.quantization.algorithms.clipping import by_gram, clipped
from mindcoder.quantization.algorithms.minmax import minmax
from mindcoder.quantization.algorithms.smooth import smoothing_scales
from mindcoder.quantization.calibration.statistics import InputRecord
from mindcoder.quantization.rounding import from_integers, to_integers

INTEGERS = [Integers(4), Integers(4, group_size=32), Integers(4, False, 32), Integers(8)]
FOLD = ScaleFold("norm", ("a", "b"), is_norm=True)
GROUPED = ScaleFold("value", ("output",), heads=(2, 3, 16))  # 2 key/value heads, 3 query heads to each


def case(rng):
    """Weights ``[out, 96]`` and inputs with a few large channels, as transformers have them."""
    inputs = rng.standard_normal((512, 96)).astype(np.float32) * np.exp(0.3 * rng.standard_normal(96)).astype(
        np.float32
    )
    inputs[:, [3, 40, 77]] *= 30
    record = InputRecord(96, 1)
    record.add(inputs)
    weights = [rng.standard_normal((out, 96)).astype(np.float32) for out in (32, 48)]
    return weights, inputs, record.statistics()


def rounded(weight: np.ndarray, integers: Integers) -> np.ndarray:
    groups = weight.reshape(len(weight), integers.groups(weight.shape[1]), -1)
    scale, offset = minmax(groups, integers)
    return from_integers(to_integers(groups, scale, offset, integers), scale, offset).reshape(weight.shape)


def test_statistics_are_those_of_the_inputs(rng):
    weights, inputs, statistics = case(rng)
    np.testing.assert_allclose(statistics.gram, inputs.T.astype(np.float64) @ inputs, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(statistics.mean_abs, np.abs(inputs).mean(0), rtol=1e-6)
    np.testing.assert_array_equal(statistics.max_abs, np.abs(inputs).max(0))
    assert statistics.tokens == 512 and len(statistics.sample) == 256
    change = 0.01 * rng.standard_normal(weights[0].shape).astype(np.float32)
    expected = np.linalg.norm(inputs @ change.T) / np.linalg.norm(inputs @ weights[0].T)
    np.testing.assert_allclose(statistics.output_error(weights[0], weights[0] + change), expected, rtol=1e-3)
    scale = np.exp(rng.standard_normal(96)).astype(np.float32)
    divided, again = statistics.divided(scale), InputRecord(96, 1)
    again.add(inputs / scale)
    for name, value in vars(again.statistics()).items():
        np.testing.assert_allclose(getattr(divided, name), value, rtol=2e-4, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("fold", [FOLD, GROUPED], ids=["norm", "heads"])
@pytest.mark.parametrize("integers", INTEGERS, ids=str)
def test_awq_lowers_the_error_of_the_outputs(integers, fold, rng):
    """Against the search written plainly with torch on the inputs themselves."""
    weights, inputs, statistics = case(rng)
    scales = channel_scales(fold, weights, statistics, lambda weight: rounded(weight, integers))
    spread = fold.spread(scales)
    given = torch.tensor(inputs)

    def error(scale: np.ndarray) -> float:
        total = 0.0
        for weight in weights:
            scaled = torch.tensor(rounded(weight * scale, integers))
            total += float((((given / torch.tensor(scale)) @ scaled.T - given @ torch.tensor(weight).T) ** 2).sum())
        return total

    tried = []
    magnitude = given.abs().mean(0).numpy()
    if fold is GROUPED:
        magnitude = np.repeat(magnitude.reshape(2, 3, 16).max(1, keepdims=True), 3, 1).reshape(-1)
    for step in range(20):
        scale = magnitude ** (step / 20)
        tried.append(error((scale / np.sqrt(scale.max() * scale.min())).astype(np.float32)))
    assert error(spread) <= min(tried) * 1.001
    assert error(spread) < (0.9 if fold is FOLD else 1.0) * error(np.ones(96, np.float32))


@pytest.mark.parametrize("integers", INTEGERS, ids=str)
def test_clipping_lowers_the_error_of_a_groups_outputs(integers, rng):
    weights, inputs, statistics = case(rng)
    weight = rng.standard_t(3, weights[0].shape).astype(np.float32)
    groups = weight.reshape(len(weight), integers.groups(96), -1)
    size = groups.shape[2]
    errors = []
    for scale, offset in (minmax(groups, integers), clipped(groups, integers, by_gram(statistics.gram, size))):
        change = from_integers(to_integers(groups, scale, offset, integers), scale, offset) - groups
        parts = inputs.reshape(-1, groups.shape[1], size)
        errors.append((np.einsum("tgs,rgs->trg", parts, change) ** 2).sum(0))
    assert (errors[1] <= errors[0] * 1.001).all() and errors[1].sum() < errors[0].sum()


def test_smoothing_follows_the_paper(rng):
    weights, inputs, statistics = case(rng)
    largest = np.abs(np.concatenate(weights)).max(0)
    expected = np.abs(inputs).max(0) ** 0.3 / largest**0.7
    np.testing.assert_allclose(smoothing_scales(FOLD, weights, statistics, 0.3), expected, rtol=1e-5)
    even = smoothing_scales(FOLD, weights, statistics, 0.5)
    np.testing.assert_allclose(statistics.divided(even).max_abs, np.abs(weights[0] * even).max(0).clip(
        np.abs(weights[1] * even).max(0)), rtol=1e-5)  # fmt: skip
    silent = replace(statistics, low=statistics.low * 0, high=statistics.high * 0)
    np.testing.assert_array_equal(smoothing_scales(FOLD, weights, silent, 0.5), np.ones(96, np.float32))


def test_heads_that_share_a_value_share_its_scale(rng):
    config = TransformerConfig("llama", 64, 96, 2, 6, 2, 128, 64, norm="rms_norm", activation="silu", gated_mlp=True,
                               position="rope")  # fmt: skip
    fold = next(fold for fold in pre_norm_folds(config) if fold.source == "attention.value")
    assert fold == replace(GROUPED, source="attention.value", targets=("attention.output",))
    value = rng.standard_normal((10, config.kv_size)).astype(np.float32)
    probabilities = np.stack([np.tril(rng.random((10, 10))) for _ in range(6)])
    heads = value.reshape(10, 2, 16)
    attended = np.stack([probabilities[head] @ heads[:, head // 3] for head in range(6)], 1).reshape(10, 96)
    scales = np.exp(rng.standard_normal(32)).astype(np.float32)
    scaled = (value / scales).reshape(10, 2, 16)
    again = np.stack([probabilities[head] @ scaled[:, head // 3] for head in range(6)], 1).reshape(10, 96)
    np.testing.assert_allclose(again * fold.spread(scales), attended, rtol=1e-5, atol=1e-6)
    assert [fold.source for fold in pre_norm_folds(config)] == [
        "attention_norm",
        "attention.value",
        "mlp_norm",
        "mlp.up",
    ]
    plain = replace(config, gated_mlp=False, activation="gelu")
    assert [fold.source for fold in pre_norm_folds(plain)] == ["attention_norm", "attention.value", "mlp_norm"]
