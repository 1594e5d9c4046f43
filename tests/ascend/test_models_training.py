"""Training of every family by MindSpore's Ascend backend on softcann, against transformers."""

from __future__ import annotations

import numpy as np
import pytest
from ascend_models import DTYPES, FAMILIES, MOVEMENTS, Run, batch, saved_model, torch_curve, torch_gradients

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
    fused = "aclnnFlashAttentionScore" in run.operators
    assert fused != exact, "flash attention is for float16 and bfloat16"
