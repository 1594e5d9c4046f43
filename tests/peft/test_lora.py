"""LoRA against PEFT on PyTorch: logits, gradients, twenty steps of training, and its folders both ways."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import peft
import pytest
import torch
from families import BATCH, LENGTH, VOCAB, Gradients, one_batch
from mindspore import Tensor

from mindcoder.checkpoint.adapter import Adapter, Update
from mindcoder.checkpoint.huggingface import HuggingFaceFolder
from mindcoder.checkpoint.load import load_weights
from mindcoder.checkpoint.peft_format import read_peft, write_peft
from mindcoder.checkpoint.weights import open_adapted
from mindcoder.families.parameter_names import LORA_A, LORA_B, MAGNITUDE
from mindcoder.families.registry import family_of
from mindcoder.models.decoder import Decoder
from mindcoder.peft.lora import add_lora, rate_ratios
from mindcoder.peft.options import LoraOptions, adapter_shapes, matching_linears
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import MicroBatch, TrainStep

# GPT-BigCode has one matrix for query, key and value: PEFT then trains one A for all three, so parity of training is
# only there for the others.
TARGETS = {
    "llama": (".*",),
    "starcoder2": (".*",),
    "gpt_bigcode": ("attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
}
RANK, ALPHA = 4, 6.0


def fresh(folder) -> Decoder:
    decoder = Decoder(HuggingFaceFolder(folder).transformer_config, empty=True)
    load_weights(decoder, str(folder))
    return decoder


def peft_names(decoder: Decoder) -> dict[str, str]:
    """Our linear layers' names -> Hugging Face's, where one is one."""
    rules = family_of(decoder.config.model_type).weights.expand(decoder.config)
    return {
        rule.ours[0].removesuffix(".weight"): rule.huggingface.removesuffix(".weight")
        for rule in rules
        if len(rule.ours) == 1
    }


def adapted_pair(model, folder, options: LoraOptions, rng, random_b: bool):
    """Our network and PEFT's with the same adapter; B random or zero."""
    decoder = fresh(folder)
    added = {item.name: item for item in add_lora(decoder, options, 3)}
    names = peft_names(decoder)
    modules = [names[name] for name in matching_linears(options, decoder.config)]
    theirs = peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            target_modules=modules,
            use_rslora=options.rank_stabilized,
            lora_dropout=0.0,
            use_dora=options.magnitudes,
        ),
    )
    parameters = dict(theirs.named_parameters())
    pairs = {}
    for name, item in added.items():
        linear, matrix = name.rsplit(".", 1)
        letter = {LORA_A: "A", LORA_B: "B", MAGNITUDE: "magnitude_vector"}[matrix]
        target = parameters[f"base_model.model.{names[linear]}.lora_{letter}.default.weight"]
        if letter == "magnitude_vector":
            np.testing.assert_allclose(item.asnumpy(), target.detach().numpy(), rtol=1e-6)
            if random_b:
                item.set_data(Tensor(item.asnumpy() * rng.uniform(0.5, 1.5, item.shape).astype(np.float32)))
        if letter == "B" and random_b:
            item.set_data(Tensor((rng.standard_normal(item.shape) * 0.1).astype(np.float32)))
        with torch.no_grad():
            target.copy_(torch.tensor(item.asnumpy()))
        pairs[name] = target
    return decoder, theirs, pairs


WAYS = [(False, False), (True, False), (False, True)]  # recompute, dora
OTHERS = [(family, *way) for family in ("starcoder2", "gpt_bigcode") for way in WAYS[1:]]


@pytest.mark.parametrize(
    "family, recompute, dora",
    [*((family, *WAYS[0]) for family in TARGETS), *(("llama", *way) for way in WAYS[1:]),
     *(pytest.param(*other, marks=pytest.mark.long) for other in OTHERS)],
)  # fmt: skip
def test_logits_loss_and_gradients_equal_pefts(family, recompute, dora, hf_folder, rng):
    model, _, folder = hf_folder(family, layers=1)
    options = LoraOptions(RANK, ALPHA, target_modules=TARGETS[family], rank_stabilized=recompute, magnitudes=dora)
    decoder, theirs, pairs = adapted_pair(model, folder, options, rng, random_b=True)
    ids, labels, inputs = one_batch(rng)
    output = theirs(input_ids=torch.tensor(ids).long(), labels=torch.tensor(labels).long())
    output.loss.backward()
    hidden = decoder(*inputs[:3], Tensor(0, ms.int32))
    logits = decoder.logits(hidden).asnumpy().reshape(BATCH, LENGTH, VOCAB)
    np.testing.assert_allclose(logits, output.logits.detach().numpy(), atol=1e-4)

    trained = ms.ParameterTuple(decoder.trainable_params())
    assert {item.name for item in trained} == set(pairs)
    step = TrainStep(decoder, AdamW(trained, AdamWOptions()), recompute=recompute)
    loss, grads = Gradients(step)(*inputs, Tensor(0, ms.int32), Tensor(1.0, ms.float32))
    assert abs(float(loss.asnumpy()) - float(output.loss)) < 1e-5
    for weight, gradient in zip(trained, grads):
        want = pairs[weight.name].grad.numpy()
        norm = max(np.linalg.norm(want), 1e-3)
        # MindSpore's own exponentials leave 4e-5 in every gradient (against float64), which DoRA's scale multiplies.
        assert np.linalg.norm(gradient.asnumpy() - want) / norm < (3e-4 if dora else 1e-4), weight.name


