"""Every tensor type against the ``gguf`` package: decoding bitwise, encoding bitwise where the package encodes; the
K types, which it does not encode, against the best that their formats allow.
"""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from mindcoder.checkpoint.gguf import k_search
from mindcoder.checkpoint.gguf.k_types import Q4_K, Q5_K, Q6_K, pack_scales, unpack_scales
from mindcoder.checkpoint.gguf.simple_types import Q4_0
from mindcoder.checkpoint.gguf.tensor_types import TENSOR_TYPES

K_TYPES = (Q4_K, Q5_K, Q6_K)
ENCODED_BY_PACKAGE = [kind for kind in TENSOR_TYPES.values() if kind not in K_TYPES]


def ids(kind):
    return kind.name


@pytest.fixture(scope="module")
def weights():
    """Rows of every kind: usual ones, of all magnitudes, whole numbers, constants, zeros, single outliers."""
    rng = np.random.default_rng(0)
    special = np.zeros((10, 256), np.float32)
    special[1], special[2, 3], special[3], special[4] = -0.0, 1, 2.5, -7
    special[5], special[6], special[7] = np.linspace(-1, 1, 256), 1e-9, 6e4
    special[8], special[9] = np.linspace(1, 2, 256), np.linspace(-2, -1, 256)
    usual = rng.standard_normal((200, 256))
    scaled = rng.standard_normal((200, 256)) * 10 ** rng.uniform(-8, 4, (200, 1))
    return np.concatenate([usual, scaled, rng.integers(-3, 4, (50, 256)), special]).astype(np.float32)


@pytest.mark.parametrize("kind", TENSOR_TYPES.values(), ids=ids)
def test_every_byte_is_decoded_as_by_the_package(kind):
    raw = np.random.default_rng(1).integers(0, 256, (2000, kind.nbytes)).astype(np.uint8)
    flat = {"F32": np.float32, "F16": np.float16}.get(kind.name)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(raw if flat is None else raw.view(flat), Kind(kind.number))
        found = kind.decode(raw)
    assert found.dtype == np.float32 and found.shape == (2000, kind.values)
    assert np.array_equal(found.reshape(-1), expected.reshape(-1), equal_nan=True)


@pytest.mark.parametrize("kind", ENCODED_BY_PACKAGE, ids=ids)
def test_weights_are_encoded_as_by_the_package(kind, weights):
    expected = np.ascontiguousarray(gguf.quants.quantize(weights, Kind(kind.number))).view(np.uint8)
    assert np.array_equal(kind.encode(weights.reshape(-1, kind.values)).reshape(-1), expected.reshape(-1))


def test_sixteen_scales_of_six_bits_in_twelve_bytes():
    scales, least = np.random.default_rng(2).integers(0, 64, (2, 100, 8)).astype(np.uint8)
    assert all(np.array_equal(*pair) for pair in zip(unpack_scales(pack_scales(scales, least)), (scales, least)))


@pytest.mark.parametrize("kind, most", [(Q4_K, 0.072), (Q5_K, 0.036), (Q6_K, 0.0173)], ids=["Q4_K", "Q5_K", "Q6_K"])
def test_error_of_normal_weights(kind, most):
    """Relative rms; Q4_0, at the same 4.5 bits, has 0.0865."""
    values = np.random.default_rng(3).standard_normal((256, 256)).astype(np.float32) * 0.02

    def error(of):
        decoded = of.decode(of.encode(values.reshape(-1, of.values))).reshape(values.shape)
        return np.sqrt(np.mean((decoded - values) ** 2) / np.mean(values**2))

    assert error(kind) < most
    assert most < error(Q4_0)


@pytest.mark.parametrize("top, most", [(15, 1.02), (31, 1.045)], ids=["Q4_K", "Q5_K"])
def test_scales_are_within_some_percent_of_the_best(top, most):
    """Against every scale and minimum up to four steps around those that were found, with the best codes for each."""
    values = np.random.default_rng(4).standard_t(5, (64, 256)).astype(np.float32)
    found = k_search.search_ranged(values, top)
    runs = values.reshape(-1, 8, 32)
    weights = np.abs(runs) + np.sqrt(np.mean(runs**2, axis=-1, keepdims=True))

    def error(scales, least):
        step, offset = (found.unit * scales)[..., None], (found.least_unit * least)[..., None]
        codes = np.rint((runs + offset) / np.where(step == 0, np.inf, step)).clip(0, top)
        return (weights * (step * codes - offset - runs) ** 2).sum(axis=-1)

    own = error(found.scales, found.least)
    best = own
    for more in range(-4, 5):
        for lower in range(-4, 5):
            moved = [(found.scales + float(more)).clip(0, 63), (found.least + float(lower)).clip(0, 63)]
            best = np.minimum(best, error(*moved))
    assert np.sqrt(own.sum() / best.sum()) < most


@pytest.mark.parametrize("kind", K_TYPES, ids=ids)
def test_k_types_of_unusual_rows(kind, weights):
    """No row is worse than a step of its range, and none gives numbers that are not finite."""
    with np.errstate(all="raise", under="ignore"):
        decoded = kind.decode(kind.encode(weights))
    assert np.isfinite(decoded).all()
    spread = np.maximum(weights, 0).max(axis=1) - np.minimum(weights, 0).min(axis=1)
    least = 2.0**-24 * 63 * 31  # the smallest float16, for rows of tiny numbers
    assert (np.abs(decoded - weights).max(axis=1) <= spread / {144: 12, 176: 25, 210: 40}[kind.nbytes] + least).all()
    assert np.abs(decoded[weights.any(axis=1) == 0]).max() == 0
