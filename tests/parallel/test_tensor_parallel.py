"""Tensor-parallel runs against one process: losses, weights, tokens, and resuming on another layout."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from parallel.cluster import launch
from parallel.test_data_parallel import (  # noqa: F401
    SIZES,
    STEPS,
    arguments,
    assert_same_run,
    dataset,
    run_cluster,
    run_single,
)


def layout(data: int, tensor: int, **more) -> dict:
    return {"parallel_config.data_parallel": data, "parallel_config.model_parallel": tensor, **more}


ZERO = {"parallel_config.optimizer_shard": True}
RECOMPUTE = {"recompute_config.recompute": True}


@pytest.fixture(scope="module")
def singles(dataset, tmp_path_factory):  # noqa: F811
    """One-process runs of the families, made when first asked for."""
    made = {}

    def of(model: str):
        if model not in made:
            made[model] = tmp_path_factory.mktemp(model)
            run_single(dataset, made[model], 4, model=model)
        return made[model]

    return of


@pytest.mark.parametrize(
    "model, data, tensor, more",
    [
        pytest.param("wizardcoder", 1, 2, {}, id="multi-query tp2"),
        pytest.param("starcoder2", 1, 2, RECOMPUTE, id="grouped-query tp2 recompute", marks=pytest.mark.cluster),
        pytest.param("wizardcoder", 1, 4, {}, id="multi-query tp4", marks=pytest.mark.cluster),
        pytest.param("llama", 4, 2, ZERO, id="llama dp4 tp2 zero", marks=pytest.mark.cluster),
        pytest.param("llama", 2, 2, ZERO, id="llama dp2 tp2 zero"),
    ],
)
def test_sliced_layers_follow_one_process(model, data, tensor, more, dataset, singles, tmp_path):  # noqa: F811
    run_cluster(dataset, tmp_path, 4 // data, data * tensor, model=model, **layout(data, tensor, **more))
    assert_same_run(tmp_path, singles(model))


def test_a_checkpoint_of_two_slices_resumes_in_one_process_and_on_four(dataset, singles, tmp_path):  # noqa: F811
    saving = {"callbacks.1.save_checkpoint_steps": 5, "callbacks.1.keep_checkpoint_max": 9}
    run_cluster(dataset, tmp_path / "two", 4, 2, **layout(1, 2, **saving))
    for name, ranks in (("one", 1), ("four", 4)):
        shutil.copytree(tmp_path / "two", tmp_path / name)
        for step in (10, STEPS):
            shutil.rmtree(tmp_path / name / "checkpoint" / f"step_{step:08d}")
        if ranks == 1:
            run_single(dataset, tmp_path / name, 4, "--resume")
        else:
            run_cluster(dataset, tmp_path / name, 2, 4, "--resume", **layout(2, 2, **ZERO))
        assert_same_run(tmp_path / name, singles("wizardcoder"))


def test_predict_on_two_gives_the_tokens_of_one(dataset, singles, tokenizer_folder, tmp_path):  # noqa: F811
    common = ["--load_checkpoint", singles("wizardcoder"), "--vocab_file", tokenizer_folder, "--predict_data", "sort"]
    flags = arguments(dataset, tmp_path / "out", 1, "wizardcoder", **{"model.model_config.max_new_tokens": 40})
    base = [sys.executable, "-m", "mindcoder.cli.main", "predict", *flags[1:], *map(str, common)]
    alone = subprocess.run(base, capture_output=True, text=True, cwd=REPOSITORY)
    assert alone.returncode == 0, alone.stderr
    sets = [item for key, value in layout(1, 2).items() for item in ("--set", f"{key}={value}")]
    together = launch(" ".join([*base, "--use_parallel", "True", *sets]), 2, tmp_path)
    assert together.returncode == 0, together.stderr
    assert alone.stdout.strip() and alone.stdout.strip() in together.stdout


def test_heads_that_do_not_divide_are_refused(dataset, tmp_path):  # noqa: F811
    command = " ".join(
        ["mindcoder", *arguments(dataset, tmp_path, 4, "wizardcoder", **layout(1, 3)), "--use_parallel", "True"]
    )
    done = launch(command, 3, tmp_path)
    assert done.returncode == 2 and "model_parallel: num_heads 4 is not divisible by 3" in done.stderr