@pytest.mark.parametrize(
    "family, dora",
    [("llama", False), ("llama", True),
     *(pytest.param(family, False, marks=pytest.mark.long) for family in ("starcoder2", "gpt_bigcode"))],
)  # fmt: skip
def test_twenty_steps_follow_peft_and_leave_the_base_alone(family, dora, hf_folder, rng):
    model, _, folder = hf_folder(family, layers=2)
    options = LoraOptions(RANK, ALPHA, target_modules=TARGETS[family], rate_ratio=4.0, magnitudes=dora)
    decoder, theirs, pairs = adapted_pair(model, folder, options, rng, random_b=False)
    base = {item.name: item.asnumpy().copy() for item in decoder.get_parameters() if item.name not in pairs}
    trained = ms.ParameterTuple(decoder.trainable_params())
    settings = AdamWOptions(0.9, 0.95, 1e-6, 0.1)
    step = TrainStep(decoder, AdamW(trained, settings, rate_ratios=rate_ratios(trained, options)), max_grad_norm=1.0)
    rate = 3e-4
    groups = [
        {
            "params": [item for name, item in pairs.items() if name.endswith(part)],
            "lr": rate * ratio,
            "weight_decay": 0.0 if part == MAGNITUDE else 0.1,  # vectors do not decay
        }
        for part, ratio in ((LORA_A, 1.0), (LORA_B, 4.0), (MAGNITUDE, 1.0))
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1)
    reference = float(model(input_ids=torch.tensor(one_batch(np.random.default_rng(5))[0]).long()).logits.sum())
    assert np.isfinite(reference)
    for index in range(20):
        ids, labels, inputs = one_batch(rng)
        batch = MicroBatch(*inputs, Tensor(0, ms.int32), Tensor(1.0, ms.float32))
        loss, _ = step.run([batch], rate, 1.0)
        want = theirs(input_ids=torch.tensor(ids).long(), labels=torch.tensor(labels).long()).loss
        optimizer.zero_grad()
        want.backward()
        torch.nn.utils.clip_grad_norm_(pairs.values(), 1.0)
        optimizer.step()
        assert abs(loss - float(want)) < (5e-5 if dora else 2e-5), index
    for weight in trained:
        np.testing.assert_allclose(
            weight.asnumpy(), pairs[weight.name].detach().numpy(), atol=3e-4 if dora else 5e-5, err_msg=weight.name
        )
    for item in decoder.get_parameters():
        if item.name not in pairs:
            assert (item.asnumpy() == base[item.name]).all(), item.name


