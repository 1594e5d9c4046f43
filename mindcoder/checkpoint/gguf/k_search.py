"""Chooses scales and codes of the K types: those whose weighted squared error is least, by search.

Any scales make a correct file; these make a small error. Each run of values tries scales around the one that its range
asks for, and solves for the best scale (and minimum) of the codes that each of them gives. The scales are then rounded
to the few bits that the type has for them, and the codes and the two float16 units are fitted once more to what was
rounded; a step that would not lower a block's error is not taken.

A value's weight is its magnitude plus the run's root mean square, as in llama.cpp: large weights of a network matter
more than their share of the plain error, and nothing is known here of the activations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

RANGED_TRIES = np.linspace(-1.0, 0.6, 13, dtype=np.float32)  # what is added to the number of steps of a range
SYMMETRIC_TRIES = np.linspace(-1.5, 1.5, 13, dtype=np.float32)
REFITS = 2
LARGEST_SCALE = 63  # of six bits
CENTER = 32  # of Q6_K's codes
LARGEST_HALF = 65504.0
TINY = np.float32(1e-30)


@dataclass(frozen=True)
class Ranged:
    """Blocks of runs that reach from a minimum: value = unit · scale · code - least_unit · least.

    Attributes:
        unit, least_unit: float32 ``[blocks, 1]``, exact in float16.
        scales, least: uint8 ``[blocks, runs]``, six bits.
        codes: uint8 ``[blocks, runs, values]``.
    """

    unit: np.ndarray
    least_unit: np.ndarray
    scales: np.ndarray
    least: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True)
class Symmetric:
    """Blocks of runs around zero: value = unit · scale · code.

    Attributes:
        unit: float32 ``[blocks, 1]``, exact in float16.
        scales: int8 ``[blocks, runs]``.
        codes: int8 ``[blocks, runs, values]``, from -32 to 31.
    """

    unit: np.ndarray
    scales: np.ndarray
    codes: np.ndarray


def search_ranged(blocks: np.ndarray, top: int) -> Ranged:
    """Fit runs of 32.

    Args:
        blocks: float32 ``[blocks, 256]``.
        top: the largest code.
    """
    values = blocks.reshape(len(blocks), 8, 32)
    weights = _weights(values)
    scale, offset = _fit_ranges(values, weights, top)
    unit, least_unit = (_half(found.max(axis=1, keepdims=True) / LARGEST_SCALE) for found in (scale, offset))
    best = _coded(values, unit, least_unit, _rounded(scale, unit), _rounded(offset, least_unit), top)
    error = _ranged_error(values, weights, best)
    for _ in range(REFITS):
        for step in (_refit_scales, _refit_units):
            tried = step(values, weights, best, top)
            new_error = _ranged_error(values, weights, tried)
            better = new_error < error
            best = _chosen(better, tried, best)
            error = np.where(better, new_error, error)
    return best


def search_symmetric(blocks: np.ndarray) -> Symmetric:
    """Fit runs of 16 with codes from -32 to 31.

    Args:
        blocks: float32 ``[blocks, 256]``.
    """
    values = blocks.reshape(len(blocks), 16, 16)
    weights = _weights(values)
    scale = _fit_symmetric(values, weights)
    largest = np.take_along_axis(scale, np.abs(scale).argmax(axis=1, keepdims=True), axis=1)
    best = _coded_symmetric(values, _half(largest / -128), scale)
    error = _symmetric_error(values, weights, best)
    for _ in range(REFITS):
        tried = _refit_symmetric(values, weights, best)
        new_error = _symmetric_error(values, weights, tried)
        better = new_error < error
        best = _chosen(better, tried, best)
        error = np.where(better, new_error, error)
    return best


def _weights(values: np.ndarray) -> np.ndarray:
    magnitude = np.abs(values)
    return magnitude + np.sqrt(np.mean(values * values, axis=-1, keepdims=True)) + TINY


def _dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sums over a run, in float64 because their differences matter."""
    return np.einsum("bri,bri->br", first, second).astype(np.float64)


