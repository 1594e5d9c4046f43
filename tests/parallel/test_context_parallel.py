"""Context parallelism: parts of rows against whole rows, and whole runs against one process."""

from __future__ import annotations

import csv

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindcoder.backend.attention import AttentionMasks, CausalAttention
from mindcoder.backend.documents import PartDocumentEnds
from mindcoder.config.layout import check_layout, layout_of
from mindcoder.config.load import load_config
from mindcoder.data.loader import Batch
from mindcoder.errors import UserError
from mindcoder.parallel.context_parallel import own_tokens
from mindcoder.parallel.mesh import Mesh
from mindcoder.parallel_layout import ParallelLayout
from parallel.test_data_parallel import arguments, assert_same_run, dataset, run_cluster, run_single  # noqa: F401

HEADS, KV_HEADS, SIZE = 4, 2, 8
LENGTH = 48


def documents_of(rng, rows: int) -> np.ndarray:
    """Packed rows: a document over three parts, documents that begin with a part, some of one token."""
    ids = np.zeros((rows, LENGTH), np.int32)
    ids[0] = np.repeat([0, 1, 2, 3, 4, 5], [5, 7, 30, 1, 1, 4])
    if rows > 1:
        ids[1] = np.repeat([0, 1, 2], [12, 12, 24])
    for row in range(2, rows):
        ids[row] = np.cumsum(rng.random(LENGTH) < 0.15)
    return ids


class Attention(nn.Cell):
    """A weighted sum of attention's output, so that its gradients are not alike."""

    def __init__(self, masks: nn.Cell, batch: int, window: int | None) -> None:
        super().__init__()
        self.masks, self.batch = masks, batch
        self.core = CausalAttention(HEADS, KV_HEADS, SIZE, 0.0, 0, ms.float32, window)

    def construct(self, query: Tensor, key: Tensor, value: Tensor, documents: Tensor, weight: Tensor) -> tuple:
        length, total = query.shape[0] // self.batch, key.shape[0] // self.batch
        mask, seed = self.masks(documents), Tensor(0, ms.int32)
        output = self.core(query, key, value, mask, seed, self.batch, length, total)
        return (output * weight).sum(), output


def gradients(cell: Attention, *inputs: Tensor) -> tuple:
    (_, output), grads = ms.value_and_grad(cell, (0, 1, 2), None, has_aux=True)(*inputs)
    return output.asnumpy(), [grad.asnumpy() for grad in grads]


