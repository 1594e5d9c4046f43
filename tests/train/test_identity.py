"""Resuming has to go on with the same run: what changed is said, and what decides the numbers is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, SAMPLES
from safetensors.numpy import save_file

from mindcoder.checkpoint.fingerprint import weights_digest
from mindcoder.checkpoint.manifest import digest
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.safetensors_file import list_safetensors
from mindcoder.checkpoint.store import list_steps
from mindcoder.cli.arguments import CHANGE_GROUPS
from mindcoder.cli.main import main
from mindcoder.data.content import content_digest
from mindcoder.train.identity import GROUPS

CONFIG = REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml"
SETTINGS = {
    "runner_config.max_steps": 4,
    "runner_config.batch_size": 2,
    "model.model_config.seq_length": 128,
    "model.model_config.vocab_size": 700,
    "model.model_config.pad_token_id": 699,
    "model.model_config.hidden_size": 32,
    "model.model_config.num_layers": 1,
}


def finetune(folder: Path, name: str, *extra: object, data="d.mindrecord", sets=None) -> int:
    settings = {**SETTINGS, **(sets or {})}
    flags = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    command = ["finetune", "--config", CONFIG, "--train_data", folder / data, "--output_dir", folder / name]
    return main([*map(str, command), *flags, *map(str, extra)])


def preprocess(target: Path, records: Path, vocabulary: Path) -> None:
    asked = ["preprocess", "--input_glob", records, "--vocab_file", vocabulary, "--seq_length", 128, "--workers", 1]
    assert main([*map(str, asked), "--output_file", str(target)]) == 0


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tokenizer_folder):
    """Two datasets of as many rows, and a run of four updates on the first, stopped after two."""
    folder = tmp_path_factory.mktemp("identity")
    records = json.loads(SAMPLES.read_text(encoding="utf-8"))
    records[3]["output"] = records[3]["output"][::-1]
    (folder / "other.json").write_text(json.dumps(records))
    preprocess(folder / "d.mindrecord", SAMPLES, tokenizer_folder)
    preprocess(folder / "same.mindrecord", SAMPLES, tokenizer_folder)
    preprocess(folder / "other.mindrecord", folder / "other.json", tokenizer_folder)
    assert finetune(folder, "run", sets={"callbacks.1.save_checkpoint_steps": 2}) == 0
    shutil.rmtree(list_steps(folder / "run" / "checkpoint")[-1])
    return folder


def test_the_flags_groups_are_those_that_are_compared():
    assert CHANGE_GROUPS == GROUPS


@pytest.mark.parametrize(
    "group, change, told",
    [
        ("data", {"data": "other.mindrecord"}, "the data have other contents (digest "),
        ("seed", {"extra": ["--seed", 7]}, "seed 0 → 7"),
        ("data", {"sets": {"train_dataset.data_loader.shuffle": False}}, "shuffle True → False"),
        ("lr", {"sets": {"lr_schedule.learning_rate": 1e-5}}, "learning_rate 0.003 → 1e-05"),
        ("lr", {"sets": {"lr_schedule.warmup_steps": 3}}, "warmup_steps 20 → 3"),
        ("lr", {"sets": {"lr_schedule.lr_end": 1e-5}}, "lr_end 0.0001 → 1e-05"),
        ("optimizer", {"sets": {"optimizer.weight_decay": 0.5}}, "weight_decay 0.01 → 0.5"),
        ("optimizer", {"sets": {"runner_wrapper.max_grad_norm": 9.0}}, "max_grad_norm 1.0 → 9.0"),
        ("model", {"sets": {"model.model_config.dropout_prob": 0.25}}, "dropout"),
    ],
)
def test_what_decides_the_numbers_is_refused_by_name(group, change, told, workspace, capsys):
    before = {path: path.stat().st_mtime_ns for path in (workspace / "run" / "checkpoint").rglob("*")}
    arguments = {"data": change.get("data", "d.mindrecord"), "sets": change.get("sets")}
    assert finetune(workspace, "run", "--resume", *change.get("extra", ()), **arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "would not be the same run as before step 2" in error and told in error
    assert error.endswith(f"--allow_changes {group}")
    assert {path: path.stat().st_mtime_ns for path in (workspace / "run" / "checkpoint").rglob("*")} == before


def test_all_changes_are_named_at_once_and_allowing_some_is_not_enough(workspace, capsys):
    sets = {"lr_schedule.learning_rate": 1e-5}
    assert finetune(workspace, "run", "--resume", "--seed", 7, "--allow_changes", "lr", sets=sets) == 2
    error = capsys.readouterr().err
    assert "seed 0 → 7" in error and "learning_rate" not in error and error.strip().endswith("--allow_changes seed")
    with pytest.raises(SystemExit):
        finetune(workspace, "run", "--resume", "--allow_changes", "lr,sed")
    assert "no group 'sed'; available: data, seed, lr" in capsys.readouterr().err


def test_an_allowed_change_is_said_and_taken(workspace, capsys):
    shutil.copytree(workspace / "run", workspace / "allowed")
    sets = {"lr_schedule.learning_rate": 1e-5}
    allowed = ("--resume", "--allow_changes", "data, lr")
    assert finetune(workspace, "allowed", *allowed, data="other.mindrecord", sets=sets) == 0
    said = capsys.readouterr().err
    assert "from step 3 on, as allowed: the data have other contents" in said and "learning_rate 0.003 → 1e-05" in said
    assert len(list_steps(workspace / "allowed" / "checkpoint")) == 2


def test_harmless_changes_are_one_line_and_a_longer_run_says_what_happens_to_its_rate(workspace, capsys):
    shutil.copytree(workspace / "run", workspace / "longer")
    sets = {"runner_config.max_steps": 3, "runner_config.batch_size": 1, "lr_schedule.warmup_steps": 0}
    sets |= {"runner_config.gradient_accumulation_steps": 2, "callbacks.1.save_checkpoint_steps": 9}
    assert finetune(workspace, "longer", "--resume", "--allow_changes", "lr", data="same.mindrecord", sets=sets) == 0
    said = capsys.readouterr().err
    line = next(line for line in said.splitlines() if line.startswith("changed since step 2, the same run: "))
    for text in ("batch_size 2 → 1", "max_steps 4 → 3", "total_steps 4 → 3", "save_checkpoint_steps 2 → 9"):
        assert text in line
    assert "other contents" not in said, "the same rows in a file of another name"


def test_a_run_made_longer_says_what_its_schedule_becomes():
    from dataclasses import asdict, replace

    from mindcoder.train.identity import Identity, compare
    from mindcoder.train.schedule import Schedule

    schedule = Schedule("cosine", 1e-3, 10)
    groups = {"lr": {"learning_rate": 1e-3}, "seed": {"seed": 0}}
    before = Identity(groups, {"total_steps": 10}, asdict(schedule)).as_dict()
    now = Identity(groups, {"total_steps": 20}, asdict(replace(schedule, total_steps=20)))
    lines = compare({"step": 8, "identity": json.loads(json.dumps(before))}, now, (), Path("x"))
    assert lines[0] == "changed since step 8, the same run: total_steps 10 → 20"
    assert lines[1].startswith("the run has another length, and its schedule with it: step 9 has learning rate ")
    assert "6.545e-04 instead of 9.549e-05" in lines[1]


def test_a_checkpoint_of_an_older_version_cannot_be_compared_and_says_so(workspace, capsys):
    shutil.copytree(workspace / "run", workspace / "old")
    folder = list_steps(workspace / "old" / "checkpoint")[-1]
    state = json.loads((folder / "state.json").read_text())
    del state["identity"]
    (folder / "state.json").write_text(json.dumps(state))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["state.json"] = {
        "bytes": (folder / "state.json").stat().st_size,
        "sha256": digest(folder / "state.json"),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert finetune(workspace, "old", "--resume", "--seed", 3) == 2
    assert "seed 0 → 3" in capsys.readouterr().err
    assert finetune(workspace, "old", "--resume") == 0
    assert "of an older version and does not say with which data" in capsys.readouterr().err


def test_the_datas_digest_is_found_again_by_sizes_and_times(tmp_path):
    class Counting:
        files = [tmp_path / "rows"]
        calls = 0

        def digest(self):
            self.calls += 1
            return f"digest {self.calls}"

    loader, cache = Counting(), tmp_path / "cache" / "digests.json"
    loader.files[0].write_text("rows")
    assert [content_digest(loader, cache) for _ in range(2)] == ["digest 1"] * 2
    loader.files[0].write_text("other rows")
    assert content_digest(loader, cache) == "digest 2"
    cache.write_bytes(b"\xff[")
    assert content_digest(loader, cache) == "digest 3"
    before = loader.files[0].stat()
    loader.files[0].write_text("third rows")  # as many bytes
    os.utime(loader.files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert content_digest(loader, cache) == "digest 4"
    (tmp_path / "copy").write_text("fourth row")
    os.utime(tmp_path / "copy", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(tmp_path / "copy", loader.files[0])
    assert content_digest(loader, cache) == "digest 5"


def test_an_adapter_goes_on_with_its_own_base_only(workspace, capsys):
    sets = {"model.model_config.pet_config.pet_type": "lora", "callbacks.1.save_checkpoint_steps": 2}
    shutil.copytree(workspace / "run", workspace / "base")
    assert finetune(workspace, "other base", "--seed", 3, sets={"runner_config.max_steps": 1}) == 0
    assert finetune(workspace, "lora", "--load_checkpoint", workspace / "base", sets=sets) == 0
    shutil.rmtree(list_steps(workspace / "lora" / "checkpoint")[-1])
    capsys.readouterr()
    for base in (("--load_checkpoint", workspace / "other base"), ()):
        assert finetune(workspace, "lora", "--resume", *base, sets=sets) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert "the base model has other weights (digest " in error and error.endswith("--allow_changes model")
    moved = workspace / "base moved"
    (workspace / "base").rename(moved)
    assert finetune(workspace, "lora", "--resume", "--load_checkpoint", moved, sets=sets) == 0
    assert "resuming after step 2" in capsys.readouterr().err


def test_a_base_is_known_by_its_values_wherever_they_lie(tmp_path):
    def plans(name: str, change: float = 0.0):
        values = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.full(2, change, np.float32)}
        save_file(values, tmp_path / name)
        tensors = list_safetensors(tmp_path / name)
        return {key: TensorPlan(key, tensor.shape, tensor.dtype, (tensor,)) for key, tensor in tensors.items()}

    first = weights_digest(plans("x.safetensors"))
    assert weights_digest(plans("y.safetensors")) == first != weights_digest(plans("x.safetensors", 1.0))
    assert weights_digest({name: plan.with_dtype("F16") for name, plan in plans("x.safetensors").items()}) != first
