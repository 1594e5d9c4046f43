"""The engine on MindSpore's Ascend backend: adapters, prefixes, sampling and batches of 1, 3 and 8, in one process.

Greedy tokens are those of transformers (PEFT for adapters). Everything is also computed on MindSpore's CPU backend:
answers, reused prompt tokens and the tokens given to the network are equal, log-probabilities within 1e-4, float32. A
drawn token depends on the seed, the row and the distribution alone, so equal logits give equal draws.
"""

from __future__ import annotations

import numpy as np
import peft
import pytest
import torch
from ascend_models import DTYPES, FAMILIES, MOVEMENTS, on_cpu, run_together, saved_model
from families import VOCAB

pytestmark = pytest.mark.long

NEW_TOKENS, CHUNK, MAX_LENGTH = 8, 32, 80
BATCHES = {"gpt_bigcode": 1, "starcoder2": 3, "llama": 8}
LENGTHS = {"gpt_bigcode": (61, 3), "starcoder2": (61, 1, 20, 33), "llama": (61, 1, 20, 33, 7, 48, 64, 16)}
MODULES = {
    "llama": (["q_proj", "v_proj"], ["gate_proj", "up_proj", "down_proj", "o_proj", "k_proj"]),
    "starcoder2": (["q_proj", "v_proj"], ["c_fc", "c_proj", "o_proj"]),
    "gpt_bigcode": (["c_attn"], ["c_fc", "c_proj"]),
}
SAMPLING = [
    {"do_sample": True, "seed": 3},
    {"do_sample": True, "seed": 3, "temperature": 0.7, "top_p": 0.9},
    {"do_sample": True, "seed": 4, "temperature": 1.3, "top_k": 5},
    {"do_sample": True, "seed": 5, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.2},
]
MIXED, AGAIN, OTHER, DRAWN = range(4)  # phases
ROUNDED = "llama in bfloat16"


def with_adapters(model, family, folder):
    """PEFT's model with two adapters of different ranks and layers, which are saved."""
    generator = torch.Generator().manual_seed(5)
    first, second = MODULES[family]
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=6, target_modules=first), "first")
    theirs.add_adapter("second", peft.LoraConfig(r=18, lora_alpha=9, target_modules=second, use_rslora=True))
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    theirs.save_pretrained(folder / "adapters", selected_adapters=["first", "second"])
    return theirs, {name: str(folder / "adapters" / name) for name in ("first", "second")}


def expected(theirs, request: dict) -> list[int]:
    """Greedy tokens of PEFT."""
    ids = torch.tensor([request["prompt"]])
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.no_grad():
        if request.get("adapter") is None:
            with theirs.disable_adapter():
                return theirs.generate(input_ids=ids, **options)[0, ids.shape[1] :].tolist()
        theirs.set_adapter(request["adapter"])
        return theirs.generate(input_ids=ids, **options)[0, ids.shape[1] :].tolist()


