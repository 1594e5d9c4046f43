"""The C++ operators tell how long they took, which `benchmarks.breakdown` prints."""

from __future__ import annotations

import ctypes

import mindspore as ms
import numpy as np
from mindspore import Tensor

from benchmarks.breakdown import operations, own_operators, parameters
from mindcoder.backend.library import LIBRARY
from mindcoder.backend.operators import matrix_product


def test_calls_are_counted_by_shape_only_while_somebody_asks():
    library = ctypes.CDLL(str(LIBRARY))
    a, b = Tensor(np.ones((40, 24), np.float32)), Tensor(np.ones((56, 24), np.float32))
    product = matrix_product(transpose_b=True)
    product(a, b).asnumpy()
    library.MindCoderTimeOperators(1)
    for _ in range(3):
        product(a, b).asnumpy()
    product(b, a).asnumpy()
    ms.runtime.synchronize()
    found = {name: rest for name, *rest in own_operators(library, 128)}
    library.MindCoderTimeOperators(0)
    product(a, b).asnumpy()
    assert not list(own_operators(library, 128))
    assert found.keys() == {"MatMul 40 x 24 x 56", "MatMul 56 x 24 x 40"}
    calls, seconds, flops, size = found["MatMul 40 x 24 x 56"]
    assert calls == 3 and 0 < seconds < 1 and flops == 2 * 40 * 24 * 56
    # Both factors and the result, a false and a true flag (of two elements), and the number of terms.
    assert size == 4 * (40 * 24 + 56 * 24 + 40 * 56) + 3 + 8


def test_operations_of_attention_are_those_below_the_diagonal():
    given = parameters("float32[256,4,16] float32[256,1,16] float32[256,1,16] uint8[0]")
    assert given[3] == ("uint8", [0])
    assert operations("FlashAttentionScore", given, 128) == 2 * 2 * 2 * 128 * 128 * 64 / 2
    assert operations("FlashAttentionScoreGrad", given, 128) == 2.5 * operations("FlashAttentionScore", given, 128)
    assert operations("GeLU", given, 128) == 0
