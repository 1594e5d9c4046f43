"""Layouts on the emulator, started as users do from a rank table, against one process of MindSpore's CPU backend."""

from __future__ import annotations

import os
import shutil
import signal
import time

import psutil
import pytest
from conftest import SAMPLES
from emulated_runs import (
    assert_same_losses,
    assert_same_weights,
    entry,
    finish,
    losses,
    on_cpu,
    on_emulator,
    start_ranks,
)

from mindcoder.data.preprocess import PreprocessOptions, preprocess

pytestmark = pytest.mark.long

ROWS, MICRO_BATCHES, STEPS = 4, 2, 4  # of a micro batch over all data ranks, of an update, of a run
SETS = {
    "model.model_config.seq_length": 128,
    "model.model_config.num_layers": 2,
    "model.model_config.vocab_size": 701,  # divisible by no number of slices
    "model.model_config.pad_token_id": 699,
    "lr_schedule.warmup_steps": 1,
    "lr_schedule.learning_rate": 3e-4,
    "optimizer.eps": 1e-6,
    "runner_config.epochs": STEPS,
    "runner_config.max_steps": STEPS,
}
ZERO = {"parallel_config.optimizer_shard": True}
SEQUENCE = {"parallel_config.use_seq_parallel": True}
VOCABULARY = {"parallel_config.vocab_emb_dp": False}
RECOMPUTE = {"recompute_config.recompute": True}
EVERYTHING = {**ZERO, **SEQUENCE, **VOCABULARY, **RECOMPUTE}
LORA = {
    "model.model_config.pet_config.lora_rank": 4,
    "model.model_config.pet_config.lora_dropout": 0.0,
    "model.model_config.pet_config.target_modules": ".*",
    "lr_schedule.learning_rate": 3e-3,
}
CONTEXT = {"parallel_config.context_parallel": 2}
FOUR_LAYERS = {"model.model_config.num_layers": 4}
FOUR_KEY_HEADS = {"model.model_config.n_kv_heads": 4}
BFLOAT16 = {"model.model_config.compute_dtype": "bfloat16"}
EVERY_STEP = {"callbacks.1.save_checkpoint_steps": 1, "callbacks.1.keep_checkpoint_max": 9}


