"""Generation of every family by MindSpore's Ascend backend on softcann: greedy tokens against transformers."""

from __future__ import annotations

import numpy as np
import pytest
from ascend_models import FAMILIES, run_together, saved_model
from families import VOCAB, reference_tokens

pytestmark = pytest.mark.long

NEW_TOKENS = {"float32": 12, "bfloat16": 6}
LENGTHS = {"float32": (5, 40, 23), "bfloat16": (5, 24)}
ENGINES = {
    "float32": {"config": {}, "batch": 4, "chunk": 20},
    "bfloat16": {"config": {"compute_dtype": "bfloat16", "param_dtype": "bfloat16"}, "batch": 2, "chunk": 32},
}


def prompts_of(dtype: str) -> list[list[int]]:
    rng = np.random.default_rng(5)
    return [rng.integers(1, VOCAB, length).tolist() for length in LENGTHS[dtype]]


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Models of transformers by family, and runs by family and dtype, all of one process."""
    place = tmp_path_factory.mktemp("generated")
    models, cases = {}, {}
    for family in FAMILIES:
        own = place / family
        own.mkdir()
        models[family], folder = saved_model(own, family)
        for dtype, engine in ENGINES.items():
            prompts, new_tokens = prompts_of(dtype), NEW_TOKENS[dtype]
            case = {"what": "generate", "folder": folder, "prompts": prompts, "new_tokens": new_tokens, **engine}
            cases[f"{family} {dtype}"] = case
    return models, run_together(place, cases)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers_in_float32(family, generated):
    """A ragged batch with an idle row and a prompt that is longer than a chunk."""
    models, runs = generated
    run, prompts = runs[f"{family} float32"], prompts_of("float32")
    assert int(run.arrays["chunk"]) < max(map(len, prompts))
    assert run.arrays["tokens"].tolist() == reference_tokens(models[family], prompts, NEW_TOKENS["float32"])
    assert not run.old, "a TensorMove is a copy of the whole token table in every step"


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_reads_the_cache_with_the_fused_kernel(family, generated):
    """Its tokens are transformers' as long as the best two logits are further apart than bfloat16 resolves."""
    models, runs = generated
    run, prompts = runs[f"{family} bfloat16"], prompts_of("bfloat16")
    found = run.arrays["tokens"]
    expected = np.array(reference_tokens(models[family], prompts, NEW_TOKENS["bfloat16"]))
    assert (found[:, 0] == expected[:, 0]).all() and (found == expected).mean() > 0.6
    assert {"aclnnFusedInferAttentionScoreV2", "aclnnIncreFlashAttentionV4"} <= set(run.operators), "chunks and steps"
    assert not run.old, "a TensorMove is a copy of the whole token table in every step"
