"""Loss and accuracy per token, for evaluation; over a whole or a parallel vocabulary."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.backend.operators import matrix_product
from mindcoder.backend.row_operators import ArgMax
from mindcoder.models.decoder import Decoder
from mindcoder.models.loss import IGNORED_LABEL
from mindcoder.parallel.tensor_parallel import TensorParallel
from mindcoder.parallel.vocab_parallel import VocabParallelAccuracy, VocabParallelStatistics


def vocab_parallel_statistics(decoder: Decoder) -> VocabParallelStatistics | None:
    """Softmax statistics of a parallel vocabulary; None if every rank has the whole one."""
    tp = decoder.tp
    if not (isinstance(tp, TensorParallel) and tp.vocabulary):
        return None
    return VocabParallelStatistics(tp.gather, tp.shard_range_of(decoder.config.token_rows)[0])


class TokenCrossEntropy(nn.Cell):
    """Per-token cross entropy for evaluation: float32 logits ``[Q, V]``, labels ``[Q]`` -> ``[Q]``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.log_softmax = ops.LogSoftmax(-1)
        self.gather_label = ops.GatherD()

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = ops.maximum(labels, Tensor(0, ms.int32)).reshape((-1, 1))
        losses = -self.gather_label(self.log_softmax(logits), 1, targets).reshape((-1,))
        return losses * ops.cast(labels != IGNORED_LABEL, ms.float32)


class VocabAccuracy(nn.Cell):
    """Losses and correct predictions ``[Q]`` from logits ``[Q, V]``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.token_loss = TokenCrossEntropy()
        self.argmax = ArgMax()

    def construct(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.token_loss(logits, labels), ops.cast(self.argmax(logits) == labels, ms.float32)


class TokenMetrics(nn.Cell):
    """Sums over one batch: loss, correct predictions, labeled tokens.

    ``construct(hidden_states [Q, H], weight [V, H], labels [B, S])`` returns three float32 scalars.

    Args:
        decoder: the network that the head belongs to, or its last pipeline stage.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(auto_prefix=False)
        statistics = vocab_parallel_statistics(decoder)
        self.measure: nn.Cell = VocabAccuracy()
        if statistics is not None:
            self.measure = VocabParallelAccuracy(statistics, statistics.gather)
        self.head_product = matrix_product(transpose_b=True, compute_dtype=decoder.config.compute_dtype)

    def construct(self, hidden_states: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = ops.cast(self.head_product(hidden_states, weight), ms.float32)
        labels = labels.reshape((-1,))
        losses, right = self.measure(logits, labels)
        count = ops.cast(labels != IGNORED_LABEL, ms.float32)
        return losses.sum(), right.sum(), count.sum()
