"""GPTQ against the paper's algorithm, written plainly in float64, and against rounding to nearest."""

from __future__ import annotations

import numpy as np
import pytest

from mindcoder.checkpoint.quantized.format import Integers
from mindcoder.quantization.algorithms.gptq import Gptq, clipped_by_inputs
from mindcoder.quantization.algorithms.minmax import minmax
from mindcoder.quantization.calibration.statistics import InputRecord
from mindcoder.quantization.rounding import from_integers, to_integers

KINDS = [Integers(4), Integers(4, False), Integers(8)]
KINDS += [Integers(4, symmetric, size) for symmetric in (True, False) for size in (32, 256)]
INPUTS, OUTPUTS = 256, 24


def correlated_inputs(rng, tokens: int = 1024) -> np.ndarray:
    """Inputs whose channels differ in size and depend on each other, as those of a network do."""
    mix = rng.standard_normal((INPUTS, INPUTS)) / INPUTS**0.5 + np.eye(INPUTS)
    inputs = rng.standard_normal((tokens, INPUTS)) @ mix * np.exp(rng.standard_normal(INPUTS))
    return inputs.astype(np.float32)


def plain(weight, squares, integers: Integers):
    """The paper's scales: from the largest weights."""
    return minmax(weight, integers)


def statistics_of(inputs: np.ndarray):
    record = InputRecord(inputs.shape[1], 4)
    for part in np.array_split(inputs, 4):
        record.add(part)
    return record.statistics()


