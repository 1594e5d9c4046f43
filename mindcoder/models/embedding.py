"""Token and position embeddings."""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.row_operators import LookUp
from mindcoder.models.initializer import Initializer
from mindcoder.models.tensor_parallel import NO_TP, NoTensorParallel


class Embedding(nn.Cell):
    """Embedding lookup: int32 ids of any shape -> ``[ids.size, size]`` in ``compute_dtype``.

    Args:
        rows, size: shape of the whole table.
        stddev: initial standard deviation; the initializer's own by default.
        axis: 0 if the rows are sharded over ranks (`mindcoder.models.tensor_parallel`); a row held by another rank
            counts as zero.
        tp: this rank's shard of the table.
    """

    def __init__(
        self,
        rows: int,
        size: int,
        initializer: Initializer,
        param_dtype: ms.dtype.Number,
        compute_dtype: ms.dtype.Number,
        axis: int | None = None,
        tp: NoTensorParallel = NO_TP,
        stddev: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = Parameter(initializer.normal((rows, size), param_dtype, stddev, axis), name="weight")
        self.look_up = LookUp()
        self.compute_dtype = compute_dtype
        self.rows, self.first_row = self.weight.shape[0], tp.index * self.weight.shape[0]
        self.reduce_embeddings = tp.reduce_embeddings() if axis is not None else None

    def local_indices(self, ids: Tensor) -> Tensor:
        """Row indices ``[ids.size]`` in this rank's shard, clamped to it; `mask_foreign` masks ids outside it."""
        ids = ids.reshape((-1,))
        if self.reduce_embeddings is None:
            return ids
        return ops.clip(ids - self.first_row, 0, self.rows - 1)

    def mask_foreign(self, ids: Tensor, values: Tensor) -> Tensor:
        """Keep ``values [ids.size, size]`` of ids in this rank's shard, zero the others."""
        if self.reduce_embeddings is None:
            return values
        local = ids.reshape((-1, 1)) - self.first_row
        inside = ops.logical_and(local >= 0, local < self.rows)
        return values * ops.cast(inside, values.dtype)

    def construct(self, ids: Tensor) -> Tensor:
        found = ops.cast(self.look_up(self.weight, self.local_indices(ids)), self.compute_dtype)
        if self.reduce_embeddings is None:
            return found
        return self.reduce_embeddings(self.mask_foreign(ids, found))
