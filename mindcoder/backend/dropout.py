"""Dropout without hidden state: the mask is a hash of (seed, position)."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.ops import auto_generate as aclnn

from mindcoder.backend.native_operator import Output, native_operator
from mindcoder.backend.operator_source import on_cpu
from mindcoder.backend.row_operators import Cut, FoldBits

# Multipliers and increment of the PCG hash (Jarzynski and Olano, "Hash Functions for GPU Rendering", 2020).
MULTIPLIER, INCREMENT, FINALIZER = 747796405, np.int32(np.uint32(2891336453).view(np.int32)), 277803737
SITE_STRIDE = 0x3C6EF372  # keeps the sites of one network apart; any constant with mixed bits would do
BITS_OF_A_PIECE = 128  # flash attention's mask is a whole number of them


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


class AttentionDropBits(nn.Cell):
    """The mask of flash attention's dropout, a bit for each probability ``[B, N, S, T]``, 1 where it is kept.

    ``construct(seed, batch, length, total, dtype) -> uint8 [bytes]``. On CPU the bits are those of `CounterDropout` for
    probabilities ``[B*K, S*G, T]``, on Ascend those of the device's generator (aclnnDropoutGenMaskV2).

    Args:
        rate, site: as `CounterDropout`.
        num_heads, num_kv_heads: N = K * G, and K.
    """

    def __init__(self, rate: float, site: int, num_heads: int, num_kv_heads: int) -> None:
        super().__init__(auto_prefix=False)
        self.rate, self.num_heads, self.num_kv_heads = rate, num_heads, num_kv_heads
        self.counts = on_cpu()
        if self.counts:
            same = CounterDropout(rate, site)
            self.threshold, self.site_offset = same.threshold, same.site_offset
            self.bits = native_operator(
                "CounterBits",
                "sized, sizes, threshold, seed, site_offset",
                {"bits": Output(lambda shapes: [shapes["sized"][1]], ms.uint8)},
            )
            self.nothing = Tensor(np.zeros((0, 1), np.uint8))
        else:
            # Counter-based random numbers: other seeds are other streams, other offsets are the same one further on.
            self.site_offset, self.no_offset = Tensor(site * SITE_STRIDE, ms.int64), Tensor(0, ms.int64)
            self.bits = aclnn.DropoutGenMaskExt()
            self.cut, self.join_keys, self.join_mask = Cut(), ops.Concat(1), ops.Concat(-1)

    def fill_keys(self, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden keys at the end of each sequence, up to a whole number of bytes of the mask, as CANN's kernel needs.

        key, value: ``[B, T, K*D]``; mask ``[B, 1, S, T]``, 1 = hidden.
        """
        missing = 0 if self.counts else -key.shape[1] % 8
        if missing == 0:
            return key, value, mask
        shape = (key.shape[0], missing, key.shape[2])
        key, value = (self.join_keys((x, ops.zeros(shape, x.dtype))) for x in (key, value))
        return key, value, self.join_mask((mask, ops.ones((*mask.shape[:-1], missing), mask.dtype)))

    def construct(self, seed: Tensor, batch: int, length: int, total: int, dtype: ms.dtype.Number) -> Tensor:
        bits = batch * self.num_heads * length * total
        size = (bits + BITS_OF_A_PIECE - 1) // BITS_OF_A_PIECE * BITS_OF_A_PIECE
        if self.counts:
            group = self.num_heads // self.num_kv_heads
            sizes = Tensor((batch, self.num_kv_heads, group, length, total), ms.int64)
            # A Custom's shapes follow from shapes: that of nothing says how many bytes are wanted.
            return self.bits(self.nothing.reshape((0, size // 8)), sizes, self.threshold, seed, self.site_offset)
        # One axis, as CANN documents; MindSpore takes four axes as well.
        drawn = self.bits((size,), self.rate, ops.cast(seed, ms.int64) + self.site_offset, self.no_offset, dtype)
        return self.cut(drawn, 0, bits // 8)
