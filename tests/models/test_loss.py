"""The fused head and loss against PyTorch, in one chunk and in many."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mindspore import Tensor

from mindcoder.models import loss as loss_module
from mindcoder.models.loss import LinearCrossEntropy


@pytest.mark.parametrize("per_chunk", [10**9, 7 * 53, 53])
def test_loss_and_gradients_equal_pytorch_whatever_the_chunks(per_chunk, rng, monkeypatch):
    monkeypatch.setattr(loss_module, "LOGITS_PER_CHUNK", per_chunk)
    hidden = rng.standard_normal((19, 16)).astype(np.float32)
    weight = rng.standard_normal((53, 16)).astype(np.float32)
    labels = np.where(rng.random(19) < 0.4, -100, rng.integers(0, 53, 19)).astype(np.int32)
    h, w = torch.tensor(hidden, requires_grad=True), torch.tensor(weight, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(h @ w.T, torch.tensor(labels).long(), ignore_index=-100)
    expected.backward()
    value, grad_hidden, grad_weight = LinearCrossEntropy(scaled=False)(Tensor(hidden), Tensor(weight), Tensor(labels))
    assert float(value.asnumpy()) == pytest.approx(expected.item(), abs=1e-5)
    np.testing.assert_allclose(grad_hidden.asnumpy(), h.grad.numpy(), atol=1e-6)
    np.testing.assert_allclose(grad_weight.asnumpy(), w.grad.numpy(), atol=1e-6)


def test_a_batch_without_labels_has_no_loss_and_no_gradient(rng):
    hidden, weight = (Tensor(rng.standard_normal(shape).astype(np.float32)) for shape in ((4, 8), (11, 8)))
    value, grad_hidden, grad_weight = LinearCrossEntropy(scaled=False)(hidden, weight, Tensor([-100] * 4))
    assert float(value.asnumpy()) == 0.0
    assert not grad_hidden.asnumpy().any() and not grad_weight.asnumpy().any()