def phases_of(family: str) -> list[list[dict]]:
    """All at once; the longest prompt's first 40 tokens again; the same for another adapter; draws."""
    rng = np.random.default_rng(11)
    names = ("second", None, "first")
    prompts = [rng.integers(1, VOCAB, length).tolist() for length in LENGTHS[family]]
    mixed = [{"prompt": prompt, "adapter": names[row % 3]} for row, prompt in enumerate(prompts)]
    shared = prompts[0][:40] + rng.integers(1, VOCAB, 9).tolist()
    drawn = [{"prompt": prompts[1], "adapter": names[i % 3], "options": how} for i, how in enumerate(SAMPLING)]
    return [mixed, [{"prompt": shared, "adapter": "second"}], [{"prompt": shared, "adapter": "first"}], drawn]


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """For each family: PEFT's model, the case and what the emulator made of it."""
    place = tmp_path_factory.mktemp("engines")
    theirs, cases = {}, {}
    for family in FAMILIES:
        own = place / family
        own.mkdir()
        layers = {"n_layer": 1} if family == "gpt_bigcode" else {"num_hidden_layers": 1}
        model, folder = saved_model(own, family, **layers)
        theirs[family], adapters = with_adapters(model, family, own)
        cases[family] = {
            "what": "requests",
            "folder": folder,
            "config": {},
            "adapters": adapters,
            "batch": BATCHES[family],
            "chunk": CHUNK,
            "max_length": MAX_LENGTH,
            "new_tokens": NEW_TOKENS,
            "phases": phases_of(family),
        }
    theirs[ROUNDED], cases[ROUNDED] = theirs["llama"], {**cases["llama"], "config": DTYPES["bfloat16"]}
    runs = run_together(place, cases)
    return {name: (theirs[name], cases[name], runs[name]) for name in cases}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_request_gets_the_tokens_of_its_adapter(family, engines):
    """Prompts of 1 to 64 tokens, the longer ones in chunks, more requests than fit for the smaller batches."""
    theirs, case, run = engines[family]
    requests = case["phases"][MIXED]
    assert run.arrays["chunk"] < max(len(request["prompt"]) for request in requests)
    wanted = [expected(theirs, request) for request in requests]
    assert run.arrays[f"answers.{MIXED}"].tolist() == wanted
    first = requests[0]
    assert wanted[0] != expected(theirs, {**first, "adapter": None}), "the adapter changes the answer"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shared_prefix_is_read_from_the_cache(family, engines):
    """Two full blocks of 16 of the 40 common tokens; another adapter's keys are not taken."""
    theirs, case, run = engines[family]
    for phase, reused in ((AGAIN, 32), (OTHER, 0)):
        (request,) = case["phases"][phase]
        assert run.arrays[f"answers.{phase}"].tolist() == [expected(theirs, request)]
        assert run.arrays[f"reused.{phase}"].tolist() == [reused]
        # The last generated token is not computed.
        assert run.arrays[f"computed.{phase}"] == len(request["prompt"]) - reused + NEW_TOKENS - 1


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_equals_the_engine_on_cpu(family, engines, tmp_path):
    """Draws with temperature, top-k, top-p and a repetition penalty, too."""
    _, case, run = engines[family]
    cpu = on_cpu(tmp_path, **case)
    for phase in range(len(case["phases"])):
        for what in ("answers", "reused", "computed"):
            found, wanted = run.arrays[f"{what}.{phase}"], cpu[f"{what}.{phase}"]
            assert found.tolist() == wanted.tolist(), (what, phase)
        np.testing.assert_allclose(run.arrays[f"logprobs.{phase}"], cpu[f"logprobs.{phase}"], atol=1e-4)
    drawn = run.arrays[f"answers.{DRAWN}"].tolist()
    assert len(set(map(tuple, drawn))) == len(drawn), "seeds, rows and options draw differently"


def test_bfloat16_follows_float32_at_first(engines):
    """Adapters and the cached prefix with the fused attention kernels: each request's first token, and most others."""
    theirs, case, run = engines[ROUNDED]
    firsts, equal, total = [], 0, 0
    for phase in (MIXED, AGAIN, OTHER):
        for request, answer in zip(case["phases"][phase], run.arrays[f"answers.{phase}"].tolist()):
            wanted = expected(theirs, request)
            firsts.append(answer[0] == wanted[0])
            same = [ours == reference for ours, reference in zip(answer, wanted)]
            equal, total = equal + (same + [False]).index(False), total + len(wanted)
    assert all(firsts) and equal > total / 2, (equal, total)
    assert [run.arrays[f"reused.{phase}"].tolist() for phase in (AGAIN, OTHER)] == [[32], [0]]
    assert run.operators["aclnnIncreFlashAttentionV4"] and run.operators["aclnnFusedInferAttentionScoreV2"]


def test_draws_in_bfloat16_differ(engines):
    """Seeds, rows and options draw differently, each within the vocabulary."""
    _, _, run = engines[ROUNDED]
    drawn = run.arrays[f"answers.{DRAWN}"]
    assert len(set(map(tuple, drawn.tolist()))) == len(drawn)
    assert drawn.min() >= 0 and drawn.max() < VOCAB
    assert np.isfinite(run.arrays[f"logprobs.{DRAWN}"]).all()


@pytest.mark.parametrize("family", [*FAMILIES, ROUNDED])
def test_no_kernel_of_the_old_path_is_called(family, engines):
    _, _, run = engines[family]
    assert sum(run.operators.values()) > 1000
    assert set(run.old) <= MOVEMENTS, run.old  # copies of tensors: 86 to 132 in all steps, with adapters only
