"""Flash attention of `mindcoder/native`: MindSpore's operators of these names on CPU, with the same arguments."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.backend.native_operator import Output, absent, integer, like, native_operator, number

LAYOUTS = {"BSH": 0, "TND": 4}  # MindSpore's FASInputLayoutMode
STATISTICS = 8  # numbers that stand for a row's maximum or sum
UNUSED = Output(lambda shapes: [1], "query")


def statistics_shape(shapes: dict[str, list[int]]) -> list[int]:
    """``[B, N, S, 8]`` of BSH, whose heads the absent shift tells, ``[Q, N, 8]`` of TND."""
    query, shift = shapes["query"], shapes["real_shift"]
    return [query[0], *shift[1:], query[1], STATISTICS]


class FlashAttentionScore(nn.Cell):
    """``construct(query, key, value, None, drop, None, mask, None, query_ends, key_ends) -> (max, sum, _, out)``.

    Args:
        as MindSpore's: heads, share kept of the probabilities, scale, tokens before and after, precision, layout (BSH,
        or TND with ends), sparse mode.
    """

    def __init__(
        self, heads: int, keep: float, scale: float, before: int, after: int, precise: int, layout: str, mode: int
    ) -> None:
        super().__init__(auto_prefix=False)
        options = {
            "head_num": integer(heads),
            "keep_prob": number(keep),
            "scale_value": number(scale),
            "pre_tokens": integer(before),
            "next_tokens": integer(after),
            "inner_precise": integer(precise),
            "input_layout": integer(LAYOUTS[layout]),
            "sparse_mode": integer(mode),
        }
        names, self.options = ", ".join(options), tuple(options.values())
        self.absent = absent()
        # Says to what infers shapes the number of heads of BSH.
        self.no_shift = Tensor(np.zeros((0, heads) if layout == "BSH" else 0, np.uint8))
        statistics = Output(statistics_shape, ms.float32)
        self.forward = native_operator(
            "FlashAttentionScore",
            "query, key, value, real_shift, drop_mask, padding_mask, attn_mask, prefix, actual_seq_qlen, "
            f"actual_seq_kvlen, {names}",
            {
                "softmax_max": statistics,
                "softmax_sum": statistics,
                "softmax_out": UNUSED,
                "attention_out": like("query"),
            },
        )
        self.backward = native_operator(
            "FlashAttentionScoreGrad",
            "query, key, value, dy, pse_shift, drop_mask, padding_mask, attn_mask, softmax_max, softmax_sum, "
            f"softmax_in, attention_in, prefix, actual_seq_qlen, actual_seq_kvlen, {names}",
            {"dquery": like("query"), "dkey": like("key"), "dvalue": like("value"), "dpse": UNUSED},
        )

    def construct(
        self, query: Tensor, key: Tensor, value: Tensor, shift, drop, padding, mask, prefix, query_ends, key_ends
    ) -> tuple:
        none = self.absent
        drop = none if drop is None else drop
        query_ends, key_ends = (none, none) if query_ends is None else (query_ends, key_ends)
        return self.forward(
            *(query, key, value, self.no_shift, drop, none, mask, none, query_ends, key_ends), *self.options
        )

    def bprop(self, query, key, value, shift, drop, padding, mask, prefix, query_ends, key_ends, out, dout):
        none = self.absent
        dropped = none if drop is None else drop
        ends = (none, none) if query_ends is None else (query_ends, key_ends)
        grads = self.backward(
            *(query, key, value, dout[3], none, dropped, none, mask, out[0], out[1], out[2], out[3]),
            *(none, *ends),
            *self.options,
        )
        no_drop = drop if drop is None else ops.zeros_like(drop)
        no_ends = query_ends if query_ends is None else ops.zeros_like(query_ends)
        return grads[0], grads[1], grads[2], shift, no_drop, padding, ops.zeros_like(mask), prefix, no_ends, no_ends


class IncreFlashAttention(nn.Cell):
    """``construct(query [B, 1, N*D], (keys,), (values,), mask, lengths [B], None, ..., tables [B, M]) -> [B, 1, N*D]``.

    Attention of one token a sequence to a cache ``[blocks * block_size, K*D]``, layout BSH.
    """

    def __init__(
        self, heads: int, layout: str, scale: float, kv_heads: int, block_size: int, inner_precise: int
    ) -> None:
        super().__init__(auto_prefix=False)
        assert layout == "BSH"
        self.absent = absent()
        options = {
            "num_heads": integer(heads),
            "input_layout": integer(LAYOUTS[layout]),
            "scale_value": number(scale),
            "num_key_value_heads": integer(kv_heads),
            "block_size": integer(block_size),
            "inner_precise": integer(inner_precise),
        }
        self.options = tuple(options.values())
        self.forward = native_operator(
            "IncreFlashAttention",
            "query, key, value, attn_mask, actual_seq_lengths, pse_shift, dequant_scale1, quant_scale1, "
            "dequant_scale2, quant_scale2, quant_offset2, antiquant_scale, antiquant_offset, block_table, "
            f"kv_padding_size, {', '.join(options)}",
            {"attention_out": like("query")},
        )

    def construct(
        self, query, keys, values, mask, lengths, shift, scale_1, scale_2, scale_3, scale_4, offset, antiquant_scale,
        antiquant_offset, tables,
    ) -> Tensor:  # fmt: skip
        none = self.absent
        seen = none if mask is None else mask
        return self.forward(
            *(query, keys[0], values[0], seen, lengths, none, none, none, none, none, none, none, none, tables, none),
            *self.options,
        )