def paper(weight, inputs, integers: Integers, damping: float, order: np.ndarray):
    """Frantar et al. 2022, algorithm 1 without its blocks, in float64.

    After column j is rounded, all columns that are left move by ``(w_j - q_j) / [H⁻¹]_jj * [H⁻¹]_j``, where H⁻¹ is the
    inverse of the Hessian of those left, computed anew for each column.
    """
    inputs = inputs.astype(np.float64)
    hessian = inputs.T @ inputs
    hessian += damping * np.diag(hessian).mean() * np.eye(len(hessian))
    left, result = weight.astype(np.float64), np.empty(weight.shape)
    size = integers.group_size or weight.shape[1]
    is_natural = (order == np.arange(len(order))).all()
    grids = {}
    if not is_natural:  # scales of the weight as it was
        grids = {g: grid(left[:, g * size : (g + 1) * size], integers) for g in range(weight.shape[1] // size)}
    for step, column in enumerate(order):
        if column // size not in grids:
            grids[column // size] = grid(left[:, column : column + size], integers)
        scale, zero, low, high = grids[column // size]
        number = np.clip(np.round(left[:, column] / scale + zero), low, high)
        result[:, column] = number
        rest = order[step:]
        inverse = np.linalg.inv(hessian[np.ix_(rest, rest)])
        error = (left[:, column] - (number - zero) * scale) / inverse[0, 0]
        left[:, rest] -= np.outer(error, inverse[0])
    return result


def grid(columns, integers: Integers):
    """Scale and zero of each row from its extremes, and the integers' bounds."""
    low, high = -(2 ** (integers.bits - 1)), 2 ** (integers.bits - 1) - 1
    if integers.symmetric:
        return np.abs(columns).max(1) / ((high - low) / 2), np.zeros(len(columns)), low, high
    smallest, largest = np.minimum(columns.min(1), 0), np.maximum(columns.max(1), 0)
    scale = (largest - smallest) / (high - low)
    return scale, np.round(low - smallest / scale), low, high


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("integers", KINDS, ids=str)
def test_the_integers_are_those_of_the_paper(integers, act_order, rng):
    weight = rng.standard_t(5, (OUTPUTS, INPUTS)).astype(np.float32)
    inputs = correlated_inputs(rng)
    statistics = statistics_of(inputs)
    order = np.argsort(-np.diag(statistics.gram), kind="stable") if act_order else np.arange(INPUTS)
    expected = paper(weight, inputs, integers, 0.01, order)
    numbers, _, _ = Gptq(plain, act_order=act_order)(weight, statistics.gram, integers, lambda scale: scale)
    # float32 decides a few numbers near a half otherwise, and what follows in their row.
    assert (numbers == expected).mean() > (0.97 if integers.bits == 8 else 0.995)
    assert np.abs(numbers - expected).max() <= (2 if integers.bits == 8 else 1)


@pytest.mark.parametrize("integers", KINDS, ids=str)
def test_outputs_are_nearer_than_those_of_rounding_to_nearest(integers, rng):
    weight = rng.standard_t(5, (OUTPUTS, INPUTS)).astype(np.float32)
    statistics = statistics_of(correlated_inputs(rng))
    errors = []
    groups = weight.reshape(OUTPUTS, integers.groups(INPUTS), -1)
    scale, offset = minmax(groups, integers)
    nearest = from_integers(to_integers(groups, scale, offset, integers), scale, offset).reshape(weight.shape)
    for scales in (plain, clipped_by_inputs):
        numbers, scale, offset = Gptq(scales)(weight, statistics.gram, integers, lambda scale: scale)
        values = from_integers(numbers.reshape(groups.shape), scale, offset).reshape(weight.shape)
        errors.append(statistics.output_error(weight, values))
        assert errors[-1] < 0.9 * statistics.output_error(weight, nearest)
        assert scale.dtype == offset.dtype == np.float32 and numbers.dtype == np.int8
    assert errors[1] < (0.9 if integers.bits == 4 else 1.0) * errors[0]


def test_uncorrelated_inputs_are_rounded_to_nearest(rng):
    """With H a multiple of the identity no column can make good what another one does."""
    weight = rng.standard_normal((OUTPUTS, 64)).astype(np.float32)
    integers = Integers(4, group_size=32)
    numbers, scale, offset = Gptq(plain)(weight, 3 * np.eye(64, dtype=np.float32), integers, lambda scale: scale)
    groups = weight.reshape(OUTPUTS, 2, 32)
    np.testing.assert_array_equal(scale, minmax(groups, integers)[0])
    np.testing.assert_array_equal(numbers, to_integers(groups, scale, offset, integers).reshape(weight.shape))


def test_inputs_that_are_always_zero_or_equal_do_no_harm(rng):
    weight = rng.standard_normal((OUTPUTS, 64)).astype(np.float32)
    inputs = rng.standard_normal((40, 64)).astype(np.float32)  # fewer tokens than channels
    inputs[:, 5], inputs[:, 9] = 0, inputs[:, 10]
    gram = inputs.T @ inputs
    numbers, scale, offset = Gptq(plain, act_order=True)(weight, gram, Integers(4), lambda scale: scale)
    assert not numbers[:, 5].any() and np.isfinite(scale).all()
    values = from_integers(numbers[:, None], scale, offset)[:, 0]
    assert np.linalg.norm(inputs @ (values - weight).T) < 0.1 * np.linalg.norm(inputs @ weight.T)
    impossible = np.full_like(gram, 500) - 499 * np.eye(64, dtype=np.float32)  # no Gram matrix
    with pytest.raises(ValueError, match="depend on each other, even with damping 10"):
        Gptq(plain)(weight, impossible, Integers(4), lambda scale: scale)


def test_the_given_rounding_of_scales_is_that_of_the_integers(rng):
    weight = rng.standard_normal((OUTPUTS, 64)).astype(np.float32)
    gram = np.cov(rng.standard_normal((64, 200))).astype(np.float32)
    numbers, scale, _ = Gptq(plain)(
        weight, gram, Integers(4), lambda scale: scale.astype(np.float16).astype(np.float32)
    )
    assert (scale == scale.astype(np.float16)).all()
    exact, _, _ = Gptq(plain)(weight, gram, Integers(4), lambda scale: scale)
    assert (numbers == exact).mean() > 0.9