def test_the_first_step_has_the_base_models_loss_and_dropout_changes_it(hf_folder, rng):
    _, base, folder = hf_folder("llama", layers=2)
    inputs = one_batch(rng)[2]

    def first_loss_of(decoder):
        decoder.set_train(True)
        step = TrainStep(decoder, AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions()))
        gradients = Gradients(step)
        return lambda seed=0: float(gradients(*inputs, Tensor(seed, ms.int32), Tensor(1.0, ms.float32))[0].asnumpy())

    adapted = fresh(folder)
    added = add_lora(adapted, LoraOptions(dropout=0.3, target_modules=(".*",)), 0)
    first_loss = first_loss_of(adapted)
    assert abs(first_loss() - first_loss_of(base)()) < 1e-6
    for item in added:
        if item.name.endswith(LORA_B):
            item.set_data(Tensor(np.full(item.shape, 0.05, np.float32)))
    losses = [first_loss(seed) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_the_layer_is_mindpets(hf_folder, rng):
    from mindpet.delta.lora import LoRADense

    _, _, folder = hf_folder("llama")
    decoder = fresh(folder)
    add_lora(decoder, LoraOptions(RANK, ALPHA, target_modules=("q_proj",)), 0)
    layer = decoder.layers[0].attention.query
    matrices = layer.method.matrices
    assert isinstance(matrices, LoRADense) and matrices.scaling == ALPHA / RANK == layer.method.scaling
    assert layer.mindpet_delta_lora_a is matrices.mindpet_delta_lora_a
    layer.mindpet_delta_lora_b.set_data(Tensor(rng.standard_normal((48, RANK)).astype(np.float32)))
    x = Tensor(rng.standard_normal((5, 48)).astype(np.float32))
    plain = LoRADense(48, 48, RANK, ALPHA, has_bias=False, compute_dtype=ms.float32)
    plain.weight.set_data(layer.weight.value())
    plain.mindpet_delta_lora_a.set_data(layer.mindpet_delta_lora_a.value())
    plain.mindpet_delta_lora_b.set_data(layer.mindpet_delta_lora_b.value())
    np.testing.assert_allclose(layer(x).asnumpy(), plain(x).asnumpy(), rtol=1e-5, atol=1e-5)


def random_adapter(config, options: LoraOptions, rng, base) -> Adapter:
    shapes = adapter_shapes(options, config)
    values = {name: (rng.standard_normal(shape) * 0.1).astype(np.float32) for name, shape in shapes.items()}
    linears = [name.removesuffix(f".{LORA_A}") for name in shapes if name.endswith(LORA_A)]
    updates = {
        name: Update(
            values[f"{name}.{LORA_A}"],
            values[f"{name}.{LORA_B}"],
            options.scaling,
            np.abs(values[f"{name}.{MAGNITUDE}"]) * 20 if options.magnitudes else None,
        )
        for name in linears
    }
    return Adapter(base, str(base), updates)


def logits_of(decoder: Decoder, ids) -> np.ndarray:
    positions = np.tile(np.arange(ids.shape[1], dtype=np.int32), (len(ids), 1))
    inputs = [Tensor(item) for item in (ids, positions, np.zeros_like(ids))]
    return decoder.logits(decoder(*inputs, Tensor(0, ms.int32))).asnumpy().reshape(*ids.shape, -1)


CASES = {
    "llama, all": ("llama", {}, (".*",)),
    "llama, some": ("llama", {}, ("layers.1.*query", ".*down")),
    "starcoder2": ("starcoder2", {}, ("q_proj", "v_proj", "c_fc")),
    "multi-query, all": ("gpt_bigcode", {"multi_query": True}, (".*",)),
    "multi-query, query and value": ("gpt_bigcode", {"multi_query": True}, (".*query", ".*value", ".*mlp.*")),
    "llama, DoRA": ("llama", {}, (".*",)),
    "multi-query, DoRA": ("gpt_bigcode", {"multi_query": True}, (".*",)),
    "multi-head, DoRA": ("gpt_bigcode", {"multi_query": False}, (".*",)),
    "multi-head": ("gpt_bigcode", {"multi_query": False}, (".*attention.*",)),
}


@pytest.mark.parametrize("case", CASES)
def test_peft_loads_what_we_write_and_we_load_what_it_writes(case, hf_folder, rng, tmp_path):
    family, overrides, targets = CASES[case]
    model, decoder, folder = hf_folder(family, layers=2, **overrides)
    kinds = {"rank_stabilized": case.endswith("all"), "magnitudes": case.endswith("DoRA")}
    options = LoraOptions(RANK, ALPHA, target_modules=targets, **kinds)
    adapter = random_adapter(decoder.config, options, rng, folder)
    write_peft(adapter, decoder.config, tmp_path / "peft")
    ids = rng.integers(0, VOCAB, (2, 24)).astype(np.int32)
    theirs = peft.PeftModel.from_pretrained(model, tmp_path / "peft").eval()
    with torch.no_grad():
        expected = theirs(torch.tensor(ids).long()).logits.numpy()
        plain = theirs.unload()(torch.tensor(ids).long()).logits.numpy()
    assert np.abs(expected - plain).max() > 0.05
    merged = fresh(folder)
    load_weights(merged, str(tmp_path / "peft"))  # finds its base in the folder's own words
    np.testing.assert_allclose(logits_of(merged, ids), expected, atol=1e-4)


def test_an_adapter_that_peft_made_is_read(hf_folder, rng, tmp_path):
    model, decoder, folder = hf_folder("gpt_bigcode", layers=1)
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=["c_attn", "c_fc"], rank_pattern={"c_fc": 2})
    theirs = peft.get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    theirs.save_pretrained(tmp_path / "peft")
    ids = rng.integers(0, VOCAB, (2, 24)).astype(np.int32)
    with torch.no_grad():
        expected = theirs(torch.tensor(ids).long()).logits.numpy()
    weights = open_adapted(tmp_path / "peft", folder)
    assert read_peft(tmp_path / "peft", decoder.config).rank == 3
    for target in decoder.get_parameters():
        target.set_data(Tensor(weights.parameters()[target.name].read()))
    np.testing.assert_allclose(logits_of(decoder, ids), expected, atol=1e-4)


def test_patterns_name_layers_as_users_know_them(hf_folder):
    config = hf_folder("llama")[1].config
    for pattern in (".*wq|.*wv", "layers.*query|layers.*value", ".*q_proj|.*v_proj"):
        found = matching_linears(LoraOptions(target_modules=(pattern,)), config)
        assert found == [f"layers.{layer}.attention.{part}" for layer in range(3) for part in ("query", "value")]
    only = matching_linears(LoraOptions(target_modules=("down_proj",), exclude_layers=(".*layers.0.*",)), config)
    assert only == ["layers.1.mlp.down", "layers.2.mlp.down"]
    with pytest.raises(ValueError, match="'.*dense1' matches no linear layer; available: layers.0.attention.query"):
        matching_linears(LoraOptions(target_modules=(".*dense1",)), config)
    with pytest.raises(ValueError, match="is not a regular expression"):
        matching_linears(LoraOptions(target_modules=("*q",)), config)
