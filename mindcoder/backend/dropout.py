"""Dropout without hidden state: the mask is a hash of (seed, position)."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.backend.row_operators import FoldBits

# Multipliers and increment of the PCG hash (Jarzynski and Olano, "Hash Functions for GPU Rendering", 2020).
MULTIPLIER, INCREMENT, FINALIZER = 747796405, np.int32(np.uint32(2891336453).view(np.int32)), 277803737
SITE_STRIDE = 0x3C6EF372  # keeps the sites of one network apart; any constant with mixed bits would do


class CounterDropout(nn.Cell):
    """In training, zeroes a share ``rate`` of the elements and scales the rest by ``1 / (1 - rate)``.

    MindSpore's CPU dropout keeps its generator inside the kernel, where no checkpoint can reach it. Here the mask
    depends on the step's seed and the element's index alone, so resuming and recomputing repeat it exactly.

    Args:
        rate: probability of a zero, in [0, 1).
        site: number of this dropout in the network; sites of one step draw different masks.
    """

    def __init__(self, rate: float, site: int) -> None:
        super().__init__(auto_prefix=False)
        self.threshold = Tensor(int(rate * 2**31), ms.int32)
        self.keep_scale = 1.0 / (1.0 - rate)
        self.site_offset = Tensor(np.array(site * SITE_STRIDE & 0xFFFFFFFF, np.uint32).view(np.int32))
        self.multiplier = Tensor(MULTIPLIER, ms.int32)
        self.increment = Tensor(INCREMENT, ms.int32)
        self.finalizer = Tensor(FINALIZER, ms.int32)
        self.fold_first, self.fold_last = FoldBits(15), FoldBits(13)

    def mix(self, value: Tensor) -> Tensor:
        """Hash int32 to a non-negative int32 (the arithmetic shift clears the sign)."""
        value = value * self.multiplier + self.increment
        return self.fold_last(self.fold_first(value) * self.finalizer)

    def mask(self, x: Tensor, seed: Tensor) -> Tensor:
        """Give 0 or ``1 / (1 - rate)`` for every element of ``x``, in its dtype; ``seed`` is an int32 scalar."""
        count = 1
        for size in x.shape:
            count = count * size
        index = ops.arange(0, count, 1, dtype=ms.int32)
        keep = self.mix(index + self.mix(seed + self.site_offset)) >= self.threshold
        return (ops.cast(keep, x.dtype) * self.keep_scale).reshape(x.shape)

    def construct(self, x: Tensor, seed: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * ops.stop_gradient(self.mask(x, seed))
