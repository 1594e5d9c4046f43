"""LoRA on every kind of layout against one process."""

from __future__ import annotations

import pytest

from parallel.test_data_parallel import assert_same_run, dataset, weights_of  # noqa: F401
from parallel.test_layouts import EVERYTHING, LAYOUTS, run, singles  # noqa: F401

LORA = {
    "model.model_config.pet_config.lora_rank": 4,
    "model.model_config.pet_config.lora_dropout": 0.0,
    "model.model_config.pet_config.target_modules": ".*",
    "lr_schedule.learning_rate": 3e-3,
}
IN_CI = {("wizardcoder", (1, 2, 2), True)}
CASES = [
    pytest.param(
        *(model, mesh, everything),
        id=f"{model} dp{mesh[0]} tp{mesh[1]} pp{mesh[2]} " + ("all on" if everything else "plain"),
        marks=() if (model, mesh, everything) in IN_CI else pytest.mark.cluster,
    )
    for model in ("wizardcoder", "starcoder2", "llama")
    for mesh in LAYOUTS
    for everything in (False, True)
]


@pytest.mark.parametrize("model, mesh, everything", CASES)
def test_an_adapter_on_a_layout_follows_one_process(model, mesh, everything, dataset, singles, tmp_path):  # noqa: F811
    heads = {"model.model_config.n_kv_heads": 4} if mesh[1] == 4 and model != "wizardcoder" else {}
    run(dataset, tmp_path, mesh, model=model, **heads, **LORA, **(EVERYTHING if everything else {}))
    assert_same_run(tmp_path, singles(model, **heads, **LORA))
    assert all("mindpet_delta_lora" in name for name in weights_of(tmp_path))


@pytest.mark.cluster
@pytest.mark.parametrize("everything", [False, True], ids=["plain", "all on"])
@pytest.mark.parametrize("mesh", [(2, 1, 1), (1, 2, 2)])
def test_dora_on_a_layout_follows_one_process(mesh, everything, dataset, singles, tmp_path):  # noqa: F811
    dora = {**LORA, "model.model_config.pet_config.use_dora": True}
    run(dataset, tmp_path, mesh, model="llama", **dora, **(EVERYTHING if everything else {}))
    assert_same_run(tmp_path, singles("llama", **dora))
    assert any("lora_magnitude" in name for name in weights_of(tmp_path))


@pytest.mark.cluster
@pytest.mark.parametrize("mesh", [(2, 1, 1), (1, 1, 2), (2, 1, 2)])
def test_a_prefix_on_a_layout_follows_one_process(mesh, dataset, singles, tmp_path):  # noqa: F811
    section = "model.model_config.pet_config"
    prefix = {f"{section}.pet_type": "ptuning2", f"{section}.pre_seq_len": 16, f"{section}.dropout_prob": 0.0}
    prefix["lr_schedule.learning_rate"] = 3e-3
    run(dataset, tmp_path, mesh, model="llama", **prefix)
    assert_same_run(tmp_path, singles("llama", **prefix))
    assert all("mindpet_delta_ptuning2" in name for name in weights_of(tmp_path))
