"""Chooses scales and codes of the K types: those whose weighted squared error is least, by search.

Any scales make a correct file; these make a small error. Each run of values tries scales around the one that its range
asks for, and solves for the best scale (and minimum) of the codes that each of them gives. The scales are then rounded
to the few bits that the type has for them, and the codes and the two float16 units are fitted once more to what was
rounded; a step that would not lower a block's error is not taken.

A value's weight is its magnitude plus the run's root mean square, as in llama.cpp: large weights of a network matter
more than their share of the plain error, and nothing is known here of the activations.

Inside, runs are columns: arrays are ``[values of a run, runs]``, so that numpy adds up whole rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

RANGED_TRIES = np.linspace(-1.0, 0.6, 13, dtype=np.float32)  # what is added to the number of steps of a range
SYMMETRIC_TRIES = np.linspace(-1.5, 1.5, 13, dtype=np.float32)
REFITS = 2
RANGED_RUN, SYMMETRIC_RUN = 32, 16  # values
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
    fit = _Fit(blocks, RANGED_RUN)
    scale, offset = (fit.in_blocks(found) for found in _fit_ranges(fit, top))
    unit, least_unit = (_half(found.max(axis=1, keepdims=True) / LARGEST_SCALE) for found in (scale, offset))
    best = _coded(fit, unit, least_unit, _rounded(scale, unit), _rounded(offset, least_unit), top)
    for _ in range(REFITS):
        best = _better(best, _refit_scales(fit, best, top))
        best = _better(best, _refit_units(fit, best, top))
    codes = best.codes.astype(np.uint8).T.reshape(len(blocks), -1, RANGED_RUN)
    return Ranged(best.unit, best.least_unit, best.scales.astype(np.uint8), best.least.astype(np.uint8), codes)


def search_symmetric(blocks: np.ndarray) -> Symmetric:
    """Fit runs of 16 with codes from -32 to 31.

    Args:
        blocks: float32 ``[blocks, 256]``.
    """
    fit = _Fit(blocks, SYMMETRIC_RUN)
    scale = fit.in_blocks(_fit_symmetric(fit))
    largest = np.take_along_axis(scale, np.abs(scale).argmax(axis=1, keepdims=True), axis=1)
    best = _coded_symmetric(fit, _half(largest / -128), scale)
    for _ in range(REFITS):
        best = _better(best, _refit_symmetric(fit, best))
    codes = best.codes.astype(np.int8).T.reshape(len(blocks), -1, SYMMETRIC_RUN)
    return Symmetric(best.unit, best.scales.astype(np.int8), codes)


@dataclass(frozen=True)
class _State:
    """A choice so far, all in float32.

    Attributes:
        unit, least_unit: ``[blocks, 1]``.
        scales, least: ``[blocks, runs of a block]``, whole numbers.
        codes: ``[values, runs]``, whole numbers.
        error: weighted squared error ``[blocks]``.
    """

    unit: np.ndarray
    least_unit: np.ndarray
    scales: np.ndarray
    least: np.ndarray
    codes: np.ndarray
    error: np.ndarray


class _Fit:
    """Blocks cut into runs, and scales for their codes by weighted least squares.

    Attributes:
        values, weights, weighted: ``[values, runs]``; the last is the product of the others.
        w, wx, wxx: sums over a run, float64 ``[runs]``.
    """

    def __init__(self, blocks: np.ndarray, run: int) -> None:
        self.count = len(blocks)
        self.values = np.ascontiguousarray(blocks.reshape(-1, run).T)
        square = np.sqrt(np.mean(self.values * self.values, axis=0))
        self.weights = np.abs(self.values) + (square + TINY)
        self.weighted = self.weights * self.values
        self.w, self.wx = (part.sum(axis=0).astype(np.float64) for part in (self.weights, self.weighted))
        self.wxx = self.dot(self.weighted, self.values)

    @staticmethod
    def dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Sums over a run; float64, because their differences matter."""
        return np.einsum("ir,ir->r", first, second).astype(np.float64)

    def in_blocks(self, of_runs: np.ndarray) -> np.ndarray:
        """``[runs]`` as ``[blocks, runs of a block]``."""
        return of_runs.reshape(self.count, -1)

    def per_block(self, of_runs: np.ndarray) -> np.ndarray:
        """Sums over a block, ``[blocks]``."""
        return self.in_blocks(of_runs).sum(axis=1)

    def solve(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scale and base (at most 0) that fit the values best to ``codes``, and the weighted squared error."""
        product = self.weights * codes
        wq, wqq, wqx = product.sum(axis=0).astype(np.float64), self.dot(product, codes), self.dot(self.weighted, codes)
        determinant = self.w * wqq - wq * wq
        scale = _quotient(self.w * wqx - self.wx * wq, determinant)
        base = _quotient(wqq * self.wx - wq * wqx, determinant)
        base = np.where(wqq == 0, self.wx / self.w, base)  # all codes are 0
        positive = base >= 0
        scale = np.where(positive, _quotient(wqx, wqq), scale).clip(0)
        base = np.where(positive, 0.0, base)
        error = self.wxx + scale * (scale * wqq + 2 * (base * wq - wqx)) + base * (base * self.w - 2 * self.wx)
        return scale, base, error

    def error(self, decoded: np.ndarray) -> np.ndarray:
        """Weighted squared error of every block."""
        difference = decoded - self.values
        return self.per_block(self.dot(self.weights * difference, difference))


def _quotient(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """0 where the denominator is."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


def _half(values: np.ndarray) -> np.ndarray:
    """Rounded to float16, within its range."""
    return np.clip(values, -LARGEST_HALF, LARGEST_HALF).astype(np.float16).astype(np.float32)


def _rounded(numbers: np.ndarray, unit: np.ndarray) -> np.ndarray:
    steps = _quotient(numbers.astype(np.float32), np.broadcast_to(unit, numbers.shape))
    return np.rint(steps).clip(0, LARGEST_SCALE)


def _fit_ranges(fit: _Fit, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset (what is subtracted, at least 0) of every run, float64."""
    low = np.minimum(fit.values.min(axis=0), 0)
    span = fit.values.max(axis=0) - low
    steps, above = _quotient(np.ones_like(span), span), fit.values - low
    best_scale, best_base = np.zeros(span.shape), np.zeros(span.shape)
    best_error = np.full(span.shape, np.inf)
    codes = np.empty_like(above)
    for added in RANGED_TRIES:
        np.multiply(above, steps * (np.float32(top) + added), out=codes)
        np.rint(codes, out=codes)
        np.minimum(codes, np.float32(top), out=codes)
        scale, base, error = fit.solve(codes)
        better = error < best_error
        best_scale, best_base = np.where(better, scale, best_scale), np.where(better, base, best_base)
        best_error = np.where(better, error, best_error)
    return best_scale, -best_base


def _coded(
    fit: _Fit, unit: np.ndarray, least_unit: np.ndarray, scales: np.ndarray, least: np.ndarray, top: int
) -> _State:
    """The best codes for given scales."""
    step, offset = (unit * scales).reshape(-1), (least_unit * least).reshape(-1)
    codes = fit.values + offset
    codes *= _quotient(np.ones_like(step), step)
    np.rint(codes, out=codes)
    np.clip(codes, 0, np.float32(top), out=codes)
    return _State(unit, least_unit, scales, least, codes, fit.error(step * codes - offset))


def _refit_scales(fit: _Fit, found: _State, top: int) -> _State:
    """Scales and minimums that fit the present codes, rounded, and new codes for them."""
    scale, base, _ = fit.solve(found.codes)
    scales, least = _rounded(fit.in_blocks(scale), found.unit), _rounded(fit.in_blocks(-base), found.least_unit)
    return _coded(fit, found.unit, found.least_unit, scales, least, top)


def _refit_units(fit: _Fit, found: _State, top: int) -> _State:
    """The two units that fit the present scales and codes, and new codes for them."""
    scales, least = found.scales.reshape(-1).astype(np.float64), found.least.reshape(-1).astype(np.float64)
    product = fit.weights * found.codes
    ss, sl, ll, sx, lx = (
        fit.per_block(total)[:, None]
        for total in (
            scales**2 * fit.dot(product, found.codes),
            scales * least * product.sum(axis=0),
            least**2 * fit.w,
            scales * fit.dot(fit.weighted, found.codes),
            least * fit.wx,
        )
    )
    determinant = ss * ll - sl * sl
    unit = np.where(determinant > 0, _quotient(ll * sx - sl * lx, determinant), _quotient(sx, ss))
    least_unit = np.where(determinant > 0, _quotient(sl * sx - ss * lx, determinant), found.least_unit)
    usable = (unit > 0) & (least_unit >= 0)
    unit = _half(np.where(usable, unit, found.unit))
    least_unit = _half(np.where(usable, least_unit, found.least_unit))
    return _coded(fit, unit, least_unit, found.scales, found.least, top)


def _fit_symmetric(fit: _Fit) -> np.ndarray:
    """Scale of every run, float64; its sign lets the largest value be code -32."""
    largest = np.take_along_axis(fit.values, np.abs(fit.values).argmax(axis=0)[None], axis=0)[0]
    steps = _quotient(np.ones_like(largest), largest)
    best_scale, best_gain = np.zeros(largest.shape), np.zeros(largest.shape)
    codes = np.empty_like(fit.values)
    for added in SYMMETRIC_TRIES:
        np.multiply(fit.values, steps * -(np.float32(CENTER) + added), out=codes)
        np.rint(codes, out=codes)
        np.clip(codes, np.float32(-CENTER), np.float32(CENTER - 1), out=codes)
        wqq, wqx = fit.dot(fit.weights * codes, codes), fit.dot(fit.weighted, codes)
        scale = _quotient(wqx, wqq)
        gain = scale * wqx  # by which the error is less than that of zeros
        better = gain > best_gain
        best_scale, best_gain = np.where(better, scale, best_scale), np.where(better, gain, best_gain)
    return best_scale


def _coded_symmetric(fit: _Fit, unit: np.ndarray, scale: np.ndarray) -> _State:
    """Rounded scales, and the best codes for them."""
    steps = _quotient(scale.astype(np.float32), np.broadcast_to(unit, scale.shape))
    scales = np.rint(steps).clip(-128, 127)
    step = (unit * scales).reshape(-1)
    codes = fit.values * _quotient(np.ones_like(step), step)
    np.rint(codes, out=codes)
    np.clip(codes, np.float32(-CENTER), np.float32(CENTER - 1), out=codes)
    nothing = np.zeros_like(unit)
    return _State(unit, nothing, scales, np.zeros_like(scales), codes, fit.error(step * codes))


def _refit_symmetric(fit: _Fit, found: _State) -> _State:
    """The unit that fits the present scales and codes, and new scales and codes for it."""
    scales = found.scales.reshape(-1).astype(np.float64)
    wqq, wqx = fit.dot(fit.weights * found.codes, found.codes), fit.dot(fit.weighted, found.codes)
    numerator, denominator = (fit.per_block(total)[:, None] for total in (scales * wqx, scales**2 * wqq))
    unit = _half(_quotient(numerator, denominator))
    unit = np.where(unit != 0, unit, found.unit)
    return _coded_symmetric(fit, unit, fit.in_blocks(_quotient(wqx, wqq)))


def _better(kept: _State, tried: _State) -> _State:
    """Of every block the one whose error is less."""
    better = tried.error < kept.error
    of_runs = np.repeat(better, kept.scales.shape[1])
    chosen = {
        name: np.where(better[:, None], getattr(tried, name), getattr(kept, name))
        for name in ("unit", "least_unit", "scales", "least")
    }
    codes = np.where(of_runs, tried.codes, kept.codes)
    return replace(kept, codes=codes, error=np.where(better, tried.error, kept.error), **chosen)
