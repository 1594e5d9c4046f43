"""Generation through pipeline stages: hidden states travel from stage to stage, logits back to all of them."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops

from mindcoder.generate.paged_decoder import PagedDecoder
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.process_groups import ProcessGroups


class StagedDecoder:
    """The same call as the network's with ids on every stage; gives the last stage's logits on all of them.

    Args:
        network: this process's stage with its caches.
        decoder: the stage.
        comm: all processes.
    """

    def __init__(self, network: PagedDecoder, decoder: Decoder, comm: ProcessGroups) -> None:
        self.network, self.decoder = network, decoder
        self.previous, self.following = comm.peer(-1), comm.peer(1)
        self.sum = comm.all_reduce_among(comm.mesh.pipeline_ranks())

    def __call__(
        self,
        input_ids: Tensor,
        mapping: Tensor,
        block_tables: Tensor,
        angles: Tensor,
        logits_indices: Tensor,
        counts: Tensor,
    ) -> Tensor:
        decoder, inputs = self.decoder, input_ids
        if self.previous is not None:
            shape = (input_ids.size, decoder.config.hidden_size)
            inputs = self.previous.exchange(None, shape, decoder.compute_dtype)
        result = self.network(inputs, mapping, block_tables, angles, logits_indices, counts)
        if self.following is not None:
            self.following.send(result)
            # Everybody chooses the same token from the same logits: those of the last stage plus zeros.
            result = ops.zeros((logits_indices.shape[0], decoder.vocab_size), ms.float32)
        return self.sum(result)
