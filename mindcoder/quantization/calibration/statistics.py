"""What is kept of a linear layer's inputs on the calibration texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SAMPLED_TOKENS = 256  # whose inputs are kept as they are


@dataclass(frozen=True)
class ChannelRange:
    """Smallest and largest value of each channel, float32 ``[channels]``."""

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class InputStatistics:
    """The inputs of a linear layer over all tokens; layers that read the same inputs share one object.

    Attributes:
        tokens: number of them.
        low, high: smallest and largest value of each channel, float32 ``[in]``.
        mean_abs: mean magnitude of each channel, float32 ``[in]``.
        gram: sum of ``x xᵀ``, float32 ``[in, in]``; twice this is the Hessian of the squared output error.
        sample: inputs of some tokens, float32 ``[rows, in]``.
    """

    tokens: int
    low: np.ndarray
    high: np.ndarray
    mean_abs: np.ndarray
    gram: np.ndarray
    sample: np.ndarray

    @property
    def max_abs(self) -> np.ndarray:
        """Largest magnitude of each channel, float32 ``[in]``."""
        return np.maximum(-self.low, self.high)

    def divided(self, scale: np.ndarray) -> InputStatistics:
        """Of inputs divided by ``scale``, float32 ``[in]``, positive."""
        gram = self.gram / scale
        gram /= scale[:, None]
        return InputStatistics(
            self.tokens, self.low / scale, self.high / scale, self.mean_abs / scale, gram, self.sample / scale
        )

    def energy(self, weight: np.ndarray) -> float:
        """Sum of the squares of ``x Wᵀ`` over all tokens and outputs, for ``[out, in]``."""
        return max(float(np.vdot(weight @ self.gram, weight)), 0.0)

    def output_error(self, weight: np.ndarray, quantized: np.ndarray) -> float:
        """Norm of the change of the outputs divided by theirs; both weights are float32 ``[out, in]``."""
        outputs = self.energy(weight)
        return (self.energy(quantized - weight) / outputs) ** 0.5 if outputs else 0.0


class InputRecord:
    """Adds up `InputStatistics`, one row of tokens at a time.

    Args:
        channels: of the inputs.
        rows: of tokens that will come.
    """

    def __init__(self, channels: int, rows: int) -> None:
        self._low, self._high = np.full(channels, np.inf, np.float32), np.full(channels, -np.inf, np.float32)
        self._sum_abs, self._gram = np.zeros(channels), np.zeros((channels, channels), np.float32)
        self._tokens, self._per_row = 0, -(-SAMPLED_TOKENS // rows)
        self._sample: list[np.ndarray] = []

    def add(self, inputs: np.ndarray) -> None:
        """Add the inputs of a row's tokens, float32 ``[Q, in]``."""
        np.minimum(self._low, inputs.min(0), out=self._low)
        np.maximum(self._high, inputs.max(0), out=self._high)
        self._sum_abs += np.abs(inputs).sum(0, dtype=np.float64)
        self._gram += inputs.T @ inputs
        self._tokens += len(inputs)
        chosen = np.linspace(0, len(inputs) - 1, min(self._per_row, len(inputs))).astype(int)
        self._sample.append(inputs[chosen])

    def statistics(self) -> InputStatistics:
        """Of everything that was added."""
        mean_abs = (self._sum_abs / self._tokens).astype(np.float32)
        return InputStatistics(
            self._tokens, self._low, self._high, mean_abs, self._gram, np.concatenate(self._sample)[:SAMPLED_TOKENS]
        )