def _quotient(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """0 where the denominator is."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


def _half(values: np.ndarray) -> np.ndarray:
    """Rounded to float16, within its range."""
    return np.clip(values, -LARGEST_HALF, LARGEST_HALF).astype(np.float16).astype(np.float32)


def _fit_ranges(values: np.ndarray, weights: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset (what is subtracted, at least 0) of every run, ``[blocks, runs]`` of float64."""
    low = np.minimum(values.min(axis=-1, keepdims=True), 0)
    span = values.max(axis=-1, keepdims=True) - low
    steps = _quotient(np.ones_like(span), span)
    weighted = weights * values
    w, wx, wxx = weights.sum(axis=-1).astype(np.float64), weighted.sum(axis=-1).astype(np.float64), None
    wxx = _dot(weighted, values)
    shape = values.shape[:2]
    best_scale, best_offset = np.zeros(shape), np.zeros(shape)
    best_error = np.full(shape, np.inf)
    for added in RANGED_TRIES:
        codes = np.rint((values - low) * (steps * (np.float32(top) + added)))
        np.clip(codes, 0, top, out=codes)
        scale, base = _solve(codes, weights, weighted, w, wx)
        wq, wqq, wqx = (weights * codes).sum(axis=-1), _dot(weights * codes, codes), _dot(weighted, codes)
        error = wxx - 2 * scale * wqx - 2 * base * wx + scale**2 * wqq + 2 * scale * base * wq + base**2 * w
        better = error < best_error
        best_scale = np.where(better, scale, best_scale)
        best_offset = np.where(better, -base, best_offset)
        best_error = np.where(better, error, best_error)
    return best_scale, best_offset


def _solve(
    codes: np.ndarray, weights: np.ndarray, weighted: np.ndarray, w: np.ndarray, wx: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and base (at most 0) that fit the values best to these codes."""
    product = weights * codes
    wq, wqq, wqx = product.sum(axis=-1).astype(np.float64), _dot(product, codes), _dot(weighted, codes)
    determinant = w * wqq - wq * wq
    scale = _quotient(w * wqx - wx * wq, determinant)
    base = _quotient(wqq * wx - wq * wqx, determinant)
    base = np.where(wqq == 0, wx / w, base)  # all codes are 0
    positive = base >= 0
    return np.where(positive, _quotient(wqx, wqq), scale).clip(0), np.where(positive, 0.0, base)


def _rounded(numbers: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return np.rint(_quotient(numbers.astype(np.float32), np.broadcast_to(unit, numbers.shape))).clip(0, LARGEST_SCALE)


def _coded(
    values: np.ndarray, unit: np.ndarray, least_unit: np.ndarray, scales: np.ndarray, least: np.ndarray, top: int
) -> Ranged:
    """The best codes for given scales."""
    step, offset = (unit * scales)[:, :, None], (least_unit * least)[:, :, None]
    codes = np.rint((values + offset) * _quotient(np.ones_like(step), step)).clip(0, top)
    return Ranged(unit, least_unit, scales.astype(np.uint8), least.astype(np.uint8), codes.astype(np.uint8))


def _ranged_error(values: np.ndarray, weights: np.ndarray, found: Ranged) -> np.ndarray:
    """Weighted squared error of every block."""
    step, offset = found.unit * found.scales, found.least_unit * found.least
    difference = step[:, :, None] * found.codes - offset[:, :, None] - values
    return np.einsum("bri,bri,bri->b", weights, difference, difference)


def _refit_scales(values: np.ndarray, weights: np.ndarray, found: Ranged, top: int) -> Ranged:
    """Scales and minimums that fit the present codes, rounded, and new codes for them."""
    codes = found.codes.astype(np.float32)
    weighted = weights * values
    w, wx = weights.sum(axis=-1).astype(np.float64), weighted.sum(axis=-1).astype(np.float64)
    scale, base = _solve(codes, weights, weighted, w, wx)
    scales, least = _rounded(scale, found.unit), _rounded(-base, found.least_unit)
    return _coded(values, found.unit, found.least_unit, scales, least, top)


def _refit_units(values: np.ndarray, weights: np.ndarray, found: Ranged, top: int) -> Ranged:
    """The two units that fit the present scales and codes, and new codes for them."""
    steps = found.scales[:, :, None].astype(np.float32) * found.codes
    least = np.broadcast_to(found.least[:, :, None].astype(np.float32), steps.shape)
    weighted = weights * values

    def total(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.einsum("bri,bri->b", first, second).astype(np.float64)[:, None]

    ss, sl, ll = total(weights * steps, steps), total(weights * steps, least), total(weights * least, least)
    sx, lx = total(weighted, steps), total(weighted, least)
    determinant = ss * ll - sl * sl
    unit = np.where(determinant > 0, _quotient(ll * sx - sl * lx, determinant), _quotient(sx, ss))
    least_unit = np.where(determinant > 0, _quotient(sl * sx - ss * lx, determinant), found.least_unit)
    usable = (unit > 0) & (least_unit >= 0)
    unit = _half(np.where(usable, unit, found.unit))
    least_unit = _half(np.where(usable, least_unit, found.least_unit))
    return _coded(values, unit, least_unit, found.scales, found.least, top)


def _fit_symmetric(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Scale of every run, ``[blocks, runs]`` of float64; its sign lets the largest value be code -32."""
    largest = np.take_along_axis(values, np.abs(values).argmax(axis=-1, keepdims=True), axis=-1)
    steps = _quotient(np.ones_like(largest), largest)
    weighted = weights * values
    best_scale, best_gain = np.zeros(values.shape[:2]), np.zeros(values.shape[:2])
    for added in SYMMETRIC_TRIES:
        codes = np.rint(values * (steps * -(np.float32(CENTER) + added)))
        np.clip(codes, -CENTER, CENTER - 1, out=codes)
        wqq, wqx = _dot(weights * codes, codes), _dot(weighted, codes)
        scale = _quotient(wqx, wqq)
        gain = scale * wqx  # by which the error is less than that of zeros
        better = gain > best_gain
        best_scale, best_gain = np.where(better, scale, best_scale), np.where(better, gain, best_gain)
    return best_scale


def _coded_symmetric(values: np.ndarray, unit: np.ndarray, scale: np.ndarray) -> Symmetric:
    """Rounded scales, and the best codes for them."""
    scales = np.rint(_quotient(scale.astype(np.float32), np.broadcast_to(unit, scale.shape))).clip(-128, 127)
    step = (unit * scales)[:, :, None].astype(np.float32)
    codes = np.rint(values * _quotient(np.ones_like(step), step)).clip(-CENTER, CENTER - 1)
    return Symmetric(unit, scales.astype(np.int8), codes.astype(np.int8))


def _symmetric_error(values: np.ndarray, weights: np.ndarray, found: Symmetric) -> np.ndarray:
    difference = (found.unit * found.scales)[:, :, None] * found.codes - values
    return np.einsum("bri,bri,bri->b", weights, difference, difference)


def _refit_symmetric(values: np.ndarray, weights: np.ndarray, found: Symmetric) -> Symmetric:
    """The unit that fits the present scales and codes, and new scales and codes for it."""
    steps = found.scales[:, :, None].astype(np.float32) * found.codes
    numerator = np.einsum("bri,bri,bri->b", weights, steps, values)[:, None]
    unit = _half(_quotient(numerator, np.einsum("bri,bri,bri->b", weights, steps, steps)[:, None]))
    unit = np.where(unit != 0, unit, found.unit)
    codes = found.codes.astype(np.float32)
    scale = _quotient(_dot(weights * values, codes), _dot(weights * codes, codes))
    return _coded_symmetric(values, unit, scale)


def _chosen(better: np.ndarray, tried: Ranged | Symmetric, kept: Ranged | Symmetric) -> Ranged | Symmetric:
    """Of every block the one that is better."""
    fields = {}
    for name, new in vars(tried).items():
        which = better.reshape(-1, *(1,) * (new.ndim - 1))
        fields[name] = np.where(which, new, getattr(kept, name))
    return replace(kept, **fields)
