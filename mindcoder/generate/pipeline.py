"""Generation through pipeline stages: rows travel from stage to stage, logits back to all of them."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops

from mindcoder.generate.kv_cache import CachedDecoder
from mindcoder.parallel.collectives import Collectives


class StagedDecoder:
    """The same call as `CachedDecoder` with ids on every stage; gives the last stage's logits on all of them.

    Args:
        network: this process's stage with its caches.
        together: all processes.
    """

    def __init__(self, network: CachedDecoder, together: Collectives) -> None:
        self.network = network
        self.previous, self.following = together.neighbour(-1), together.neighbour(1)
        self.sum = together.sum_over(together.mesh.pipeline_ranks())

    def __call__(self, input_ids: Tensor, positions: Tensor, last: Tensor, longest: Tensor) -> Tensor:
        decoder, inputs = self.network.decoder, input_ids
        if self.previous is not None:
            shape = (input_ids.size, decoder.config.hidden_size)
            inputs = self.previous.exchange(None, shape, decoder.compute_dtype)
        result = self.network(inputs, positions, last, longest)
        if self.following is not None:
            self.following.send(result)
            # Everybody chooses the same token from the same logits: those of the last stage plus zeros.
            result = ops.zeros((input_ids.shape[0], decoder.vocab_size), ms.float32)
        return self.sum(result)
