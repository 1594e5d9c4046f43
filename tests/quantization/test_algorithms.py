"""Scales, offsets and integers against compressed-tensors' formulas, and which algorithm is nearer to the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import quantize
from compressed_tensors.quantization.utils import calculate_qparams

from mindcoder.checkpoint.quantized.format import Integers
from mindcoder.quantization.algorithms.minmax import minmax
from mindcoder.quantization.algorithms.mse import mse
from mindcoder.quantization.rounding import as_stored, from_integers, to_integers

KINDS = [Integers(bits, symmetric, size) for bits in (8, 4) for symmetric in (True, False) for size in (0, 32)]


def random_groups(rng, integers: Integers) -> np.ndarray:
    """Weights of 6 outputs, of which one is all zeros and one all positive."""
    weight = rng.standard_t(5, (6, 96)).astype(np.float32)
    weight[2], weight[3] = 0, np.abs(weight[3])
    return weight.reshape(6, integers.groups(96), -1)


@pytest.mark.parametrize("integers", KINDS, ids=str)
def test_minmax_gives_the_integers_of_compressed_tensors(integers, rng):
    weight = random_groups(rng, integers)
    strategy = {"strategy": "group", "group_size": 32} if integers.group_size else {"strategy": "channel"}
    args = QuantizationArgs(num_bits=integers.bits, symmetric=integers.symmetric, **strategy)
    given = torch.tensor(weight)
    scale, zero = calculate_qparams(given.amin(2), given.amax(2), args)
    expected = quantize(given.reshape(6, 96), scale, zero, args, dtype=torch.int8)
    ours_scale, ours_offset = minmax(weight, integers)
    np.testing.assert_array_equal(ours_scale, scale.numpy())
    np.testing.assert_array_equal(ours_offset, zero.numpy().astype(np.float32))
    numbers = to_integers(weight, ours_scale, ours_offset, integers)
    np.testing.assert_array_equal(numbers.reshape(6, 96), expected.numpy())


@pytest.mark.parametrize("integers", KINDS, ids=str)
def test_mse_is_never_further_from_the_weights(integers, rng):
    weight = random_groups(rng, integers)
    errors = []
    for algorithm in (minmax, mse):
        scale, offset = algorithm(weight, integers)
        assert scale.dtype == offset.dtype == np.float32 and (scale > 0).all()
        assert (offset == np.rint(offset)).all() and (not integers.symmetric or not offset.any())
        values = from_integers(to_integers(weight, scale, offset, integers), scale, offset)
        errors.append(((values - weight) ** 2).sum(2))
    assert (errors[1] <= errors[0]).all()
    assert errors[1].sum() < errors[0].sum() * (0.95 if integers.bits == 4 else 1.0)


@pytest.mark.parametrize("integers", KINDS, ids=str)
def test_weights_on_the_grid_are_kept(integers, rng):
    """Scales that are given weights of their own multiples find them again."""
    steps = rng.integers(integers.lowest, integers.highest + 1, (4, 3, 32)).astype(np.float32)
    steps[:, :, 0], steps[:, :, 1] = integers.lowest, integers.highest
    scale = np.full((4, 3), 0.25, np.float32)
    offset = np.zeros((4, 3), np.float32)
    numbers = to_integers(steps * 0.25, scale, offset, integers)
    np.testing.assert_array_equal(from_integers(numbers, scale, offset), steps * 0.25)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_scales_too_small_for_their_file_are_not_zero(dtype):
    """A pruned model in float16 has rows whose scales round to zero there; their weights would become zero, too."""
    weight = np.float32([[2e-6, -1e-6, 0, 1e-6], [6e-8, 0, 0, 0], [1, -1, 0.5, 0]])[:, None]
    scale, offset = minmax(weight, Integers(8))
    scale = as_stored(scale, dtype)
    assert scale.dtype == np.float32 and (scale > 0).all()
    with np.errstate(all="raise"):
        values = from_integers(to_integers(weight, scale, offset, Integers(8)), scale, offset)
    np.testing.assert_allclose(values, weight, atol=3e-8, rtol=8e-3)
