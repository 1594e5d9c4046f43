"""Cross entropy fused with the product of the language-model head."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindcoder.backend.operators import matrix_product
from mindcoder.backend.row_operators import Cut, LabelGradient

IGNORED_LABEL = -100
LOGITS_PER_CHUNK = 32 * 1024 * 1024  # elements; 128 MiB in float32
SMALLEST_PROBABILITY = 1.2e-38


class LinearCrossEntropy(nn.Cell):
    """Mean cross entropy over the labeled tokens, without ever materializing all logits or their gradient.

    Tokens are processed in chunks. The forward pass of a chunk also computes the gradients of the hidden states and of
    the head weight while its logits are in memory (as in Liger kernel's fused linear cross entropy); the backward pass
    only scales them. The per-token weights are applied on the small ``[Q, H]`` side.

    ``construct(hidden_states [Q, H], weight [V, H], labels [Q] or [B, S])`` returns the mean loss (float32
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
