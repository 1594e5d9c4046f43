"""Twenty updates on MindSpore's Ascend backend against PyTorch's AdamW, and float16 with a dynamic loss scale."""

from __future__ import annotations

import numpy as np
import pytest
from ascend_models import DTYPES, FAMILIES, MOVEMENTS, batch, run_together, saved_model, torch_curve

pytestmark = pytest.mark.long

STEPS, RATE = 20, 1e-3
TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}  # of each loss, relative
SCALE = {"value": 2.0**30, "factor": 64, "window": 4}


@pytest.fixture(scope="module")
def updates(tmp_path_factory):
    """Runs by family and dtype, and PyTorch's twenty losses by family."""
    place = tmp_path_factory.mktemp("updates")
    inputs, ids, labels = batch(place)
    cases, curves = {}, {}
    for family in FAMILIES:
        own = place / family
        own.mkdir()
        layers = {"n_layer": 1} if family == "gpt_bigcode" else {"num_hidden_layers": 1}
        model, folder = saved_model(own, family, **layers)
        common = {"folder": folder, "inputs": inputs, "steps": STEPS, "rate": RATE, "optimizer": {"eps": 1e-6}}
        for dtype, config in DTYPES.items():
            cases[f"{family} {dtype}"] = {"what": "train", "config": config, "recompute": False, **common}
        if family == "starcoder2":
            cases["scaled"] = {"what": "scaled", "config": {"compute_dtype": "float16"}, "scale": SCALE, **common}
        curves[family] = torch_curve(model, ids, labels, RATE, STEPS)
    return run_together(place, cases), curves


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_twenty_updates_equal_pytorch(family, dtype, updates):
    """Each loss but the first depends on all updates before it."""
    runs, curves = updates
    run, wanted = runs[f"{family} {dtype}"], np.array(curves[family])
    assert run.arrays["curve"].shape == (STEPS, 2)
    np.testing.assert_allclose(run.arrays["curve"][:, 0], wanted, rtol=TOLERANCES[dtype])
    assert wanted[-1] < 0.9 * wanted[0], "the updates matter"
    assert set(run.old) <= MOVEMENTS, run.old


def test_float16_with_a_dynamic_loss_scale_equals_pytorch(updates):
    """Updates that overflow leave every weight and lower the scale; without them the losses are PyTorch's."""
    runs, curves = updates
    run = runs["scaled"]
    losses, norms, scales = run.arrays["curve"].T
    finite = np.isfinite(norms)
    assert not finite[0] and 8 <= finite.sum() < STEPS
    assert (run.arrays["kept"] == ~finite).all()
    scale, row = SCALE["value"], 0
    for step in range(STEPS):
        assert scales[step] == scale
        row = row + 1 if finite[step] else 0
        if not finite[step]:
            scale /= SCALE["factor"]
        elif row == SCALE["window"]:
            scale, row = scale * SCALE["factor"], 0
    np.testing.assert_allclose(losses[finite], curves["starcoder2"][: finite.sum()], rtol=1e-2)
    assert set(run.old) <= MOVEMENTS, run.old
    assert "aclnnFlashAttentionVarLenScore" in run.operators
