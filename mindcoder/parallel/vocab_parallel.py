"""Cross entropy over a vocabulary sharded by tensor-parallel ranks; logits are never gathered."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.backend.row_operators import AddRows, ArgMax, Cut, LookUp
from mindcoder.models.loss import IGNORED_LABEL, LOGITS_PER_CHUNK, LinearCrossEntropy
from mindcoder.parallel.process_groups import AllGather


class VocabParallelStatistics(nn.Cell):
    """What a token's loss needs from all ranks, in one message: two numbers per token and rank.

    Args:
        gather: all-gather over the tensor-parallel group.
        first_token: id of the first token in this rank's shard.
    """

    def __init__(self, gather: AllGather, first_token: int) -> None:
        super().__init__(auto_prefix=False)
        self.gather, self.first_token = gather, first_token
        self.log_softmax = ops.LogSoftmax(-1)
        self.pick = ops.GatherD()
        self.cut = Cut(1)

    def construct(self, logits: Tensor, targets: Tensor) -> tuple:
        """Of float32 ``[Q, V / ranks]`` and int32 ``[Q]`` at least 0.

        Returns:
            log-probabilities within this shard ``[Q, V / ranks]``; log of this shard's total probability and of
            the target's probability, both ``[Q]``; the target's index in this shard and whether it is here
            (float32), both ``[Q, 1]``.
        """
        tokens, own = logits.shape
        local = targets.reshape((-1, 1)) - self.first_token
        here = ops.cast(ops.logical_and(local >= 0, local < own), ms.float32)
        index = ops.clip(local, 0, own - 1)
        inner = self.log_softmax(logits)
        log_sum = self.cut(logits, 0, 1) - self.cut(inner, 0, 1)  # log of the sum of exponentials, from any column
        log_sum = log_sum.reshape((1, tokens))
        picked = (self.pick(logits, 1, index) * here).reshape((1, tokens))
        both = self.gather(ops.concat((log_sum, picked))).reshape((-1, 2, tokens))
        log_sums = self.cut(both, 0, 1).reshape((-1, tokens))
        target_logit = self.cut(both, 1, 2).reshape((-1, tokens)).sum(0)
        largest = ops.stop_gradient(log_sums.max(0))
        total = largest + ops.log(ops.exp(log_sums - largest.reshape((1, tokens))).sum(0))
        return inner, log_sum.reshape((tokens,)) - total, target_logit - total, index, here


class VocabParallelCrossEntropy(LinearCrossEntropy):
    """`LinearCrossEntropy` where ``weight [V / ranks, H]`` is this rank's shard.

    The same call and results; the gradient of ``hidden_states`` is partial (`CopyToRegion` all-reduces it). The softmax
    within the shard, times one number per token that acts on the small ``[Q, H]`` side, is the whole softmax.
    """

    def __init__(self, statistics: VocabParallelStatistics, scaled: bool) -> None:
        super().__init__(scaled)
        self.statistics = statistics
        self.look_up = LookUp()
        self.add_rows = AddRows()

    def construct(self, hidden_states: Tensor, weight: Tensor, labels: Tensor) -> tuple:
        labels = labels.reshape((-1,))
        tokens, own = hidden_states.shape[0], weight.shape[0]
        chunks = (tokens * own + LOGITS_PER_CHUNK - 1) // LOGITS_PER_CHUNK
        size = (tokens + chunks - 1) // chunks
        labeled = ops.cast(labels != IGNORED_LABEL, ms.float32)
        token_weight = labeled / ops.maximum(labeled.sum(), Tensor(1.0, ms.float32))
        targets = ops.maximum(labels, Tensor(0, ms.int32))
        losses: tuple = ()
        grad_hidden: tuple = ()
        grad_weight = None
        for start in range(0, tokens, size):
            stop = min(start + size, tokens)
            part = self.cut(hidden_states, start, stop)
            if grad_weight is not None:
                part = ops.depend(part, grad_weight)  # one chunk, and one message, at a time
            logits = ops.cast(self.head(part, weight), ms.float32)
            inner, log_share, log_target, index, here = self.statistics(logits, self.cut(targets, start, stop))
            losses += (-log_target,)
            part_weight = self.cut(token_weight, start, stop).reshape((-1, 1))
            share = ops.exp(log_share).reshape((-1, 1)) * part_weight
            target_weight = here * part_weight
            probabilities = ops.cast(ops.exp(inner), weight.dtype)
            expected = ops.cast(self.product(probabilities, weight), ms.float32) * share
            target_vectors = ops.cast(self.look_up(weight, index.reshape((-1,))), ms.float32)
            grad_hidden += (expected - target_vectors * target_weight,)
            wide = ops.cast(part, ms.float32)
            outer = self.product_transposed(probabilities, ops.cast(wide * share, weight.dtype))
            outer = self.add_rows(ops.cast(outer, ms.float32), index.reshape((-1,)), -wide * target_weight)
            grad_weight = outer if grad_weight is None else grad_weight + outer
        return (ops.concat(losses) * token_weight).sum(), ops.concat(grad_hidden), grad_weight


class VocabParallelAccuracy(nn.Cell):
    """Loss and correct predictions per token, for evaluation.

    Args:
        statistics: of all shards.
        gather: all-gather over the tensor-parallel group.
    """

    def __init__(self, statistics: VocabParallelStatistics, gather: AllGather) -> None:
        super().__init__(auto_prefix=False)
        self.statistics, self.gather = statistics, gather
        self.argmax = ArgMax()
        self.pick = ops.GatherD()
        self.cut = Cut(1)

    def construct(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """This rank's logits ``[Q, V / ranks]``, labels ``[Q]`` -> two float32 ``[Q]``."""
        tokens = logits.shape[0]
        _, _, log_target, index, here = self.statistics(logits, ops.maximum(labels, Tensor(0, ms.int32)))
        best = self.argmax(logits).reshape((-1, 1))
        value = self.pick(logits, 1, best).reshape((1, tokens))
        hit = (ops.cast(best == index, ms.float32) * here).reshape((1, tokens))
        both = self.gather(ops.depend(ops.concat((value, hit)), log_target)).reshape((-1, 2, tokens))
        values = self.cut(both, 0, 1).reshape((-1, tokens))
        hits = self.cut(both, 1, 2).reshape((-1, tokens))
        # The target's shard has the largest logit of all, and in it the target is the largest.
        right = (hits * ops.cast(values >= values.max(0).reshape((1, tokens)), ms.float32)).sum(0)
        labeled = ops.cast(labels != IGNORED_LABEL, ms.float32)
        return -log_target * labeled, right * labeled