@pytest.mark.parametrize(
    "parts, rows, window",
    [(4, 3, None), pytest.param(3, 1, None, marks=pytest.mark.long), pytest.param(4, 2, 6, marks=pytest.mark.long)],
)
def test_the_parts_of_packed_rows_attend_as_the_whole_does(parts, rows, window, rng):
    """Outputs of each part, gradients of its queries, and the sum of all parts' gradients of keys and values."""
    documents = documents_of(rng, rows)
    query, key, value, weight = (
        rng.standard_normal((rows, LENGTH, heads * SIZE)).astype(np.float32)
        for heads in (HEADS, KV_HEADS, KV_HEADS, HEADS)
    )

    def flat(x: np.ndarray) -> Tensor:
        return Tensor(np.ascontiguousarray(x.reshape(-1, x.shape[-1])))

    whole = Attention(AttentionMasks(window, 0.0), rows, window)
    expected, (query_grad, *others) = gradients(
        whole, flat(query), flat(key), flat(value), Tensor(documents), flat(weight)
    )
    expected, query_grad = (x.reshape(rows, LENGTH, -1) for x in (expected, query_grad))
    summed = [np.zeros_like(x) for x in others]
    for index in range(parts):
        own = slice(index * LENGTH // parts, (index + 1) * LENGTH // parts)
        masks = AttentionMasks(window, 0.0)
        masks.ends = PartDocumentEnds(index, parts)
        cell = Attention(masks, rows, window)
        found, (own_grad, *grads) = gradients(
            cell, flat(query[:, own]), flat(key), flat(value), Tensor(documents), flat(weight[:, own])
        )
        np.testing.assert_allclose(found.reshape(rows, -1, HEADS * SIZE), expected[:, own], atol=1e-6)
        np.testing.assert_allclose(own_grad.reshape(rows, -1, HEADS * SIZE), query_grad[:, own], atol=1e-5)
        summed = [before + grad for before, grad in zip(summed, grads)]
    for found, grad in zip(summed, others):
        np.testing.assert_allclose(found, grad, atol=1e-5)


def test_the_ends_of_a_part():
    """Row 0 1 1 1 2 2 of which the third rank has the last two of each three tokens, checked by hand."""
    documents = Tensor(np.array([[0, 1, 1, 1, 2, 2]], np.int32))
    found = [PartDocumentEnds(index, 3)(documents).asnumpy().tolist() for index in range(3)]
    # first part: document 0, the beginning of 1; what follows has no query
    assert found[0] == [[1, 2, 2, 2, 2, 2], [1, 2, 6, 6, 6, 6]]
    # second: document 0 has no query; three keys of document 1 for two queries; the rest
    assert found[1] == [[0, 2, 2, 2, 2, 2], [1, 4, 6, 6, 6, 6]]
    assert found[2] == [[0, 2, 2, 2, 2, 2], [4, 6, 6, 6, 6, 6]]


def test_a_rank_has_its_part_of_ids_and_labels():
    ids = np.arange(16, dtype=np.int32).reshape(2, 8)
    batch = Batch(ids, ids + 100, ids, ids)
    for rank in range(4):
        mesh = Mesh(ParallelLayout(context=2, tensor=2), rank)
        own = own_tokens(batch, mesh)
        assert own.input_ids.tolist() == ids[:, rank // 2 * 4 : rank // 2 * 4 + 4].tolist()
        assert (own.labels == own.input_ids + 100).all() and own.position_ids is ids and own.document_ids is ids
    assert own_tokens(batch, Mesh()) is batch
    with pytest.raises(UserError, match="rows of 8 tokens cannot be divided over context_parallel 3"):
        own_tokens(batch, Mesh(ParallelLayout(context=3)))


def test_every_rank_has_a_place_on_the_mesh():
    """Tensor is the fastest axis, then context, data, pipeline."""
    layout = ParallelLayout(data=2, tensor=2, pipeline=2, context=2)
    assert (layout.devices, layout.devices_per_replica, layout.copies) == (16, 8, 4)
    assert layout.sizes == "data 2 x tensor 2 x pipeline 2 x context 2"
    for rank in range(16):
        mesh = Mesh(layout, rank)
        assert mesh.rank_at(mesh.stage, mesh.data_index, mesh.tensor_index, mesh.context_index) == rank
        for ranks in (mesh.context_ranks(), mesh.gradient_ranks(), mesh.data_ranks(), mesh.tensor_ranks()):
            assert rank in ranks and list(ranks) == sorted(ranks)
    mesh = Mesh(layout, 7)
    assert mesh.tensor_ranks() == (6, 7) and mesh.context_ranks() == (5, 7) and mesh.data_ranks() == (3, 7)
    assert mesh.gradient_ranks() == (1, 3, 5, 7) and mesh.pipeline_ranks() == (7, 15)


@pytest.mark.parametrize(
    "sets, expected",
    [
        ({"model.model_config.seq_length": 511}, "seq_length 511 is not divisible by 2"),
        ({"model.model_config.attention_dropout_rate": 0.1}, "expected 1 with attention dropout (0.1)"),
        ({"run_mode": "predict"}, "sequences are divided in training and evaluation only"),
        ({"train_dataset.data_loader.length_buckets": "[64,65]"}, "length_buckets 65 is not divisible by 2"),
        ({"model.model_config.pet_config": "{pet_type: ptuning2}"}, "a prefix (ptuning2) is for whole sequences"),
        ({"preference": "{type: dpo}"}, "pairs (preference) are compared as whole sequences"),
    ],
    ids=lambda item: item if isinstance(item, str) else next(iter(item)),
)
def test_what_needs_whole_sequences_is_refused_by_name(sets, expected):
    sets = {"parallel_config.context_parallel": 2, **sets}
    config, source = load_config("wizardcoder/tiny_finetune", [f"{key}={value}" for key, value in sets.items()])
    with pytest.raises(UserError) as error:
        check_layout(config, source, layout_of(config).devices)
    assert "parallel_config.context_parallel" in str(error.value) and expected in str(error.value)


def evaluations(output) -> list[float]:
    with open(output / "curves" / "eval.csv") as stream:
        return [float(row[name]) for row in csv.DictReader(stream) for name in ("loss", "accuracy", "tokens")]


# Layouts of data, tensor, pipeline and context, and the options beside them; in two processes and more.
CLUSTERS = [
    pytest.param("llama", {"context_parallel": 2}, {}, id="llama cp2"),
    pytest.param(
        "wizardcoder",
        {"context_parallel": 4},
        {"recompute_config.recompute": True},
        id="cp4 recompute",
        marks=pytest.mark.cluster,
    ),
    pytest.param(
        "starcoder2",
        {"context_parallel": 2, "data_parallel": 2},
        {"parallel_config.optimizer_shard": True, "model.model_config.sliding_window": 40},
        id="starcoder2 window cp2 dp2 zero",
    ),
    pytest.param(
        "llama",
        {"context_parallel": 2, "model_parallel": 2},
        {
            "parallel_config.use_seq_parallel": True,
            "parallel_config.vocab_emb_dp": False,
            "recompute_config.recompute": True,
        },
        id="llama cp2 tp2 all on",
        marks=pytest.mark.cluster,
    ),
    pytest.param("llama", {"context_parallel": 2, "pipeline_stage": 2}, {}, id="cp2 pp2", marks=pytest.mark.cluster),
]


@pytest.mark.long
@pytest.mark.parametrize("model, mesh, more", CLUSTERS)
def test_a_run_follows_one_process(model, mesh, more, dataset, tmp_path):  # noqa: F811
    """Losses and weights of 20 updates of packed rows, four of which make an update, and an evaluation."""
    evaluated = ["--eval_dataset", str(dataset)]
    more = {**more, "do_eval": True}
    window = {key: value for key, value in more.items() if key.endswith("sliding_window")}
    rows, ranks = 4 // mesh.get("data_parallel", 1), int(np.prod(list(mesh.values())))
    layout = {f"parallel_config.{name}": size for name, size in {"data_parallel": 1, **mesh}.items()}
    if "pipeline_stage" in mesh:
        rows, layout["parallel_config.micro_batch_num"] = rows // 2, 2
    done = run_cluster(dataset, tmp_path / "run", rows, ranks, *evaluated, model=model, **layout, **more)
    assert "nan" not in done.stdout
    run_single(dataset, tmp_path / "single", 4, *evaluated, model=model, do_eval=True, **window)
    assert_same_run(tmp_path / "run", tmp_path / "single")
    found, expected = (evaluations(tmp_path / name) for name in ("run", "single"))
    assert found and found == pytest.approx(expected, rel=1e-4)
