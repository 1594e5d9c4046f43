"""Generation of every family by MindSpore's Ascend backend on softcann: greedy tokens against transformers."""

from __future__ import annotations

import numpy as np
import pytest
from ascend_models import FAMILIES, Run, saved_model
from families import VOCAB, reference_tokens

NEW_TOKENS = 12


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers_in_float32(family, tmp_path):
    """A ragged batch with an idle row and a prompt that is longer than a chunk."""
    model, folder = saved_model(tmp_path, family)
    rng = np.random.default_rng(5)
    prompts = [rng.integers(1, VOCAB, length).tolist() for length in (5, 40, 23)]
    run = Run(
        tmp_path, what="generate", folder=folder, config={}, prompts=prompts, new_tokens=NEW_TOKENS, batch=4, chunk=20
    )
    assert int(run.arrays["chunk"]) < max(map(len, prompts))
    assert run.arrays["tokens"].tolist() == reference_tokens(model, prompts, NEW_TOKENS)
    assert not run.old, "a TensorMove is a copy of the whole token table in every step"


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_reads_the_cache_with_the_fused_kernel(family, tmp_path):
    """Its tokens are transformers' as long as the best two logits are further apart than bfloat16 resolves."""
    model, folder = saved_model(tmp_path, family)
    rng = np.random.default_rng(5)
    prompts = [rng.integers(1, VOCAB, length).tolist() for length in (5, 24)]
    config = {"compute_dtype": "bfloat16", "param_dtype": "bfloat16"}
    run = Run(tmp_path, what="generate", folder=folder, config=config, prompts=prompts, new_tokens=6, batch=2, chunk=32)
    found, expected = run.arrays["tokens"], np.array(reference_tokens(model, prompts, 6))
    assert (found[:, 0] == expected[:, 0]).all() and (found == expected).mean() > 0.6
    assert {"aclnnFusedInferAttentionScoreV2", "aclnnIncreFlashAttentionV4"} <= set(run.operators), "chunks and steps"
    assert not run.old, "a TensorMove is a copy of the whole token table in every step"
