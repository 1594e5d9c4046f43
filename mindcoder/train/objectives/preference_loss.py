"""Losses on preference pairs: DPO (Rafailov et al. 2023) and SimPO (Meng et al. 2024).

Each row of the batch holds one pair as two documents that do not attend to each other: document 0 is the prompt with
the chosen answer, document 1 the prompt with the rejected answer; only answers have labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.backend.operators import matrix_product
from mindcoder.backend.row_operators import Cut, LabelGradient
from mindcoder.models.loss import IGNORED_LABEL, LOGITS_PER_CHUNK

CHOSEN, REJECTED = 0, 1  # document ids within a row


@dataclass(frozen=True)
class PreferenceOptions:
    """Choice and parameters of the preference loss.

    Attributes:
        kind: ``dpo`` compares with a reference model, ``simpo`` normalizes by the answers' lengths.
        beta: temperature of the implicit reward.
        gamma: SimPO's target reward margin.
        label_smoothing: assumed fraction of pairs whose preference is flipped.
    """

    kind: Literal["dpo", "simpo"] = "dpo"
    beta: float = 0.1
    gamma: float = 0.0
    label_smoothing: float = 0.0


class TokenLogprobs(nn.Cell):
    """Log-probability of each token's label, without ever materializing all logits.

    ``construct(hidden_states [Q, H], weight [V, H], labels [Q])`` returns float32 ``[Q]``, 0 where there
    is not a label. The head multiplies in float32 on CPU: a preference is a small difference of two sums. ``gradients``
    returns the gradients of hidden states and weight, given the gradients ``coefficients [Q]`` of the
    log-probabilities; it recomputes the logits.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.head = matrix_product(transpose_b=True)
        self.product = matrix_product()
        self.product_transposed = matrix_product(transpose_a=True)
        self.softmax, self.log_softmax = ops.Softmax(-1), ops.LogSoftmax(-1)
        self.logits_gradient = LabelGradient()
        self.cut = Cut()
        self.gather_label = ops.GatherD()

    def chunk(self, tokens: int, vocab: int) -> int:
        """Number of tokens whose logits are in memory at once."""
        chunks = (tokens * vocab + LOGITS_PER_CHUNK - 1) // LOGITS_PER_CHUNK
        return (tokens + chunks - 1) // chunks

    def construct(self, hidden_states: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        tokens = hidden_states.shape[0]
        size = self.chunk(tokens, weight.shape[0])
        targets = ops.maximum(labels, Tensor(0, ms.int32)).reshape((-1, 1))
        found = ()
        last = labels
        for start in range(0, tokens, size):
            stop = min(start + size, tokens)
            part = ops.depend(self.cut(hidden_states, start, stop), last)  # one chunk at a time
            logprobs = self.log_softmax(ops.cast(self.head(part, weight), ms.float32))
            last = self.gather_label(logprobs, 1, self.cut(targets, start, stop))
            found += (last.reshape((-1,)),)
        return ops.concat(found) * ops.cast(labels != IGNORED_LABEL, ms.float32)

    def gradients(self, hidden_states: Tensor, weight: Tensor, labels: Tensor, coefficients: Tensor) -> tuple:
        """Gradients of the hidden states and the weight, float32."""
        tokens = hidden_states.shape[0]
        size = self.chunk(tokens, weight.shape[0])
        targets = ops.maximum(labels, Tensor(0, ms.int32)).reshape((-1, 1))
        coefficients = coefficients.reshape((-1, 1))
        grad_hidden, grad_weight = (), None
        for start in range(0, tokens, size):
            stop = min(start + size, tokens)
            part = self.cut(hidden_states, start, stop)
            if grad_weight is not None:
                part = ops.depend(part, grad_weight)
            logits = ops.cast(self.head(part, weight), ms.float32)
            target = self.cut(targets, start, stop).reshape((-1,))
            grad_logits = ops.cast(self.logits_gradient(self.softmax(logits), target), weight.dtype)
            scale = -self.cut(coefficients, start, stop)  # the loss is the negative log-probability
            grad_hidden += (ops.cast(self.product(grad_logits, weight), ms.float32) * scale,)
            weighted = ops.cast(ops.cast(part, ms.float32) * scale, weight.dtype)
            outer = ops.cast(self.product_transposed(grad_logits, weighted), ms.float32)
            grad_weight = outer if grad_weight is None else grad_weight + outer
        return ops.concat(grad_hidden), grad_weight


def sum_by_document(values: Tensor, document_ids: Tensor) -> Tensor:
    """Sums over the chosen and the rejected answer: values ``[B*S]`` and ids ``[B, S]`` -> ``[B, 2]``."""
    values = values.reshape(document_ids.shape)
    ones = ops.ones((document_ids.shape[1], 1), ms.float32)
    sums = ()
    for document in (CHOSEN, REJECTED):
        own = ops.cast(document_ids == document, ms.float32)
        sums += (ops.matmul(values * own, ones),)
    return ops.concat(sums, 1)


class PairLogprobs(nn.Cell):
    """Log-probability of each answer and its number of labeled tokens, both ``[B, 2]``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.token_logprobs = TokenLogprobs()

    def construct(
        self, hidden_states: Tensor, weight: Tensor, labels: Tensor, document_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        flat = labels.reshape((-1,))
        labeled = ops.cast(flat != IGNORED_LABEL, ms.float32)
        logprobs = self.token_logprobs(hidden_states, weight, flat)
        return sum_by_document(logprobs, document_ids), sum_by_document(labeled, document_ids)


class PreferenceLoss(nn.Cell):
    """Mean preference loss over the pairs of a batch.

    ``construct(hidden_states [B*S, H], weight [V, H], (labels [B, S], document_ids [B, S], reference [B, 2]))``;
    ``reference`` holds the reference model's log-probabilities of the answers. Returns the loss and, for ``bprop``, the
    gradients of hidden states and weight in float32, computed here in a second pass over the logits. Rows without
    labels do not count.
    """

    def __init__(self, options: PreferenceOptions, scaled: bool) -> None:
        super().__init__(auto_prefix=False)
        self.options, self.scaled = options, scaled
        self.scores = PairLogprobs()
        self.log_softmax = ops.LogSoftmax(-1)
        self.cut = Cut(1)

    def columns(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Split ``[B, 2]`` into two ``[B, 1]``."""
        return self.cut(pairs, 0, 1), self.cut(pairs, 1, 2)

    def log_sigmoids(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``log(sigmoid(x))`` and ``log(sigmoid(-x))`` of ``[B]``.

        Computed as softmax of (x, 0): with explicit exponential and logarithm the reported loss of a resumed run
        differed in its last bit on CPU, although all gradients were equal.
        """
        column = x.reshape((-1, 1))
        both = self.log_softmax(ops.concat((column, column * 0.0), 1))
        first, second = self.columns(both)
        return first.reshape((-1,)), second.reshape((-1,))

    def construct(self, hidden_states: Tensor, weight: Tensor, targets: tuple) -> tuple:
        labels, document_ids, reference = targets
        sums, counts = self.scores(hidden_states, weight, labels, document_ids)
        exists = ops.cast(self.columns(counts)[1].reshape((-1,)) > 0.0, ms.float32)
        share = exists / ops.maximum(exists.sum(), Tensor(1.0, ms.float32))
        margin, weights = self.margin(sums, counts, reference)
        smoothing = self.options.label_smoothing
        right, wrong = self.log_sigmoids(margin)
        losses = -(1.0 - smoothing) * right - smoothing * wrong
        slope = (smoothing * ops.sigmoid(margin) - (1.0 - smoothing) * ops.sigmoid(-margin)) * share
        of_chosen, of_rejected = self.columns(weights * slope.reshape((-1, 1)))
        chosen = ops.cast(document_ids == CHOSEN, ms.float32) * of_chosen
        rejected = ops.cast(document_ids == REJECTED, ms.float32) * of_rejected
        labeled = ops.cast(labels != IGNORED_LABEL, ms.float32)
        coefficients = ((chosen + rejected) * labeled).reshape((-1,))
        grads = self.scores.token_logprobs.gradients(hidden_states, weight, labels.reshape((-1,)), coefficients)
        return (losses * share).sum(), grads[0], grads[1]

    def margin(self, sums: Tensor, counts: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Argument of the sigmoid ``[B]``, and its derivative with respect to each answer's log-probability ``[B,
        2]``.
        """
        signs = Tensor([[1.0, -1.0]], ms.float32) * self.options.beta
        if self.options.kind == "dpo":
            weights = signs + counts * 0.0
            first, second = self.columns((sums - reference) * weights)
            return (first + second).reshape((-1,)), weights
        weights = signs / ops.maximum(counts, Tensor(1.0, ms.float32))
        first, second = self.columns(sums * weights)
        return (first + second).reshape((-1,)) - self.options.gamma, weights

    def bprop(self, hidden_states, weight, targets, out, dout):
        labels, document_ids, reference = targets
        grad_hidden, grad_weight = out[1], out[2]
        if self.scaled:
            grad_hidden, grad_weight = grad_hidden * dout[0], grad_weight * dout[0]
        zeros = (ops.zeros_like(labels), ops.zeros_like(document_ids), ops.zeros_like(reference))
        return ops.cast(grad_hidden, hidden_states.dtype), ops.cast(grad_weight, weight.dtype), zeros
