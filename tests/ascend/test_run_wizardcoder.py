"""``run_wizardcoder.py`` from end to end on the emulator, in every ``--run_mode``, against MindSpore's CPU backend."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from ascend_models import MOVEMENTS
from conftest import SAMPLES
from emulated_runs import assert_same_losses, assert_same_weights, entry, on_cpu, on_emulator

pytestmark = pytest.mark.long

CONFIG, STEPS = "configs/wizardcoder/tiny_finetune.yaml", 6
SETS = {
    "model.model_config.seq_length": 128,
    "model.model_config.num_layers": 2,
    "model.model_config.vocab_size": 700,
    "model.model_config.pad_token_id": 699,
    "model.model_config.max_new_tokens": 12,
    "runner_config.batch_size": 4,
    "runner_config.epochs": STEPS,
    "runner_config.max_steps": STEPS,
    "lr_schedule.warmup_steps": 1,
    "lr_schedule.learning_rate": 1e-3,
    "optimizer.eps": 1e-6,
}
LORA = {"model.model_config.pet_config.lora_rank": 4, "model.model_config.pet_config.lora_dropout": 0.0}


def evaluated(printed: str) -> float:
    """The loss of ``eval: loss 1.234, …``."""
    (loss,) = re.findall(r"^eval: loss ([0-9.]+)", printed, re.MULTILINE)
    return float(loss)


def test_train_finetune_eval_and_predict_equal_cpu(tokenizer_folder, tmp_path):
    """Text in, a model trained from nothing, an adapter on it, its loss, its answers: the same on both devices."""
    prompts, common = tmp_path / "prompts.txt", {"config": CONFIG, "vocab_file": tokenizer_folder, **SETS}
    prompts.write_text("sort a list\nreverse a string\n", encoding="utf-8")
    losses, answers, log = [], [], tmp_path / "log.jsonl"
    for place, run in ((tmp_path / "cpu", on_cpu), (tmp_path / "ascend", lambda it: on_emulator(it, log))):
        whole, tuned = place / "whole", place / "tuned"
        run(entry("train", train_data=SAMPLES, output_dir=whole, **common))
        run(entry("finetune", train_data=SAMPLES, load_checkpoint=whole, output_dir=tuned, **common, **LORA))
        common_eval = {"load_checkpoint": tuned, "output_dir": place / "out", **common}
        losses.append(evaluated(run(entry("eval", eval_dataset=SAMPLES, **common_eval))))
        file = place / "answers.jsonl"
        run(entry("predict", predict_data=prompts, output_file=file, **common_eval))
        answers.append([json.loads(line)["output"] for line in file.read_text(encoding="utf-8").splitlines()])
    for place, device in (("cpu", "CPU"), ("ascend", "Ascend")):
        assert json.loads((tmp_path / place / "tuned" / "run.json").read_text())["device"] == device
        assert f": device: {device}\n" in (tmp_path / place / "tuned" / "log" / "mindcoder.log").read_text()
    for name in ("whole", "tuned"):
        assert_same_losses(tmp_path / "ascend" / name, tmp_path / "cpu" / name, STEPS)
        assert_same_weights(tmp_path / "ascend" / name, tmp_path / "cpu" / name)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert answers[0] == answers[1] and len(answers[0]) == 2 and any(answers[0])
    assert set(kernels(log, "aclop")) <= MOVEMENTS
    used = kernels(log, "aclnn")
    assert used["aclnnApplyAdamWV2"] and used["aclnnSoftmax"]


def kernels(log: Path, interface: str) -> Counter:
    """How often each kernel of ``aclnn`` or ``aclop`` ran."""
    events = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return Counter(event["name"] for event in events if event["event"] == interface)
