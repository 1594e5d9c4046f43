"""Causal language model: mean cross entropy of the next token, over the labeled tokens of a step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mindspore import Tensor, nn, ops

from mindcoder.backend.row_operators import AddRows, LookUp
from mindcoder.config.schema import RunConfig
from mindcoder.data.encode import IGNORED_LABEL
from mindcoder.data.loader import Batch, BatchLoader, Loader
from mindcoder.errors import UserError
from mindcoder.models.decoder import Decoder
from mindcoder.models.loss import LinearCrossEntropy
from mindcoder.parallel.mesh import Mesh
from mindcoder.parallel.vocab_parallel import VocabParallelCrossEntropy
from mindcoder.train.objectives.base import Objective
from mindcoder.train.objectives.token_metrics import vocab_parallel_statistics

HEAD_TOKENS_MULTIPLE = 64
WORTH_SELECTING = 0.9  # fraction of labeled tokens above which selecting them does not pay


class CausalLM(Objective):
    """Pretraining and instruction tuning.

    Args:
        head_tokens: number of tokens to compute the head for, by micro batch length; at least the number of labeled
            tokens. None computes it for all tokens.
    """

    def __init__(self, head_tokens: Mapping[int, int] | None = None) -> None:
        self.head_tokens = head_tokens

    @classmethod
    def build(cls, config: RunConfig, loader: Loader, mesh: Mesh) -> CausalLM:
        return cls(head_tokens(loader, config.runner_config.epochs) if mesh.pipeline == mesh.context == 1 else None)

    def weight(self, batch: Batch) -> int:
        return batch.label_count

    def extra_targets(self, batch: Batch) -> tuple[Tensor, ...]:
        """With ``head_tokens`` int32 ``[I]``: indices into the ``B * S`` tokens, all labeled ones first."""
        if self.head_tokens is None:
            return ()
        order = np.argsort(batch.labels.reshape(-1) == IGNORED_LABEL, kind="stable")
        return (Tensor(order[: self.head_tokens[batch.labels.shape[1]]].astype(np.int32)),)

    def loss(self, decoder: Decoder, scaled: bool) -> nn.Cell:
        statistics = vocab_parallel_statistics(decoder)
        if statistics is None:
            cross_entropy: nn.Cell = LinearCrossEntropy(scaled, decoder.config.compute_dtype)
        else:
            cross_entropy = VocabParallelCrossEntropy(statistics, scaled)
        return CausalLMLoss(cross_entropy, self.head_tokens is not None)


OBJECTIVE = CausalLM


class CausalLMLoss(nn.Cell):
    """The loss cell of `CausalLM`; returns what ``cross_entropy`` returns.

    Args:
        cross_entropy: `LinearCrossEntropy`, or its form for a parallel vocabulary.
        selects_labels: compute head and softmax only for the tokens whose indices are the third target.
    """

    def __init__(self, cross_entropy: nn.Cell, selects_labels: bool) -> None:
        super().__init__(auto_prefix=False)
        self.cross_entropy, self.selects_labels = cross_entropy, selects_labels
        self.gather_tokens, self.look_up = GatherTokens(), LookUp()

    def construct(self, hidden_states: Tensor, weight: Tensor, targets: tuple) -> tuple:
        labels = targets[0]
        if self.selects_labels:
            label_indices = targets[2]
            labels = self.look_up(labels.reshape((-1, 1)), label_indices).reshape((-1,))
            hidden_states = self.gather_tokens(hidden_states, label_indices)
        return self.cross_entropy(hidden_states, weight, labels)


class GatherTokens(nn.Cell):
    """Gather tokens: ``hidden_states [Q, H]`` at ``indices [I]`` int32 -> ``[I, H]``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.look_up, self.add_rows = LookUp(), AddRows()

    def construct(self, hidden_states: Tensor, indices: Tensor) -> Tensor:
        return self.look_up(hidden_states, indices)

    def bprop(self, hidden_states, indices, out, dout):
        return self.add_rows(ops.zeros_like(hidden_states), indices, dout), ops.zeros_like(indices)


def head_tokens(loader: Loader, epochs: int) -> dict[int, int] | None:
    """Number of tokens to compute the head for, by batch length: the most labeled tokens of any batch.

    None if that would be most of them, or if it is unknown before the data are read.

    Raises:
        UserError: there is no label at all.
    """
    if not isinstance(loader, BatchLoader):
        return None
    most = loader.most_labels(epochs)
    if not any(most.values()):
        raise UserError("no row has a label: every one is -100", loader.location)
    needed = {
        length: min(-(-count // HEAD_TOKENS_MULTIPLE) * HEAD_TOKENS_MULTIPLE, loader.batch_size * length)
        for length, count in most.items()
    }
    worth = any(count < WORTH_SELECTING * loader.batch_size * length for length, count in needed.items())
    return needed if worth else None
