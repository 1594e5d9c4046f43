"""Token and position embeddings."""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.models.initializer import Initializer


class Embedding(nn.Cell):
    """Table lookup; int32 ids of any shape in, ``[ids.size, size]`` out in ``compute_dtype``."""

    def __init__(
        self,
        rows: int,
        size: int,
        initializer: Initializer,
        param_dtype: ms.dtype.Number,
        compute_dtype: ms.dtype.Number,
    ) -> None:
        super().__init__()
        self.weight = Parameter(initializer.normal((rows, size), param_dtype), name="weight")
        self.gather = ops.Gather()
        self.compute_dtype = compute_dtype

    def construct(self, ids: Tensor) -> Tensor:
        return ops.cast(self.gather(self.weight, ids.reshape((-1,)), 0), self.compute_dtype)
