"""The loss of packed rows is that of the same records one by one."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from conftest import SAMPLES
from families import VOCAB, Gradients
from mindspore import Tensor

from mindcoder.data.encode import Example, encode_record
from mindcoder.data.loader import Batch, BatchLoader, shift_labels
from mindcoder.data.mindrecord_file import write_dataset
from mindcoder.data.packing import Row, pack, pack_first_fit, pad_each
from mindcoder.data.preprocess import PreprocessOptions, preprocess
from mindcoder.data.readers import read_records
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.decoder import Decoder
from mindcoder.train.evaluate import EvalStep
from mindcoder.train.objectives.causal_lm import CausalLM, head_tokens
from mindcoder.train.objectives.token_metrics import TokenMetrics
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import MicroBatch, TrainStep

COMMON = {"vocab_size": 700, "hidden_size": 32, "num_layers": 1, "num_heads": 4, "intermediate_size": 64}
FAMILIES = {
    "gpt_bigcode": TransformerConfig("gpt_bigcode", num_kv_heads=1, max_position_embeddings=256, **COMMON),
    "starcoder2": TransformerConfig(
        "starcoder2", num_kv_heads=2, max_position_embeddings=256, position="rope", sliding_window=48, **COMMON
    ),
    "llama": TransformerConfig(
        "llama", num_kv_heads=2, max_position_embeddings=256, position="rope", norm="rms_norm", activation="silu",
        gated_mlp=True, qkv_bias=False, output_bias=False, mlp_bias=False, tied_head=False, **COMMON
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_have_the_loss_of_the_records(family, small_tokenizer):
    decoder = Decoder(FAMILIES[family], seed=1)
    for parameter in decoder.get_parameters():
        values = (
            parameter.asnumpy() + np.random.default_rng(0).standard_normal(parameter.shape).astype(np.float32) * 0.1
        )
        parameter.set_data(Tensor(values.astype(np.float32)))
    step = EvalStep(decoder, TokenMetrics(decoder))
    step.set_train(False)
    examples = [encode_record(item, small_tokenizer, 256) for item in list(read_records(SAMPLES))[:16]]
    means = []
    for lay_out in (pad_each, pack_first_fit):
        rows = list(lay_out(examples, 256, small_tokenizer.pad_id))
        total = count = 0.0
        for row in rows:
            columns = (row.input_ids, row.position_ids, row.document_ids)
            inputs = [Tensor(item[None]) for item in columns] + [Tensor(shift_labels(row.labels[None]))]
            loss, _, labeled = (float(item.asnumpy()) for item in step(*inputs))
            total, count = total + loss, count + labeled
        means.append((len(rows), count, total / count))
    assert means[1][0] < means[0][0] and means[0][1] == means[1][1]
    assert abs(means[0][2] - means[1][2]) < 1e-5


def test_the_first_label_of_a_packed_document_is_not_the_last_of_the_one_before(small_tokenizer):
    examples = [encode_record(item, small_tokenizer, 256) for item in list(read_records(SAMPLES))[:4]]
    (row, *_) = pack_first_fit(examples, 1024, small_tokenizer.pad_id)
    shifted = shift_labels(row.labels[None])[0]
    ends = np.flatnonzero(np.diff(row.document_ids))
    assert len(ends) >= 3 and (shifted[ends] == -100).all()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_head_at_labeled_tokens_only_gives_the_same_loss_and_gradients(recompute, rng):
    decoder = Decoder(FAMILIES["llama"], seed=1)
    optimizer = AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions())
    ids = rng.integers(0, 700, (2, 64)).astype(np.int32)
    labels = np.where(rng.random((2, 64)) < 0.6, -100, ids).astype(np.int32)
    positions = np.tile(np.arange(64, dtype=np.int32), (2, 1))
    inputs = [Tensor(item) for item in (ids, positions, np.zeros_like(ids), labels)]
    inputs += [Tensor(0, ms.int32), Tensor(1.0, ms.float32)]
    whole = Gradients(TrainStep(decoder, optimizer, recompute=recompute))(*inputs)
    objective = CausalLM({64: 64})
    (label_indices,) = objective.extra_targets(Batch(ids, labels, positions, np.zeros_like(ids)))
    expected = np.argsort(labels.reshape(-1) == -100, kind="stable")[:64]
    np.testing.assert_array_equal(label_indices.asnumpy(), expected)
    picked = SelectedGradients(TrainStep(decoder, optimizer, recompute=recompute, objective=objective))(
        *inputs, label_indices
    )
    np.testing.assert_allclose(picked[0].asnumpy(), whole[0].asnumpy(), rtol=1e-6)
    for ours, theirs in zip(picked[1], whole[1]):
        np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), atol=1e-6)


class SelectedGradients(Gradients):
    """`Gradients` with the labeled tokens' indices behind."""

    def construct(self, ids, positions, documents, labels, seed, scale, label_indices):
        return self.step.gradients(ids, positions, documents, labels, seed, scale, label_indices)


def test_the_fullest_batch_of_all_epochs_says_how_many_tokens_the_head_needs(small_tokenizer, tmp_path):
    target = tmp_path / "samples.mindrecord"
    preprocess(PreprocessOptions(str(SAMPLES), target, 256, workers=1, show_progress=False), small_tokenizer)
    loader = BatchLoader(str(target), 4, 256, 700, seed=3)
    counts = [batch.label_count for batch, _ in loader.batches(epochs=3)]
    most = loader.most_labels(3)[256]
    assert max(counts) == most and head_tokens(loader, 3)[256] == -(-most // 64) * 64 < 4 * 256


def test_steps_of_changing_length_train_as_those_of_one_length(hf_folder, rng):
    """A graph for each length, one set of weights and moments."""
    rows = [rng.integers(1, VOCAB, 30).astype(np.int32) for _ in range(6)]

    def losses(lengths):
        _, decoder, _ = hf_folder("llama", layers=1)
        step = TrainStep(decoder, AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions()), 1.0)
        found = []
        for row, length in zip(rows, lengths):
            packed = pack([Example(row, row.copy(), False)], length, 0)
            labels = shift_labels(packed.labels[None])
            arrays = (packed.input_ids[None], packed.position_ids[None], packed.document_ids[None], labels)
            batch = MicroBatch(*map(Tensor, arrays), Tensor(0, ms.int32), Tensor(1.0, ms.float32))
            found.append(step.run([batch], 1e-3, 1.0))
        return found

    np.testing.assert_allclose(losses([32, 48, 32, 64, 48, 32]), losses([64] * 6), rtol=2e-5)


def test_a_dataset_without_any_label_is_refused(tmp_path):
    file, none = tmp_path / "none.mindrecord", np.full(8, -100, np.int32)
    positions = np.arange(8, dtype=np.int32)
    write_dataset([Row(positions, none, positions, positions * 0, 8)] * 2, file, 8, 50)
    with pytest.raises(UserError, match="no row has a label: every one is -100"):
        head_tokens(BatchLoader(str(file), 1, 8, 50), 1)
