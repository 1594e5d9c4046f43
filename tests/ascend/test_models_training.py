"""Training of every family by MindSpore's Ascend backend on softcann, against transformers."""

from __future__ import annotations

import numpy as np
import pytest
from ascend_models import DTYPES, FAMILIES, MOVEMENTS, Run, batch, on_cpu, saved_model, torch_curve, torch_gradients

pytestmark = pytest.mark.long

RATE, STEPS = 1e-3, 3


def check_gradients(run: Run, loss: float, expected: dict[str, np.ndarray], loss_error: float, error: float) -> None:
    """Loss within ``loss_error``, every gradient within ``error`` of its norm."""
    assert abs(float(run.arrays["loss"]) - loss) < loss_error
    for name, want in expected.items():
        found = run.arrays[f"gradient.{name}"]
        # Without rotation the key bias moves all scores of a row alike: its true gradient is zero.
        norm = max(np.linalg.norm(want), 1e-3 if error < 1e-3 else 1e-1)
        assert np.linalg.norm(found - want) / norm < error, name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_gradients_and_updates_equal_transformers(family, dtype, tmp_path):
    """float32 as exactly as on CPU; bfloat16 (8 bits of a product's inputs) within a few percent."""
    model, folder = saved_model(tmp_path, family)
    inputs, ids, labels = batch(tmp_path)
    run = Run(
        tmp_path,
        what="train",
        folder=folder,
        inputs=inputs,
        config=DTYPES[dtype],
        recompute=False,
        gradients=True,
        steps=STEPS,
        rate=RATE,
        optimizer={"eps": 1e-6},
    )
    loss, expected = torch_gradients(model, folder, ids, labels)
    exact = dtype == "float32"
    check_gradients(run, loss, expected, 1e-5 if exact else 2e-2, 1e-4 if exact else 6e-2)
    curve = torch_curve(model, ids, labels, RATE, STEPS)
    np.testing.assert_allclose(run.arrays["curve"][:, 0], curve, rtol=1e-5 if exact else 1e-2)
    assert set(run.old) <= MOVEMENTS, run.old
    assert "aclnnFlashAttentionVarLenScore" in run.operators


DROPOUT = {"hidden_dropout": 0.1, "embedding_dropout": 0.1}
VARIANTS = {
    "recomputed dropout accumulated clipped": (
        "gpt_bigcode",
        {"config": DROPOUT, "recompute": True, "accumulates": True, "clip": 0.5, "seed": 7},
    ),
    "lora packed": ("starcoder2", {"config": {}, "recompute": False, "lora": 0.1, "documents": 2}),
    "prefix": ("llama", {"config": {}, "recompute": False, "prefix": 16}),
    "pairs scaled": ("llama", {"config": {}, "recompute": True, "pairs": True, "documents": 2, "loss_scale": 64.0}),
    "uncorrected moments": (
        "gpt_bigcode",
        {"config": {}, "recompute": False, "optimizer": {"correction": "rate", "eps": 1e-6}},
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_way_of_training_equals_cpu(name, tmp_path):
    """Dropout of hidden states, too: its masks are a hash that both devices compute bit by bit."""
    family, case = VARIANTS[name]
    _, folder = saved_model(tmp_path, family)
    inputs, _, _ = batch(tmp_path, documents=case.get("documents", 1))
    case = {"what": "train", "folder": folder, "inputs": inputs, "steps": STEPS, "optimizer": {"eps": 1e-6}, **case}
    run, expected = Run(tmp_path, **case), on_cpu(tmp_path, **case)
    assert set(run.old) <= MOVEMENTS, run.old
    # Each loss but the first depends on all gradients before it, the norms on the gradients themselves.
    np.testing.assert_allclose(run.arrays["curve"], expected["curve"], rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "length"), [("bfloat16", 40), ("float32", 37)])
def test_flash_attention_drops_by_the_seed(dtype, length, tmp_path):
    """A seed names its masks, as recomputation and resuming need; their mean is what no dropout gives."""
    _, folder = saved_model(tmp_path, "gpt_bigcode", n_layer=1)
    inputs, _, _ = batch(tmp_path, length)
    config = {"compute_dtype": dtype, "attention_dropout": 0.2}
    seeds = [1, 1, *range(2, 34)]
    run = Run(tmp_path, what="dropped", folder=folder, inputs=inputs, config=config, seeds=seeds)
    *drawn, whole = run.arrays["hidden"]
    assert (drawn[0] == drawn[1]).all()
    distances = [np.linalg.norm(item - whole) for item in drawn]
    assert min(distances) > 0.02 * np.linalg.norm(whole)
    # The mean of 33 independent draws is nearer by the root of 33; bfloat16 and the norm's curvature keep a rest.
    assert np.linalg.norm(np.mean(drawn[1:], 0) - whole) < 0.4 * np.mean(distances)
    assert run.operators["aclnnDropoutGenMaskV2"] == len(seeds)


def test_recomputation_draws_the_same_masks_of_attention(tmp_path):
    _, folder = saved_model(tmp_path, "gpt_bigcode")
    inputs, _, _ = batch(tmp_path, 37)
    case = {"what": "train", "folder": folder, "inputs": inputs, "steps": STEPS, "optimizer": {"eps": 1e-6}}
    kept, recomputed, without = (
        Run(tmp_path, **case, config={"attention_dropout": rate}, recompute=recompute).arrays["curve"]
        for rate, recompute in ((0.2, False), (0.2, True), (0.0, False))
    )
    np.testing.assert_allclose(recomputed, kept, rtol=2e-5, atol=1e-5)
    assert np.abs(kept / without - 1)[:, 0].max() > 1e-3


def test_the_ends_of_documents_come_to_the_host_once_a_step(tmp_path):
    """CANN's attention takes them there; the host waits for the device when they are copied."""
    _, folder = saved_model(tmp_path, "llama")
    inputs, ids, _ = batch(tmp_path)
    run = Run(
        tmp_path,
        what="train",
        folder=folder,
        inputs=inputs,
        steps=3,
        optimizer={"eps": 1e-6},
        config={},
        recompute=True,
    )
    assert run.operators["aclnnFlashAttentionVarLenScore"] >= 3 * 2 * 2, "layers, forward and recomputed"
    assert run.to_host[ids.size * np.dtype(np.int64).itemsize] == 3
