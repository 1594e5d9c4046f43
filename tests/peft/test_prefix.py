"""P-tuning v2 against PEFT's prefix tuning on PyTorch: logits, gradients, twenty steps, generated tokens."""

from __future__ import annotations

from dataclasses import replace

import mindspore as ms
import numpy as np
import peft
import pytest
import torch
from families import BATCH, LENGTH, VOCAB, Gradients, check_packed_documents, one_batch
from mindspore import Tensor

from mindcoder.backend.native import native_available
from mindcoder.checkpoint.adapter import Prefix
from mindcoder.checkpoint.huggingface import HuggingFaceFolder
from mindcoder.checkpoint.load import load_weights
from mindcoder.checkpoint.peft_prefix import read_peft_prefix, write_peft_prefix
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.errors import UserError
from mindcoder.generate.engine import Engine
from mindcoder.models.decoder import Decoder
from mindcoder.peft.options import PrefixOptions, prefix_shapes
from mindcoder.peft.prefix import add_prefix, prefix_values
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import MicroBatch, TrainStep

TOKENS = 32
FAMILIES = ("llama", "starcoder2", "gpt_bigcode")


def prefixed_pair(family: str, hf_folder, rng, stddev: float = 0.5, layers: int = 1):
    """Our network and PEFT's with the same prefix; PEFT's parameter ``[P, layers * 2 * K*D]``."""
    model, _, folder = hf_folder(family, layers=layers)
    decoder = Decoder(HuggingFaceFolder(folder).transformer_config, empty=True)
    load_weights(decoder, str(folder))
    added = add_prefix(decoder, PrefixOptions(TOKENS), 3)
    for item in added:
        item.set_data(Tensor((rng.standard_normal(item.shape) * stddev).astype(np.float32)))
    theirs = peft.get_peft_model(model, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS))
    table = next(item for name, item in theirs.named_parameters() if "prompt_encoder" in name)
    with torch.no_grad():
        table.copy_(torch.tensor(np.concatenate([item.asnumpy() for item in added], 1)))
    return decoder, theirs, table, added


@pytest.mark.parametrize(
    "family, recompute",
    [("llama", False), ("llama", True), ("gpt_bigcode", False),
     pytest.param("starcoder2", False, marks=pytest.mark.long)],
)  # fmt: skip
def test_logits_loss_and_gradients_equal_pefts(family, recompute, hf_folder, rng):
    decoder, theirs, table, added = prefixed_pair(family, hf_folder, rng)
    ids, labels, inputs = one_batch(rng)
    output = theirs(input_ids=torch.tensor(ids).long(), labels=torch.tensor(labels).long())
    output.loss.backward()
    hidden = decoder(*inputs[:3], Tensor(0, ms.int32))
    logits = decoder.logits(hidden).asnumpy().reshape(BATCH, LENGTH, VOCAB)
    np.testing.assert_allclose(logits, output.logits.detach().numpy(), atol=1e-4)

    trained = ms.ParameterTuple(decoder.trainable_params())
    assert (
        [item.name for item in trained]
        == [item.name for item in added]
        == list(prefix_shapes(PrefixOptions(TOKENS), decoder.config))
    )
    step = TrainStep(decoder, AdamW(trained, AdamWOptions()), recompute=recompute)
    loss, grads = Gradients(step)(*inputs, Tensor(0, ms.int32), Tensor(1.0, ms.float32))
    assert abs(float(loss.asnumpy()) - float(output.loss)) < 1e-5
    ours, want = np.concatenate([grad.asnumpy() for grad in grads], 1), table.grad.numpy()
    assert np.linalg.norm(ours - want) / np.linalg.norm(want) < 1e-4


def test_twenty_steps_follow_peft_and_leave_the_base_alone(hf_folder, rng):
    decoder, theirs, table, added = prefixed_pair("llama", hf_folder, rng, 0.1, layers=2)
    names = {item.name for item in added}
    base = {item.name: item.asnumpy().copy() for item in decoder.get_parameters() if item.name not in names}
    trained = ms.ParameterTuple(decoder.trainable_params())
    step = TrainStep(decoder, AdamW(trained, AdamWOptions(0.9, 0.95, 1e-6, 0.1)), max_grad_norm=1.0)
    optimizer = torch.optim.AdamW([table], lr=1e-3, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1)
    losses = []
    for index in range(20):
        ids, labels, inputs = one_batch(np.random.default_rng(index % 3))
        loss, _ = step.run([MicroBatch(*inputs, Tensor(0, ms.int32), Tensor(1.0, ms.float32))], 1e-3, 1.0)
        want = theirs(input_ids=torch.tensor(ids).long(), labels=torch.tensor(labels).long()).loss
        optimizer.zero_grad()
        want.backward()
        torch.nn.utils.clip_grad_norm_([table], 1.0)
        optimizer.step()
        losses.append(loss)
        assert abs(loss - float(want)) < 2e-5, index
    assert losses[-1] < losses[1]
    ours = np.concatenate([item.asnumpy() for item in added], 1)
    np.testing.assert_allclose(ours, table.detach().numpy(), atol=5e-5)
    for name, values in base.items():
        assert (next(item for item in decoder.get_parameters() if item.name == name).asnumpy() == values).all()


