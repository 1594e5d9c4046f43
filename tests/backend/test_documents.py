"""Attention to packed documents by their ends: equal to the same with a mask, on CPU."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindcoder.backend import documents
from mindcoder.backend.attention import AttentionMasks, CausalAttention
from mindcoder.backend.documents import DocumentEnds, check_documents
from mindcoder.errors import UserError

SIZES = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
BATCH, LENGTH = 2, 40
PACKED = np.array([[0] * 7 + [1] * 20 + [2] * 13, [0] * 33 + [-1] * 7], np.int32)


class Attend(nn.Cell):
    """Attention in whatever form the masks have."""

    def __init__(self, window: int | None, with_ends: bool) -> None:
        super().__init__()
        self.masks = AttentionMasks(window, dropout=0.0 if with_ends else 0.1)
        self.core = CausalAttention(**SIZES, dropout=0.0, site=0, window=window, compute_dtype=ms.float32)

    def construct(self, query: Tensor, key: Tensor, value: Tensor, document_ids: Tensor) -> Tensor:
        mask = self.masks(document_ids)
        return self.core(query, key, value, mask, Tensor(0, ms.int32), BATCH, LENGTH, LENGTH)


class Weighted(nn.Cell):
    """A loss of it."""

    def __init__(self, attend: Attend, weights: Tensor) -> None:
        super().__init__()
        self.attend, self.weights = attend, weights

    def construct(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return (self.attend(query, key, value, Tensor(PACKED)) * self.weights).sum()


@pytest.mark.parametrize(
    ("document_ids", "ends"),
    [
        (PACKED, [7, 27, 40, 73, 80]),
        (np.zeros((2, 3), np.int32), [3, 6]),
        (np.array([[5, 5, 1, 0]], np.int32), [2, 3, 4]),
        (np.full((1, 4), -1, np.int32), [4]),
        (np.zeros((3, 1), np.int32), [1, 2, 3]),
        (np.arange(4, dtype=np.int32).reshape(1, 4), [1, 2, 3, 4]),
    ],
)
def test_the_ends_are_those_of_runs_of_one_number_in_a_row(document_ids, ends):
    found = DocumentEnds()(Tensor(document_ids))
    assert found.dtype == ms.int64
    assert found.asnumpy().tolist() == ends + [document_ids.size] * (document_ids.size - len(ends))


@pytest.mark.parametrize("window", [None, 5, LENGTH])
def test_results_and_gradients_equal_those_with_a_mask(window):
    random = np.random.default_rng(0)
    query, key, value = (
        Tensor(random.normal(size=(BATCH * LENGTH, heads * SIZES["head_dim"])).astype(np.float32))
        for heads in (4, 2, 2)
    )
    weights = Tensor(random.normal(size=query.shape).astype(np.float32))
    outcomes = []
    for with_ends in (True, False):
        attend = Attend(window, with_ends)
        gradients = ms.grad(Weighted(attend, weights), (0, 1, 2))(query, key, value)
        outcomes.append((attend(query, key, value, Tensor(PACKED)), *gradients))
        assert attend.masks(Tensor(PACKED)).ndim == (1 if with_ends else 4)
    for found, expected in zip(*outcomes):
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-5)


def test_more_documents_than_cann_takes_are_refused(monkeypatch):
    many = np.arange(documents.MOST_DOCUMENTS, dtype=np.int32).reshape(2, -1)
    check_documents(np.tile(many, (2, 1)))  # a CPU takes any number
    monkeypatch.setattr(documents, "on_cpu", lambda: False)
    check_documents(many)
    with pytest.raises(UserError, match="a batch of 4 rows has 4096 documents, and CANN's attention takes 2048"):
        check_documents(np.tile(many, (2, 1)))
