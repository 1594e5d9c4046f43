"""Cross entropy fused with the product of the language-model head."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.backend.operators import matrix_product
from mindcoder.backend.row_operators import AddRows, Cut, LabelGradient, LookUp

IGNORED_LABEL = -100
LOGITS_PER_CHUNK = 32 * 1024 * 1024  # elements; 128 MiB in float32
SMALLEST_PROBABILITY = 1.2e-38


class LinearCrossEntropy(nn.Cell):
    """Mean cross entropy over the labeled tokens, without ever materializing all logits or their gradient.

    Tokens are processed in chunks. The forward pass of a chunk also computes the gradients of the hidden states and of
    the head weight while its logits are in memory (as in Liger kernel's fused linear cross entropy); the backward pass
    only scales them. The per-token weights are applied on the small ``[tokens, H]`` side.

    ``construct(hidden_states [tokens, H], weight [V, H], labels [tokens] or [B, S])`` returns the mean loss (float32
    scalar) and, for ``bprop``, the gradients of hidden states and weight in float32. Tokens labeled `IGNORED_LABEL` do
    not count. The reported loss of a token saturates at 87 (float32's smallest probability); its gradient does not.

    Args:
        scaled: whether the loss is multiplied by anything (a loss scale) before its gradient is taken. False saves
            a pass over the gradient of the head weight; the gradient is then that of the unscaled loss.
        compute_dtype: of the products' factors, see `matrix_product`.
    """

    def __init__(self, scaled: bool, compute_dtype: str = "float32") -> None:
        super().__init__(auto_prefix=False)
        self.scaled = scaled
        self.head = matrix_product(transpose_b=True, compute_dtype=compute_dtype)
        self.product = matrix_product(compute_dtype=compute_dtype)
        self.product_transposed = matrix_product(transpose_a=True, compute_dtype=compute_dtype)
        self.softmax = ops.Softmax(-1)
        self.logits_gradient = LabelGradient()
        self.gather_label = ops.GatherD()
        self.cut = Cut()

    def construct(self, hidden_states: Tensor, weight: Tensor, labels: Tensor) -> tuple:
        labels = labels.reshape((-1,))
        tokens, vocab = hidden_states.shape[0], weight.shape[0]
        chunks = (tokens * vocab + LOGITS_PER_CHUNK - 1) // LOGITS_PER_CHUNK
        size = (tokens + chunks - 1) // chunks
        labeled = ops.cast(labels != IGNORED_LABEL, ms.float32)
        token_weight = labeled / ops.maximum(labeled.sum(), Tensor(1.0, ms.float32))
        targets = ops.maximum(labels, Tensor(0, ms.int32)).reshape((-1, 1))
        losses, grad_hidden = (), ()
        grad_weight = None
        for start in range(0, tokens, size):
            stop = min(start + size, tokens)
            part, target = self.cut(hidden_states, start, stop), self.cut(targets, start, stop).reshape((-1,))
            if grad_weight is not None:
                part = ops.depend(part, grad_weight)  # one chunk at a time
            part_weight = self.cut(token_weight.reshape((-1, 1)), start, stop)
            logits = ops.cast(self.head(part, weight), ms.float32)
            probs = self.softmax(logits)
            label_probs = self.gather_label(probs, 1, target.reshape((-1, 1)))
            losses += (-ops.log(ops.maximum(label_probs, Tensor(SMALLEST_PROBABILITY, ms.float32))).reshape((-1,)),)
            grad_logits = ops.cast(self.logits_gradient(ops.depend(probs, label_probs), target), weight.dtype)
            grad_hidden += (ops.cast(self.product(grad_logits, weight), ms.float32) * part_weight,)
            weighted = ops.cast(ops.cast(part, ms.float32) * part_weight, weight.dtype)
            outer = ops.cast(self.product_transposed(grad_logits, weighted), ms.float32)
            grad_weight = outer if grad_weight is None else grad_weight + outer
        return (ops.concat(losses) * token_weight).sum(), ops.concat(grad_hidden), grad_weight

    def bprop(self, hidden_states, weight, labels, out, dout):
        grad_hidden, grad_weight = out[1], out[2]
        if self.scaled:
            grad_hidden, grad_weight = grad_hidden * dout[0], grad_weight * dout[0]
        return ops.cast(grad_hidden, hidden_states.dtype), ops.cast(grad_weight, weight.dtype), ops.zeros_like(labels)


class GatherTokens(nn.Cell):
    """Gather tokens: ``hidden_states [tokens, H]`` at ``indices [P]`` int32 -> ``[P, H]``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.look_up, self.add_rows = LookUp(), AddRows()

    def construct(self, hidden_states: Tensor, indices: Tensor) -> Tensor:
        return self.look_up(hidden_states, indices)

    def bprop(self, hidden_states, indices, out, dout):
        return self.add_rows(ops.zeros_like(hidden_states), indices, dout), ops.zeros_like(indices)


class SelectedCrossEntropy(nn.Cell):
    """Applies a loss to labeled tokens only; head and softmax are not computed for the others.

    ``construct(hidden_states [tokens, H], weight [V, H], (labels [B, S], label_indices [P]))``; ``label_indices`` are
    those of all labeled tokens, filled up to P with unlabeled ones. Returns what ``loss`` returns.
    """

    def __init__(self, loss: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.loss, self.gather_tokens, self.look_up = loss, GatherTokens(), LookUp()

    def construct(self, hidden_states: Tensor, weight: Tensor, targets: tuple) -> tuple:
        labels, label_indices = targets
        selected = self.look_up(labels.reshape((-1, 1)), label_indices)
        return self.loss(self.gather_tokens(hidden_states, label_indices), weight, selected.reshape((-1,)))


class TokenCrossEntropy(nn.Cell):
    """Per-token cross entropy for evaluation: float32 logits ``[tokens, V]``, labels ``[tokens]`` -> ``[tokens]``."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.log_softmax = ops.LogSoftmax(-1)
        self.gather_label = ops.GatherD()

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = ops.maximum(labels, Tensor(0, ms.int32)).reshape((-1, 1))
        losses = -self.gather_label(self.log_softmax(logits), 1, targets).reshape((-1,))
        return losses * ops.cast(labels != IGNORED_LABEL, ms.float32)