@pytest.mark.parametrize("family, operators", [*((family, "native") for family in FAMILIES), ("llama", "composed")])
def test_generated_tokens_equal_pefts(family, operators, hf_folder, rng, monkeypatch):
    if operators == "composed":
        monkeypatch.setenv("MINDCODER_NATIVE", "0")
    elif not native_available():
        pytest.skip("the C++ operators are not built")
    decoder, theirs, _, _ = prefixed_pair(family, hf_folder, rng)
    prompts = [rng.integers(1, VOCAB, size).tolist() for size in (5, 70, 21)]
    engine = Engine(decoder, 2, 128, (), VOCAB, longest_prompt=32)
    answers = [item.tokens for item in engine.generate(prompts, max_new_tokens=12)]
    for prompt, answer in zip(prompts, answers):
        ids = prompt
        for token in answer:  # PEFT's own generate() loses the prefix's positions with some versions of transformers
            with torch.no_grad():
                logits = theirs(input_ids=torch.tensor([ids])).logits[0, -1]
            assert int(logits.argmax()) == token
            ids = [*ids, token]


def test_documents_of_a_row_see_the_prefix_and_not_one_another(hf_folder, rng):
    decoder, _, _, _ = prefixed_pair("llama", hf_folder, rng)
    check_packed_documents(decoder, rng)


def test_two_layers_can_make_the_prefix_and_dropout_is_drawn_by_the_seed(hf_folder, rng):
    _, _, folder = hf_folder("llama")
    decoder = Decoder(HuggingFaceFolder(folder).transformer_config, empty=True)
    load_weights(decoder, str(folder))
    options = PrefixOptions(16, True, 12, 0.3)
    added = {item.name: item.asnumpy() for item in add_prefix(decoder, options, 3)}
    assert {name: values.shape for name, values in added.items()} == prefix_shapes(options, decoder.config)
    name = "layers.1.attention.prefix.encoder.mindpet_delta_ptuning2"
    table, first, second = (
        added[f"{name}_{part}"] for part in ("embedding.embedding_table", "dense_in.weight", "dense_out.weight")
    )
    want = np.tanh(table @ first.T) @ second.T
    keys, values = prefix_values(decoder)[1]
    np.testing.assert_allclose(np.concatenate([keys, values], 1), want, atol=1e-6)
    _, _, inputs = one_batch(rng)

    def hidden(seed):
        return decoder(*inputs[:3], Tensor(seed, ms.int32)).asnumpy()

    decoder.set_train(False)
    assert np.array_equal(hidden(1), hidden(2))
    decoder.set_train(True)
    assert np.array_equal(hidden(1), hidden(1)) and not np.array_equal(hidden(1), hidden(2))


def test_a_prefix_leaves_room_within_the_positions(hf_folder, rng):
    decoder, _, _, _ = prefixed_pair("gpt_bigcode", hf_folder, rng)
    with pytest.raises(UserError, match="a length of 300 tokens behind a prefix of 32 is over the model's 320"):
        Engine(decoder, 1, 300, (), VOCAB)
    with pytest.raises(UserError, match="not a multiple of the cache's block_size 64"):
        Engine(decoder, 1, 128, (), VOCAB, block_size=64)


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_loads_what_we_write_and_we_load_what_it_writes(family, hf_folder, rng, tmp_path):
    model, _, folder = hf_folder(family)
    config = HuggingFaceFolder(folder).transformer_config
    options = PrefixOptions(TOKENS, family == "starcoder2", 24)
    plans = {
        name: plan_of(name, (rng.standard_normal(shape) * 0.4).astype(np.float32), tmp_path)
        for name, shape in prefix_shapes(options, config).items()
    }
    write_peft_prefix(Prefix(options, plans), str(folder), config, tmp_path / "peft")
    ids = rng.integers(0, VOCAB, (2, 24)).astype(np.int32)
    theirs = peft.PeftModel.from_pretrained(model, tmp_path / "peft").eval()
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor(ids).long()).logits.numpy()
    theirs.save_pretrained(tmp_path / "again")
    for place in ("peft", "again"):
        decoder = Decoder(config, empty=True)
        weights = load_weights(decoder, tmp_path / place)
        assert weights.kind == "prefix" and weights.prefix.options == PrefixOptions(TOKENS)
        positions = np.tile(np.arange(24, dtype=np.int32), (2, 1))
        hidden = decoder(*map(Tensor, (ids, positions, np.zeros_like(ids))), Tensor(0, ms.int32))
        np.testing.assert_allclose(decoder.logits(hidden).asnumpy().reshape(2, 24, VOCAB), expected, atol=1e-4)


def plan_of(name, values, place) -> TensorPlan:
    return TensorPlan(name, values.shape, "F32", (StoredTensor(name, place, "F32", values.shape, loaded=values),))


def test_a_peft_prefix_of_another_network_is_refused(hf_folder, rng, tmp_path):
    config = HuggingFaceFolder(hf_folder("llama")[2]).transformer_config
    options = PrefixOptions(16)
    shapes = prefix_shapes(options, config)
    plans = {name: plan_of(name, np.zeros(shape, np.float32), tmp_path) for name, shape in shapes.items()}
    write_peft_prefix(Prefix(options, plans), "", config, tmp_path / "peft")
    with pytest.raises(UserError, match=r"prompt_embeddings: expected \[16, 96\] for this network, found \[16, 144\]"):
        read_peft_prefix(tmp_path / "peft", replace(config, num_layers=2))
