"""The loss of packed rows is that of the same records one by one."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import SAMPLES
from mindspore import Tensor

from mindcoder.data.encode import encode_record
from mindcoder.data.loader import shift_labels
from mindcoder.data.packing import pack_first_fit, pad_each
from mindcoder.data.readers import read_records
from mindcoder.models.decoder import Decoder
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.train.evaluate import EvalStep

COMMON = {"vocab_size": 700, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 64}
FAMILIES = {
    "gpt_bigcode": TransformerConfig("gpt_bigcode", num_kv_heads=1, max_position_embeddings=256, **COMMON),
    "starcoder2": TransformerConfig(
        "starcoder2", num_kv_heads=2, max_position_embeddings=256, position="rope", sliding_window=48, **COMMON
    ),
    "llama": TransformerConfig(
        "llama", num_kv_heads=2, max_position_embeddings=256, position="rope", norm="rms_norm", activation="silu",
        gated_mlp=True, attention_bias=False, mlp_bias=False, tied_head=False, **COMMON
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
    step = EvalStep(decoder)
    step.set_train(False)
    examples = [encode_record(item, small_tokenizer, 256) for item in list(read_records(SAMPLES))[:16]]
    means = []
    for lay_out in (pad_each, pack_first_fit):
        rows = list(lay_out(examples, 256, small_tokenizer.pad_id))
        total = count = 0.0
        for row in rows:
            columns = (row.input_ids, row.position_ids, row.document_ids)
            inputs = [Tensor(item[None]) for item in columns] + [Tensor(shift_labels(row.labels[None]))]
            loss, _, labelled = (float(item.asnumpy()) for item in step(*inputs))
            total, count = total + loss, count + labelled
        means.append((len(rows), count, total / count))
    assert means[1][0] < means[0][0] and means[0][1] == means[1][1]
    assert abs(means[0][2] - means[1][2]) < 1e-5


def test_the_first_label_of_a_packed_document_is_not_the_last_of_the_one_before(small_tokenizer):
    examples = [encode_record(item, small_tokenizer, 256) for item in list(read_records(SAMPLES))[:4]]
    (row, *_) = pack_first_fit(examples, 1024, small_tokenizer.pad_id)
    shifted = shift_labels(row.labels[None])[0]
    ends = np.flatnonzero(np.diff(row.document_ids))
    assert len(ends) >= 3 and (shifted[ends] == -100).all()
