"""Cross entropy over a parallel vocabulary against PyTorch, shard by shard in one process."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import Tensor, nn

from mindcoder.models.tensor_parallel import shard_range
from mindcoder.parallel.vocab_parallel import VocabParallelAccuracy, VocabParallelCrossEntropy, VocabParallelStatistics

pytestmark = pytest.mark.long

ROWS, HIDDEN = 24, 16


class OthersKnown(nn.Cell):
    """Stands for the gather: what all ranks would send, worked out by numpy."""

    def __init__(self, joined: np.ndarray) -> None:
        super().__init__(auto_prefix=False)
        self.joined = Tensor(joined.astype(np.float32))

    def construct(self, own: Tensor) -> Tensor:
        return self.joined


def shards_of(weight: np.ndarray, size: int) -> list[tuple[int, np.ndarray]]:
    bounds = [shard_range(len(weight), index, size) for index in range(size)]
    return [(begin, weight[begin:end]) for begin, end in bounds]


@pytest.mark.parametrize("size", [2, 4, 8])
def test_loss_and_gradients_of_49153_tokens_equal_pytorch(size, rng):
    vocab = 49153
    hidden, weight = rng.normal(size=(ROWS, HIDDEN)), rng.normal(size=(vocab, HIDDEN))
    labels = rng.integers(0, vocab, ROWS)
    labels[:3] = [0, vocab - 1, -100]
    best = (hidden @ weight.T).argmax(1)
    labels[5] = best[5]  # one right prediction
    rows, table = (torch.tensor(item, dtype=torch.float64, requires_grad=True) for item in (hidden, weight))
    loss = torch.nn.functional.cross_entropy(rows @ table.T, torch.tensor(labels), ignore_index=-100)
    loss.backward()

    def sent(begin: int, part: np.ndarray, goals: np.ndarray) -> np.ndarray:
        own = hidden @ part.T
        largest = own.max(1)
        log_sum = largest + np.log(np.exp(own - largest[:, None]).sum(1))
        places = np.maximum(goals, 0) - begin
        here = (places >= 0) & (places < len(part))
        picked = np.where(here, own[np.arange(ROWS), np.clip(places, 0, len(part) - 1)], 0.0)
        return np.stack([log_sum, picked])

    parts = shards_of(weight, size)
    joined = np.concatenate([sent(begin, part, labels) for begin, part in parts])
    grad_hidden, grad_weights, rights = np.zeros((ROWS, HIDDEN)), [], []
    tops = np.concatenate(
        [
            np.stack([(hidden @ part.T).max(1), (hidden @ part.T).argmax(1) + begin == np.maximum(labels, 0)])
            for begin, part in parts
        ]
    )
    for begin, part in parts:
        statistics = VocabParallelStatistics(OthersKnown(joined), begin)
        inputs = (Tensor(hidden, ms.float32), Tensor(part, ms.float32), Tensor(labels, ms.int32))
        found, of_hidden, of_weight = VocabParallelCrossEntropy(statistics, scaled=False)(*inputs)
        assert float(found.asnumpy()) == pytest.approx(float(loss.detach()), rel=1e-5)
        grad_hidden += of_hidden.asnumpy()
        grad_weights.append(of_weight.asnumpy())
        own_logits = Tensor(hidden @ part.T, ms.float32)
        _, right = VocabParallelAccuracy(statistics, OthersKnown(tops))(own_logits, inputs[2])
        rights.append(right.asnumpy())
    np.testing.assert_allclose(grad_hidden, rows.grad.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.concatenate(grad_weights), table.grad.numpy(), atol=1e-5)
    for right in rights:
        np.testing.assert_array_equal(right, (best == labels).astype(np.float32))
    assert rights[0].sum() >= 1
