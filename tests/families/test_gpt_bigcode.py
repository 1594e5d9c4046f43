"""Against transformers' GPTBigCodeForCausalLM with the same random weights."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
import torch
from families import (
    BATCH,
    check_greedy_tokens,
    check_logits_loss_and_gradients,
    check_packed_documents,
    one_batch,
)
from mindspore import Tensor

from mindcoder.checkpoint.load import read_parameters
from mindcoder.train.evaluate import EvalStep
from mindcoder.train.objectives.token_metrics import TokenMetrics
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import TrainStep

VARIANTS = [
    pytest.param({"multi_query": True}, id="multi-query"),
    pytest.param({"multi_query": False}, id="multi-head"),
    pytest.param({"activation_function": "quick_gelu"}, id="fast-gelu"),
    pytest.param({"activation_function": "gelu"}, id="exact-gelu"),
]


def scalars(rate=0.0, scale=1.0):
    return (
        Tensor(0, ms.int32),
        Tensor(rate, ms.float32),
        Tensor(scale, ms.float32),
        Tensor(1.0, ms.float32),
        Tensor(True),
    )


@pytest.mark.parametrize("overrides", VARIANTS)
def test_logits_loss_and_gradients_equal_huggingface(overrides, hf_folder, rng):
    model, decoder, _ = hf_folder(layers=2, **overrides)
    check_logits_loss_and_gradients(model, decoder, rng)


@pytest.mark.parametrize("multi_query", [True, False])
def test_greedy_tokens_equal_huggingface_on_a_ragged_batch(multi_query, hf_folder, rng):
    model, decoder, _ = hf_folder(multi_query=multi_query)
    check_greedy_tokens(model, decoder, rng)


def test_twenty_adamw_steps_follow_pytorch(hf_folder, rng):
    model, decoder, _ = hf_folder(layers=1, multi_query=True)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=3e-3,
        betas=(0.9, 0.95),
        eps=1e-6,
    )
    step = TrainStep(
        decoder,
        AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions(0.9, 0.95, 1e-6, 0.1)),
        max_grad_norm=1.0,
    )
    for number in range(20):
        ids, labels, inputs = one_batch(rng)
        loss = model(input_ids=torch.tensor(ids).long(), labels=torch.tensor(labels).long()).loss
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ours, our_norm = step(*inputs, *scalars(rate=3e-3))
        assert abs(float(ours.asnumpy()) - loss.item()) < 1e-4, number
        assert abs(float(our_norm.asnumpy()) - norm.item()) < 1e-3 * norm.item(), number


def test_accumulated_micro_batches_equal_one_large_batch(hf_folder, rng):
    _, decoder, folder = hf_folder(multi_query=True)
    _, labels, inputs = one_batch(rng)
    options = AdamWOptions(0.9, 0.95, 1e-6, 0.1)
    start = read_parameters(folder, decoder.config)
    whole = TrainStep(decoder, AdamW(ms.ParameterTuple(decoder.trainable_params()), options), 1.0)
    loss, norm = whole(*inputs, *scalars(rate=1e-2))
    expected = {item.name: item.asnumpy() for item in decoder.get_parameters()}
    for item in decoder.get_parameters():
        item.set_data(Tensor(start[item.name]))

    parts = TrainStep(decoder, AdamW(ms.ParameterTuple(decoder.trainable_params()), options), 1.0, accumulates=True)
    counts = (inputs[3].asnumpy() != -100).sum(axis=1)
    total = 0.0
    for row in range(BATCH):
        share = counts[row] / counts.sum()
        micro = [Tensor(item.asnumpy()[row : row + 1]) for item in inputs]
        part_loss, part_norm = parts(
            *micro,
            Tensor(0, ms.int32),
            Tensor(1e-2, ms.float32),
            Tensor(1.0, ms.float32),
            Tensor(share, ms.float32),
            Tensor(row == BATCH - 1),
        )
        total += share * float(part_loss.asnumpy())
    assert total == pytest.approx(float(loss.asnumpy()), abs=1e-5)
    assert float(part_norm.asnumpy()) == pytest.approx(float(norm.asnumpy()), rel=1e-4)
    for item in decoder.get_parameters():
        if not item.name.endswith("key.bias"):  # its gradient is rounding noise around zero, which Adam amplifies
            # AdamW divides by |g| + 1e-6: a weight whose gradient is as small shows its rounding.
            np.testing.assert_allclose(item.asnumpy(), expected[item.name], atol=5e-5, err_msg=item.name)
    assert all(float(abs(buffer.asnumpy()).max()) == 0.0 for buffer in parts.buffers)


def test_documents_of_a_packed_row_do_not_see_each_other(hf_folder, rng):
    check_packed_documents(hf_folder(layers=1, multi_query=True)[1], rng)


def test_parameter_count_is_exact(hf_folder):
    model, decoder, _ = hf_folder(multi_query=True)
    assert decoder.config.num_parameters() == sum(p.numel() for p in model.parameters())


def test_eval_step_equals_huggingface_loss_and_accuracy(hf_folder, rng):
    model, decoder, _ = hf_folder(layers=1, multi_query=True)
    ids, labels, inputs = one_batch(rng)
    output = model(input_ids=torch.tensor(ids).long(), labels=torch.tensor(labels).long())
    step = EvalStep(decoder, TokenMetrics(decoder))
    loss, right, count = (float(part.asnumpy()) for part in step(*inputs))
    predicted = output.logits.argmax(-1).numpy()[:, :-1]
    assert loss / count == pytest.approx(output.loss.item(), abs=1e-5)
    assert count == (labels[:, 1:] != -100).sum()
    assert right == (predicted == labels[:, 1:]).sum()
