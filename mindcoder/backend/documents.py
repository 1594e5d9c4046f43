"""Where the documents of packed rows end, for flash attention to one document after the other."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.backend.operator_source import on_cpu, operator
from mindcoder.backend.row_operators import AddRows, Cut
from mindcoder.errors import UserError

MOST_DOCUMENTS = 2048  # ends that aclnnFlashAttentionVarLenScore takes (CANN's page)


class DocumentEnds(nn.Cell):
    """``construct(document_ids [B, S] int32) -> [E] int64``: ends of all documents, counted in tokens of all rows.

    The tokens of a document lie side by side. E is the same for every batch, B*S or `MOST_DOCUMENTS`; the last ends
    are B*S, so that empty documents are left over.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.running_sum, self.add, self.join = operator("CumsumExt"), AddRows(), ops.Concat(1)
        self.cut = Cut(1)
        self.most = None if on_cpu() else MOST_DOCUMENTS

    def construct(self, document_ids: Tensor) -> Tensor:
        batch, length = document_ids.shape
        tokens = batch * length
        begins = ops.ones((batch, 1), ms.int32)
        if length > 1:
            differs = self.cut(document_ids, 1, length) != self.cut(document_ids, 0, length - 1)
            begins = self.join((begins, ops.cast(differs, ms.int32)))
        begins = begins.reshape((tokens,))
        ordinals = self.running_sum(begins, 0) - 1
        room = tokens if self.most is None else min(tokens, self.most)
        lengths = self.add(ops.zeros((room, 1), ms.float32), ordinals, ops.ones((tokens, 1), ms.float32))
        ends = self.running_sum(ops.cast(lengths.reshape((room,)), ms.int32), 0)
        return ops.stop_gradient(ops.cast(ends, ms.int64))


def check_documents(document_ids: np.ndarray) -> None:
    """Whether the device takes so many documents as a batch has, int32 ``[B, S]``.

    Raises:
        UserError: with the number found.
    """
    if on_cpu():
        return
    found = int(document_ids.shape[0] + (np.diff(document_ids, axis=1) != 0).sum())
    if found > MOST_DOCUMENTS:
        raise UserError(
            f"a batch of {document_ids.shape[0]} rows has {found} documents, and CANN's attention takes "
            f"{MOST_DOCUMENTS}; lower batch_size and raise gradient_accumulation_steps"
        )
