"""Context parallelism: every rank has its part of the tokens of each row, and attends to all keys before them.

Keys and values are all-gathered in every layer (Llama 3, Grattafiori et al. 2024, section 3.3.2), and their gradients
reduce-scattered. With grouped-query attention they are a small part of a layer's activations. Rank c of C has the
tokens c*S/C to (c+1)*S/C of the S of a row. The documents of packed rows may lie across that cut: the lengths of flash
attention's sequences say where each begins.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.backend.documents import PartDocumentEnds
from mindcoder.backend.row_operators import Cut
from mindcoder.data.loader import Batch
from mindcoder.errors import UserError
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.mesh import Mesh
from mindcoder.parallel.process_groups import ProcessGroups
from mindcoder.parallel.tensor_parallel import GatherFromSequence


def divide_context(decoder: Decoder, comm: ProcessGroups) -> None:
    """Make this rank's decoder attend across the context axis.

    Its ids and labels are `own_tokens`; position and document ids stay those of the whole rows.
    """
    mesh, ranks = comm.mesh, comm.mesh.context_ranks()
    decoder.own_positions = OwnTokens(mesh.context_index, mesh.context)
    decoder.attention_masks.ends = PartDocumentEnds(mesh.context_index, mesh.context)
    region = GatherFromSequence(comm.all_gather_among(ranks), comm.reduce_scatter_among(ranks))
    for layer in decoder.layers:
        layer.attention.gather_context = GatherContext(region, mesh.context)


def own_tokens(batch: Batch, mesh: Mesh) -> Batch:
    """The batch with this rank's part of ids and labels, ``[B, S/C]``; positions and documents are all ``[B, S]``.

    Raises:
        UserError: the rows are not divisible.
    """
    if mesh.context == 1:
        return batch
    length = batch.input_ids.shape[1]
    if length % mesh.context:
        raise UserError(f"a batch of rows of {length} tokens cannot be divided over context_parallel {mesh.context}")
    size = length // mesh.context
    part = slice(mesh.context_index * size, (mesh.context_index + 1) * size)
    ids, labels = (np.ascontiguousarray(values[:, part]) for values in (batch.input_ids, batch.labels))
    return replace(batch, input_ids=ids, labels=labels)


class OwnTokens(nn.Cell):
    """This rank's part of the columns: ``construct(x [B, S]) -> [B, S/C]``."""

    def __init__(self, index: int, size: int) -> None:
        super().__init__(auto_prefix=False)
        self.index, self.size = index, size
        self.cut = Cut(1)

    def construct(self, x: Tensor) -> Tensor:
        part = x.shape[1] // self.size
        return self.cut(x, self.index * part, (self.index + 1) * part)


class GatherContext(nn.Cell):
    """Keys and values of whole rows from those of this rank's tokens, in one message.

    ``construct(key, value, batch)``: ``[B*S/C, K*D]`` each to ``[B*S, K*D]``.

    Args:
        region: all-gather forward, reduce-scatter of the gradient backward.
        size: ranks, C.
    """

    def __init__(self, region: GatherFromSequence, size: int) -> None:
        super().__init__(auto_prefix=False)
        self.region, self.size = region, size
        self.join, self.cut = ops.Concat(1), Cut(1)

    def construct(self, key: Tensor, value: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        width = key.shape[1]
        part = key.shape[0] // batch
        both = self.region(self.join((key, value)))
        if batch > 1:  # from rank by rank to row by row
            both = ops.transpose(both.reshape((self.size, batch, part, 2 * width)), (1, 0, 2, 3))
            both = both.reshape((batch * self.size * part, 2 * width))
        return self.cut(both, 0, width), self.cut(both, width, 2 * width)
