"""Every layout against one process: losses, weights, evaluation, tokens, and resuming on another layout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import launch, write_table
from conftest import REPOSITORY

from mindcoder.families.registry import FAMILIES
from parallel.test_data_parallel import (  # noqa: F401
    STEPS,
    arguments,
    assert_same_run,
    dataset,
    run_cluster,
    run_single,
)

pytestmark = pytest.mark.long

CONFIG = "configs/wizardcoder/tiny_finetune.yaml"
ROWS, MICRO_BATCHES = 4, 4  # of a micro batch over all data ranks, and of a step
ZERO = {"parallel_config.optimizer_shard": True}
RECOMPUTE = {"recompute_config.recompute": True}
SEQUENCE = {"parallel_config.use_seq_parallel": True}
VOCABULARY = {"parallel_config.vocab_emb_dp": False}
LAYOUTS = [
    (2, 1, 1),
    (1, 2, 1),
    (1, 4, 1),
    (1, 1, 2),
    (1, 1, 4),
    (2, 2, 1),
    (1, 2, 2),
    (2, 2, 2),
]  # data, tensor, stages


def layout(data: int, tensor: int, stages: int, **more) -> dict:
    """Settings of a layout; its micro batches are those of the pipeline or accumulated."""
    mesh = {"data_parallel": data, "model_parallel": tensor, "pipeline_stage": stages}
    key = "parallel_config.micro_batch_num" if stages > 1 else "runner_config.gradient_accumulation_steps"
    return {**{f"parallel_config.{name}": size for name, size in mesh.items()}, key: MICRO_BATCHES, **more}


def run(dataset, output, mesh, *flags, model="wizardcoder", **more):  # noqa: F811
    data, tensor, stages = mesh
    settings = layout(*mesh, **more)
    return run_cluster(dataset, output, ROWS // data, data * tensor * stages, *flags, model=model, **settings)


@pytest.fixture(scope="module")
def singles(dataset, tmp_path_factory):  # noqa: F811
    """One-process runs of the families, made when first asked for."""
    made = {}

    def of(model: str, **more):
        key = (model, *more.items())
        if key not in made:
            made[key] = tmp_path_factory.mktemp(model)
            run_single(dataset, made[key], ROWS, model=model, **layout(1, 1, 1), **more)
        return made[key]

    return of


def case(model, mesh, everything):
    """One layout, with all options or none."""
    data, tensor, stages = mesh
    name = f"{model} dp{data} tp{tensor} pp{stages} " + ("all on" if everything else "plain")
    in_ci = (model, mesh, everything) in IN_CI
    return pytest.param(model, mesh, everything, id=name, marks=() if in_ci else pytest.mark.cluster)


EVERYTHING = {**ZERO, **SEQUENCE, **VOCABULARY, **RECOMPUTE}
IN_CI = {("starcoder2", (1, 2, 2), True), ("llama", (2, 2, 1), True)}
CASES = [
    case(model, mesh, everything)
    for model in ("wizardcoder", "starcoder2", "llama")
    for mesh in LAYOUTS
    for everything in (False, True)
]


@pytest.mark.parametrize("model, mesh, everything", CASES)
def test_a_layout_follows_one_process(model, mesh, everything, dataset, singles, tmp_path):  # noqa: F811
    # The tiny models of two families have two key heads, too few for four slices.
    heads = {"model.model_config.n_kv_heads": 4} if mesh[1] == 4 and model != "wizardcoder" else {}
    run(dataset, tmp_path, mesh, model=model, **heads, **(EVERYTHING if everything else {}))
    assert_same_run(tmp_path, singles(model, **heads))


OTHERS = [name for name in FAMILIES if name not in ("gpt_bigcode", "starcoder2", "llama")]


@pytest.mark.parametrize("mesh", [(1, 2, 1), (1, 2, 2)], ids=["tp2", "tp2 pp2, all on"])
@pytest.mark.parametrize("model", OTHERS)
def test_a_family_without_recipes_follows_one_process(model, mesh, dataset, singles, tmp_path):  # noqa: F811
    run(dataset, tmp_path / "run", mesh, model=model, **(EVERYTHING if mesh[2] > 1 else {}))
    assert_same_run(tmp_path / "run", singles(model))


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(SEQUENCE, id="sequence", marks=pytest.mark.cluster),
        pytest.param(VOCABULARY, id="vocabulary", marks=pytest.mark.cluster),
        pytest.param({**SEQUENCE, **VOCABULARY}, id="both", marks=pytest.mark.cluster),
    ],
)
def test_divided_rows_and_vocabulary_follow_one_process(more, dataset, singles, tmp_path):  # noqa: F811
    run(dataset, tmp_path, (1, 2, 1), **more)
    assert_same_run(tmp_path, singles("wizardcoder"))


@pytest.mark.cluster
def test_an_explicit_list_of_layers_and_fewer_micro_batches_than_stages(dataset, tmp_path):  # noqa: F811
    sets = {"model.model_config.num_layers": 5, "runner_config.gradient_accumulation_steps": 1}
    run_single(dataset, tmp_path / "one", ROWS, **{**sets, "runner_config.gradient_accumulation_steps": 2})
    mesh = {"parallel_config.micro_batch_num": 2, "model.model_config.offset": "[1,0,1]"}
    run(dataset, tmp_path / "three", (1, 1, 3), **sets, **mesh)
    assert_same_run(tmp_path / "three", tmp_path / "one")


def test_a_checkpoint_of_eight_resumes_and_answers_on_other_layouts(dataset, singles, tokenizer_folder, tmp_path):  # noqa: F811
    saving = {"callbacks.1.save_checkpoint_steps": 10, "callbacks.1.keep_checkpoint_max": 9, "do_eval": True}
    evaluated = ["--eval_dataset", str(dataset)]
    done = run(dataset, tmp_path / "eight", (2, 2, 2), *evaluated, **ZERO, **VOCABULARY, **saving)
    assert_same_run(tmp_path / "eight", singles("wizardcoder"))
    newest = tmp_path / "eight" / "checkpoint" / f"step_{STEPS:08d}"
    assert len(list(newest.glob("model-rank_*.safetensors"))) == 8  # written by all
    for name, mesh, more in (("one", (1, 1, 1), {}), ("slices", (1, 4, 1), SEQUENCE), ("stages", (1, 1, 2), {})):
        shutil.copytree(tmp_path / "eight", tmp_path / name)
        shutil.rmtree(tmp_path / name / "checkpoint" / f"step_{STEPS:08d}")
        if mesh == (1, 1, 1):
            run_single(dataset, tmp_path / name, ROWS, "--resume", **layout(*mesh))
        else:
            run(dataset, tmp_path / name, mesh, "--resume", **more)
        assert_same_run(tmp_path / name, singles("wizardcoder"))

    # The original scripts' distributed pipeline: rank_N/checkpoint_N.ckpt, four processes, one list of prompts.
    tree = tmp_path / "tree"
    made = python("convert", newest, tree, "--to", "ckpt", "--model_parallel", 2, "--pipeline_stage", 2)
    assert made.returncode == 0, made.stderr
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("sort a list\nreverse a string\n")
    flags = arguments(dataset, tmp_path / "out", 1, "wizardcoder", **{"model.model_config.max_new_tokens": 30})[5:]
    flags += ["--vocab_file", str(tokenizer_folder)]
    alone = python("predict", "--config", CONFIG, "--load_checkpoint", newest, "--predict_data", prompts, *flags,
                   "--output_file", tmp_path / "one.jsonl")  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    sets = [item for key, value in layout(1, 2, 2, **VOCABULARY).items() for item in ("--set", f"{key}={value}")]
    script = [REPOSITORY / "scripts" / "pipeline_dist.sh", CONFIG, tree, prompts, write_table(tmp_path, 4), "[0,4]", 4]
    more = ["--output_file", tmp_path / "four.jsonl", *flags, *sets]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    together = subprocess.run(
        ["bash", *map(str, [*script, *more])], capture_output=True, text=True, cwd=REPOSITORY, env=environment
    )
    assert together.returncode == 0, together.stderr
    answers = (tmp_path / "four.jsonl").read_text()
    assert len(answers.splitlines()) == 2 and answers == (tmp_path / "one.jsonl").read_text()

    measured = python("eval", "--config", CONFIG, "--load_checkpoint", newest, *evaluated, *flags)
    assert measured.returncode == 0, measured.stderr
    wanted, found = (next(line for line in text.splitlines() if line.startswith("eval: loss"))
                     for text in (measured.stdout, done.stdout))  # fmt: skip
    assert found == wanted


def python(*arguments):
    """``mindcoder`` in one process."""
    command = [sys.executable, "-m", "mindcoder.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)


@pytest.mark.parametrize(
    "sets, expected",
    [
        ({"parallel_config.model_parallel": 3}, "model_parallel: num_heads 4 is not divisible by 3"),
        (
            {
                "parallel_config.model_parallel": 3,
                "model.model_config.num_heads": 3,
                "model.model_config.hidden_size": 96,
                "model.model_config.intermediate_size": 512,
            },
            "model_parallel: intermediate_size 512 is not divisible by 3",
        ),
        (
            {"parallel_config.pipeline_stage": 3, "model.model_config.num_layers": 2},
            "leave one of 3 pipeline stages empty",
        ),
        (
            {"parallel_config.pipeline_stage": 3, "model.model_config.offset": "[1,1,1]"},
            "[1, 1, 1] makes 2+2+2 layers of 4",
        ),
    ],
)
def test_layouts_that_do_not_divide_are_refused(sets, expected, dataset, tmp_path):  # noqa: F811
    command = " ".join(["mindcoder", *arguments(dataset, tmp_path, 4, "wizardcoder", **sets), "--use_parallel", "True"])
    done = launch(command, 3, tmp_path)
    assert done.returncode == 2 and expected in done.stderr
    assert not (tmp_path / "log").exists()
