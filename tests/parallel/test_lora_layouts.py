"""LoRA on every kind of layout against one process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from cluster import launch
from conftest import REPOSITORY

import mindcoder
from parallel.test_data_parallel import SIZES, assert_same_run, dataset, run_single, weights_of  # noqa: F401
from parallel.test_layouts import EVERYTHING, LAYOUTS, ROWS, layout, run, singles  # noqa: F401

pytestmark = pytest.mark.long

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


@pytest.mark.cluster
@pytest.mark.parametrize("mesh", [(1, 2, 1), (1, 2, 2)])
def test_prompts_choose_their_adapter_on_a_layout(mesh, dataset, singles, tokenizer_folder, tmp_path):  # noqa: F811
    base, tuned = singles("llama"), tmp_path / "tuned"
    run_single(dataset, tuned, ROWS, model="llama", **layout(1, 1, 1, load_checkpoint=base, **LORA))
    asked = [{"prompt": text, "adapter": name} for text in ("def add(", "Sort a list") for name in (None, "tuned")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(item) + "\n" for item in asked))

    def predict(output, *flags, **sets) -> list[str]:
        settings = [item for key, value in {**SIZES, **sets}.items() for item in ("--set", f"{key}={value}")]
        command = [
            sys.executable,
            "-m",
            "mindcoder.cli.main",
            "predict",
            "--config",
            "configs/llama/tiny_finetune.yaml",
        ]
        command += [
            "--load_checkpoint",
            base,
            "--adapter",
            f"tuned={tuned}",
            "--predict_data",
            tmp_path / "prompts.jsonl",
        ]
        command += ["--predict_length", 40, "--raw", "--vocab_file", tokenizer_folder, "--output_file", output]
        command = [str(item) for item in (*command, "--output_dir", output.with_suffix(""), *settings, *flags)]
        if flags:
            done = launch(" ".join(command), mesh[0] * mesh[1] * mesh[2], output.with_suffix(""))
        else:
            done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        assert done.returncode == 0, done.stderr
        return [json.loads(line)["output"] for line in output.read_text().splitlines()]

    alone = predict(tmp_path / "one.jsonl")
    assert alone[0] != alone[1] and alone[2] != alone[3]
    assert predict(tmp_path / "many.jsonl", "--use_parallel", "True", **layout(*mesh)) == alone


@pytest.mark.parametrize("mesh", [(2, 1, 1), pytest.param((1, 2, 2), marks=pytest.mark.cluster)])
def test_an_adapter_on_codes_on_a_layout_follows_one_process(mesh, dataset, singles, tmp_path):  # noqa: F811
    """QLoRA; the scales of a tensor-parallel shard are expanded, since their blocks do not end with it."""
    sizes = {"model.model_config.hidden_size": 128, "model.model_config.intermediate_size": 256}
    mindcoder.quantize(singles("llama", **sizes), tmp_path / "nf4", method="nf4", progress=False)
    more = {"load_checkpoint": tmp_path / "nf4", **sizes, **LORA}
    run_single(dataset, tmp_path / "one", ROWS, model="llama", **layout(1, 1, 1, **more))
    run(dataset, tmp_path / "many", mesh, model="llama", **more)
    assert_same_run(tmp_path / "many", tmp_path / "one")
    assert all("mindpet_delta_lora" in name for name in weights_of(tmp_path / "many"))