@pytest.fixture(scope="module")
def dataset(small_tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "samples.mindrecord"
    preprocess(PreprocessOptions(str(SAMPLES), path, 128, True, workers=1, show_progress=False), small_tokenizer)
    return path


def arguments(dataset, output, mesh=(1, 1, 1), model="wizardcoder", resume=False, **sets) -> list[str]:
    """Of a run on ``mesh`` (data, tensor, stages); each update takes the same rows on every mesh."""
    data, tensor, stages = mesh
    micro = "parallel_config.micro_batch_num" if stages > 1 else "runner_config.gradient_accumulation_steps"
    names = ("data_parallel", "model_parallel", "pipeline_stage")
    settings = {
        **SETS,
        **{f"parallel_config.{name}": size for name, size in zip(names, mesh)},
        "runner_config.batch_size": ROWS // data,
        micro: MICRO_BATCHES,
        **sets,
    }
    flags = {"resume": None} if resume else {}
    config = f"configs/{model}/tiny_finetune.yaml"
    return entry("finetune", model, config=config, train_data=dataset, output_dir=output, **flags, **settings)


def run_ranks(dataset, output, mesh, **more) -> None:
    data, tensor, stages = mesh
    ranks = data * tensor * stages * more.get("parallel_config.context_parallel", 1)
    code, errors, _ = finish(start_ranks(arguments(dataset, output, mesh, **more), ranks, output))
    assert code == 0, errors[-4000:]


@pytest.fixture(scope="module")
def singles(dataset, tmp_path_factory):
    """Folders of runs in one CPU process, made when first asked for, with a checkpoint of every update."""
    made = {}

    def of(**more):
        key = tuple(sorted(more.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("single")
            on_cpu(arguments(dataset, made[key], **EVERY_STEP, **more))
        return made[key]

    return of


def case(name, mesh, *, single=None, **options):
    """``single``: what the one process has too; ``options``: of the ranks alone."""
    return pytest.param(mesh, single or {}, options, id=name)


CASES = [
    case("data2-zero", (2, 1, 1), **ZERO),
    case("stages2", (1, 1, 2)),
    case("slices4-all", (1, 4, 1), **EVERYTHING),
    case("stages4", (1, 1, 4), single=FOUR_LAYERS),
    case("data2-slices2-all", (2, 2, 1), **EVERYTHING),
    case("slices2-stages2-all", (1, 2, 2), single={"model": "starcoder2"}, **EVERYTHING),
    case("eight-all", (2, 2, 2), **EVERYTHING),
    case("eight-zero", (2, 4, 1), single={"model": "llama", **FOUR_KEY_HEADS}, **ZERO),
    case("context2", (1, 1, 1), single={"model": "llama"}, **CONTEXT),
    case("context2-data2-zero", (2, 1, 1), single={"model": "llama"}, **CONTEXT, **ZERO),
    case("context2-slices2-all", (1, 2, 1), single={"model": "starcoder2"}, **CONTEXT, **EVERYTHING),
    case("lora-data2-zero", (2, 1, 1), single=LORA, **ZERO),
    case("lora-slices2-stages2-all", (1, 2, 2), single={"model": "llama", **LORA}, **EVERYTHING),
]


@pytest.mark.cluster
@pytest.mark.parametrize("mesh, single, options", CASES)
def test_ranks_on_the_emulator_follow_one_cpu_process(mesh, single, options, dataset, singles, tmp_path):
    run_ranks(dataset, tmp_path, mesh, **single, **options)
    assert_same_losses(tmp_path, singles(**single), STEPS)
    assert_same_weights(tmp_path, singles(**single))


@pytest.mark.cluster
@pytest.mark.parametrize("mesh, options", [((2, 2, 1), EVERYTHING), ((1, 2, 2), SEQUENCE)])
def test_bfloat16_ranks_follow_one_process_of_the_emulator(mesh, options, dataset, tmp_path):
    """Flash attention on slices of the heads; other partial sums are rounded to 8 bits, so within 1 %."""
    single = {"model": "llama", **BFLOAT16}
    on_emulator(arguments(dataset, tmp_path / "one", **single))
    run_ranks(dataset, tmp_path / "ranks", mesh, **single, **options)
    assert_same_losses(tmp_path / "ranks", tmp_path / "one", STEPS, within=1e-2)


@pytest.mark.cluster
def test_slices_follow_one_process_and_cpu_and_replicas_go_on(dataset, singles, tmp_path):
    """Written by two tensor-parallel ranks half-way; continued by one CPU process, and by two replicas with ZeRO-1."""
    slices, one, zero = (tmp_path / name for name in ("slices", "one", "zero"))
    run_ranks(dataset, slices, (1, 2, 1), **SEQUENCE, **VOCABULARY, **EVERY_STEP)
    assert_same_losses(slices, singles(), STEPS)
    half = forget_after(slices, STEPS // 2)
    assert len(list(half.glob("model-rank_*.safetensors"))) == 2  # written by both
    for folder in (one, zero):
        shutil.copytree(slices, folder)
    on_cpu(arguments(dataset, one, resume=True))
    run_ranks(dataset, zero, (2, 1, 1), resume=True, **ZERO)
    for folder in (one, zero):
        assert_same_losses(folder, singles(), STEPS)
        assert_same_weights(folder, singles())


@pytest.mark.cluster
@pytest.mark.parametrize("mesh, options", [((2, 1, 1), ZERO), ((1, 2, 2), EVERYTHING), ((1, 1, 1), {})])
def test_a_checkpoint_of_cpu_resumes_on_ranks_of_the_emulator(mesh, options, dataset, singles, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(singles(), output)
    forget_after(output, STEPS // 2)
    if mesh == (1, 1, 1):
        on_emulator(arguments(dataset, output, resume=True))
    else:
        run_ranks(dataset, output, mesh, resume=True, **options)
    assert_same_losses(output, singles(), STEPS)
    assert_same_weights(output, singles())


def forget_after(output, step: int):
    """Remove later checkpoints; gives the folder of ``step``'s."""
    for folder in (output / "checkpoint").glob("step_*"):
        if int(folder.name[5:]) > step:
            shutil.rmtree(folder)
    return output / "checkpoint" / f"step_{step:08d}"


@pytest.mark.cluster
def test_a_killed_rank_ends_the_job_and_one_cpu_process_goes_on(dataset, tmp_path):
    long = {**EVERY_STEP, "runner_config.epochs": 60, "runner_config.max_steps": 60, "lr_schedule.learning_rate": 1e-4}
    ranks = arguments(dataset, tmp_path / "run", (2, 1, 1), **ZERO, **long)
    process = start_ranks(ranks, 2, tmp_path / "run")
    limit = time.monotonic() + 300
    while not (tmp_path / "run" / "checkpoint" / "step_00000003").is_dir():
        assert time.monotonic() < limit and process.poll() is None
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    (victim,) = [child for child in children if child.environ().get("RANK_ID") == "1"]
    began = time.monotonic()
    os.kill(victim.pid, signal.SIGKILL)
    code, errors, _ = finish(process, 60)
    assert time.monotonic() - began < 60
    assert code == 137 and "rank 1 was killed by SIGKILL; its log: " in errors
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    kept = max(int(path.name[5:]) for path in (tmp_path / "run" / "checkpoint").glob("step_*"))
    shorter = {**long, "callbacks.1.save_checkpoint_steps": 60}
    on_cpu(arguments(dataset, tmp_path / "run", resume=True, **shorter))
    on_cpu(arguments(dataset, tmp_path / "one", **shorter))
    assert kept < 60
    assert_same_losses(tmp_path / "run", tmp_path / "one", 60, within=3e-4)  # sixty steps amplify the order of sums


def test_losses_of_all_updates_are_compared(tmp_path):
    """The comparison itself: another loss, or one that is missing, fails."""
    for name, text in (
        ("a", "step,loss\n1,2.0\n2,1.0\n"),
        ("b", "step,loss\n1,2.0\n2,1.0001\n"),
        ("c", "step,loss\n1,2\n"),
    ):
        (tmp_path / name / "curves").mkdir(parents=True)
        (tmp_path / name / "curves" / "loss.csv").write_text(text)
    assert losses(tmp_path / "a") == {1: 2.0, 2: 1.0}
    assert_same_losses(tmp_path / "a", tmp_path / "a", 2)
    for other in ("b", "c"):
        with pytest.raises(AssertionError):
            assert_same_losses(tmp_path / "a", tmp_path / other, 2)
