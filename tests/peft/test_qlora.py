"""LoRA on frozen codes and integers (QLoRA) against PEFT on their values in PyTorch, and what is in memory."""

from __future__ import annotations

from dataclasses import replace

import mindspore as ms
import peft
import pytest
import torch
from families import one_batch
from mindspore import Tensor
from transformers import AutoModelForCausalLM

import mindcoder
from mindcoder.backend.device import resident_bytes
from mindcoder.checkpoint.load import load_weights
from mindcoder.checkpoint.weights import open_weights
from mindcoder.families.parameter_names import LORA_A, LORA_B
from mindcoder.families.registry import family_of
from mindcoder.models.decoder import Decoder
from mindcoder.peft.lora import add_lora
from mindcoder.peft.options import LoraOptions
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import MicroBatch, TrainStep

STEPS, RATE = 12, 2e-3
SIZES = {
    "llama": {"hidden_size": 128, "intermediate_size": 256},
    "starcoder2": {"hidden_size": 128, "intermediate_size": 256},
    "gpt_bigcode": {"n_embd": 128, "n_inner": 256},
    "qwen2": {"hidden_size": 128, "intermediate_size": 256},
}
# GPT-BigCode has one matrix for query, key and value, of which PEFT trains one A.
TARGETS = {"gpt_bigcode": ("attn.c_proj", "mlp.c_fc", "mlp.c_proj")}
METHODS = {
    "nf4": {"method": "nf4"},
    "int4": {"method": "w4a16", "group_size": 32},
    "int8": {"method": "w8a16"},
}


def adapted(folder, quantized, family: str):
    """Our network on ``quantized`` and PEFT's on its values in ``folder``, with equal adapters."""
    decoder = Decoder(open_weights(quantized).config.without_dropout(), empty=True)
    load_weights(decoder, quantized)
    options = LoraOptions(4, 8.0, target_modules=TARGETS.get(family, (".*",)))
    added = {item.name: item for item in add_lora(decoder, options, 3)}
    rules = family_of(decoder.config.model_type).weights.expand(decoder.config)
    names = {rule.ours[0].removesuffix(".weight"): rule.huggingface.removesuffix(".weight") for rule in rules}
    linears = dict.fromkeys(name.rpartition(".")[0] for name in added)
    theirs = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager"),
        peft.LoraConfig(r=4, lora_alpha=8, target_modules=[names[name] for name in linears]),
    )
    parameters, pairs = dict(theirs.named_parameters()), {}
    for name, item in added.items():
        linear, matrix = name.rsplit(".", 1)
        letter = {LORA_A: "A", LORA_B: "B"}[matrix]
        pairs[name] = parameters[f"base_model.model.{names[linear]}.lora_{letter}.default.weight"]
        with torch.no_grad():
            pairs[name].copy_(torch.tensor(item.asnumpy()))
    return decoder, theirs, pairs


CASES = [("llama", "nf4"), ("gpt_bigcode", "nf4"), ("llama", "int4")]
OTHERS = [(family, method) for family in SIZES for method in METHODS if (family, method) not in CASES]


@pytest.mark.parametrize(
    "family, method", [*CASES, *(pytest.param(*other, marks=pytest.mark.long) for other in OTHERS)]
)
def test_losses_are_pefts_on_the_dequantized_weights(family, method, hf_folder, tmp_path, rng):
    _, _, folder = hf_folder(family, layers=2, **SIZES[family])
    mindcoder.quantize(folder, tmp_path / "quantized", progress=False, **METHODS[method])
    mindcoder.convert(tmp_path / "quantized", tmp_path / "values", progress=False)
    decoder, theirs, pairs = adapted(tmp_path / "values", tmp_path / "quantized", family)
    trained = ms.ParameterTuple(decoder.trainable_params())
    assert {item.name for item in trained} == set(pairs)
    frozen = {item.name: item.asnumpy().copy() for item in decoder.get_parameters() if item.name not in pairs}
    kinds = {str(values.dtype) for name, values in frozen.items() if name.endswith(("query.weight", "up.weight"))}
    assert kinds == {"int8" if method == "int8" else "uint8"}
    step = TrainStep(decoder, AdamW(trained, AdamWOptions(0.9, 0.95, 1e-6, 0.0)), max_grad_norm=1.0)
    optimizer = torch.optim.AdamW(list(pairs.values()), lr=RATE, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.0)
    ids, labels, inputs = one_batch(rng)
    losses = []
    for index in range(STEPS):
        loss, _ = step.run([MicroBatch(*inputs, Tensor(0, ms.int32), Tensor(1.0, ms.float32))], RATE, 1.0)
        want = theirs(input_ids=torch.tensor(ids).long(), labels=torch.tensor(labels).long()).loss
        optimizer.zero_grad()
        want.backward()
        torch.nn.utils.clip_grad_norm_(pairs.values(), 1.0)
        optimizer.step()
        losses.append(loss)
        assert abs(loss - float(want)) < 1e-4, index
    assert losses[-1] < losses[0] - 0.05
    for item in decoder.get_parameters():
        if item.name not in pairs:
            assert (item.asnumpy() == frozen[item.name]).all(), item.name


def test_a_network_takes_memory_for_what_it_keeps(hf_folder, tmp_path):
    """An empty one leaves its pages alone, one in NF4 has 4.13 bits for each number of a linear layer."""
    _, _, folder = hf_folder("llama", layers=1, **SIZES["llama"])
    mindcoder.quantize(folder, tmp_path / "nf4", method="nf4", progress=False)
    config = open_weights(tmp_path / "nf4").config
    before = resident_bytes()
    large = Decoder(replace(config, intermediate_size=1 << 18), empty=True)
    assert sum(item.nbytes for item in large.get_parameters()) > 4e8
    assert resident_bytes() - before < 4e7
    decoder = Decoder(config, empty=True)
    load_weights(decoder, tmp_path / "nf4")
    kept = sum(item.nbytes for linear in decoder.linears().values() for item in linear.method.get_parameters())
    numbers = sum(outputs * inputs for outputs, inputs in config.linear_shapes().values())
    assert 4.125 <= 8 * kept / numbers < 4.15
