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

    extra_per_row = 0  # ends beside those of the documents

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
        ordinals = self.running_sum(begins.reshape((tokens,)), 0) - 1
        return self.ends(ordinals, ops.ones((tokens, 1), ms.float32))

    def ends(self, ordinals: Tensor, counted: Tensor) -> Tensor:
        """Ends of sequences, of the number of each token's sequence ``[Q]`` and how much it counts ``[Q, 1]``."""
        tokens = ordinals.shape[0]
        room = tokens if self.most is None else min(tokens, self.most)
        lengths = self.add(ops.zeros((room, 1), ms.float32), ordinals, counted)
        ends = self.running_sum(ops.cast(lengths.reshape((room,)), ms.int32), 0)
        return ops.stop_gradient(ops.cast(ends, ms.int64))


class PartDocumentEnds(DocumentEnds):
    """The same for the queries of a part of every row and the keys of all of it: ``[B, S] -> [2, E]``.

    The first row has the ends of the queries, ``B*S/C`` in all, the second those of the keys, ``B*S``. The last query
    and the last key of a sequence are the same token, so that the causal order of sparse mode 3 (lower right corner)
    is that of the row. Keys that no query of this rank sees are sequences without queries: before the document that
    the part begins in, and behind the part.

    Args:
        index, size: this rank's part, and how many there are, C.
    """

    extra_per_row = 2

    def __init__(self, index: int, size: int) -> None:
        super().__init__()
        self.index, self.size = index, size
        self.stack = ops.Concat(0)

    def construct(self, document_ids: Tensor) -> Tensor:
        batch, length = document_ids.shape
        tokens, part = batch * length, length // self.size
        begin, end = self.index * part, (self.index + 1) * part
        columns = ops.arange(0, length, 1, dtype=ms.int32).reshape((1, length))
        own = ops.logical_and(columns >= begin, columns < end)
        own = ops.broadcast_to(own, (batch, length))
        # A sequence begins at a row's first token, at the first behind the part, where a document begins in the part,
        # and where the one begins that the part begins in.
        edges = ops.broadcast_to(ops.logical_or(columns == 0, columns == end), (batch, length))
        first = ops.broadcast_to(self.cut(document_ids, begin, begin + 1), (batch, length))
        seen = ops.logical_or(own, document_ids == first)
        differs = ops.zeros((batch, 1), ms.int32)
        if length > 1:
            changes = self.cut(document_ids, 1, length) != self.cut(document_ids, 0, length - 1)
            differs = self.join((differs, ops.cast(changes, ms.int32)))
        begins = ops.logical_or(edges, ops.logical_and(differs > 0, seen))
        ordinals = self.running_sum(ops.cast(begins, ms.int32).reshape((tokens,)), 0) - 1
        queries = self.ends(ordinals, ops.cast(own, ms.float32).reshape((tokens, 1)))
        keys = self.ends(ordinals, ops.ones((tokens, 1), ms.float32))
        return self.stack((queries.reshape((1, -1)), keys.reshape((1, -1))))


def check_documents(document_ids: np.ndarray, extra_per_row: int = 0) -> None:
    """Whether the device takes so many documents as a batch has, int32 ``[B, S]``.

    Args:
        extra_per_row: see `DocumentEnds`.

    Raises:
        UserError: with the number found.
    """
    if on_cpu():
        return
    found = int(document_ids.shape[0] * (1 + extra_per_row) + (np.diff(document_ids, axis=1) != 0).sum())
    if found > MOST_DOCUMENTS:
        raise UserError(
            f"a batch of {document_ids.shape[0]} rows has {found} documents, and CANN's attention takes "
            f"{MOST_DOCUMENTS}; lower batch_size and raise gradient_accumulation_steps"
        )
