"""LoRA from the command line: a run, its checkpoints, resuming, merging, what goes wrong."""

from __future__ import annotations

import csv
import json
import shutil
from subprocess import CompletedProcess

import numpy as np
import pytest
from command import mindcoder
from conftest import SAMPLES

from mindcoder.checkpoint.store import list_steps
from mindcoder.checkpoint.weights import open_weights

SIZES = {
    "runner_config.epochs": 3,
    "runner_config.batch_size": 2,
    "model.model_config.seq_length": 256,
    "model.model_config.vocab_size": 700,
    "model.model_config.pad_token_id": 699,
    "model.model_config.hidden_size": 32,
    "model.model_config.num_layers": 1,
    "callbacks.1.save_checkpoint_steps": 20,
    "callbacks.1.keep_checkpoint_max": 9,
}
LORA = {
    "model.model_config.pet_config.lora_rank": 4,
    "model.model_config.pet_config.lora_dropout": 0.1,
    "model.model_config.pet_config.target_modules": ".*attention.*",
}


def run(mode: str, folder, name: str, *flags, **sets) -> CompletedProcess:
    settings = [text for key, value in {**SIZES, **sets}.items() for text in ("--set", f"{key}={value}")]
    data = {"eval": ("--eval_dataset", folder / "d.mindrecord"), "predict": ()}
    data = data.get(mode, ("--train_data", folder / "d.mindrecord"))
    where = ["--config", "configs/wizardcoder/tiny_finetune.yaml", *data]
    return mindcoder(mode, *where, "--output_dir", folder / name, *settings, *flags)


def losses(folder) -> list[str]:
    with open(folder / "curves" / "loss.csv", newline="") as stream:
        return [row["loss"] for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tokenizer_folder):
    """A dataset, a base model and an adapter for it."""
    folder = tmp_path_factory.mktemp("lora")
    tokenizer = ("--vocab_file", tokenizer_folder / "tokenizer.json")
    output = ("--seq_length", 256, "--packing", "--output_file", folder / "d.mindrecord")
    assert mindcoder("preprocess", "--input_glob", SAMPLES, *tokenizer, *output).returncode == 0
    done = run("finetune", folder, "base")
    assert done.returncode == 0, done.stderr
    done = run("finetune", folder, "adapter", "--load_checkpoint", folder / "base", **LORA)
    assert done.returncode == 0, done.stderr
    (folder / "screen").write_text(done.stderr)
    return folder


def test_a_run_trains_and_saves_the_adapter_only(workspace):
    screen = (workspace / "screen").read_text()
    # rank 4: (32 + 32) for query and output, (32 + 8) for key and value
    assert "LoRA rank 4 on 4 linear layers: 832 of " in screen and "parameters are trained (" in screen
    steps = list_steps(workspace / "adapter" / "checkpoint")
    assert len(steps) > 3
    assert (steps[-1] / "model.safetensors").stat().st_size < 12_000
    assert (steps[-1] / "optimizer.safetensors").stat().st_size < 24_000
    curve = np.array(losses(workspace / "adapter"), float)
    assert curve[-20:].mean() < curve[:20].mean()


def test_resuming_an_adapter_repeats_its_losses(workspace):
    shutil.copytree(workspace / "adapter", workspace / "cut")
    for step in list_steps(workspace / "cut" / "checkpoint")[1:]:
        shutil.rmtree(step)
    done = run("finetune", workspace, "cut", "--resume", "--load_checkpoint", workspace / "base", **LORA)
    assert done.returncode == 0 and "resuming after step 20" in done.stderr, done.stderr
    assert losses(workspace / "cut") == losses(workspace / "adapter")


def with_tokenizer(run, tokenizer, target):
    """A copy of a run that was not given its tokenizer, with it."""
    shutil.copytree(run, target)
    shutil.copytree(tokenizer, target / "tokenizer", dirs_exist_ok=True)
    return target


def test_an_adapter_counts_as_a_model_and_merges_into_one(workspace, tmp_path, tokenizer_folder):
    adapter, base = workspace / "adapter", workspace / "base"
    done = mindcoder("merge-lora", base, adapter, tmp_path / "hf")
    assert done.returncode == 0, done.stderr
    merged, own = open_weights(tmp_path / "hf").parameters(), open_weights(adapter).parameters()
    plain = open_weights(base).parameters()
    for name in own:
        assert (merged[name].read() == own[name].read()).all()
        is_adapted = ".attention." in name and name.endswith(".weight")
        assert np.array_equal(own[name].read(), plain[name].read()) is not is_adapted, name
    scores = [run("eval", workspace, "e", "--load_checkpoint", place).stdout for place in (adapter, tmp_path / "hf")]
    assert "perplexity" in scores[0] and scores[0] == scores[1]
    assert run("eval", workspace, "e", "--load_checkpoint", base).stdout != scores[0]
    complete = with_tokenizer(adapter, tokenizer_folder, tmp_path / "complete")
    exported = mindcoder("export-lora", complete, tmp_path / "peft", "--verify", SAMPLES)
    assert exported.returncode == 0 and "tensors" in exported.stdout, exported.stderr
    assert "verify: top-1 agreement 100.000 %" in exported.stdout
    assert json.loads((tmp_path / "peft" / "adapter_config.json").read_text())["rank_pattern"] == {"attn.c_attn": 12}
    assert run("eval", workspace, "e", "--load_checkpoint", tmp_path / "peft").stdout == scores[0]


def test_an_adapter_is_trained_on_integers_which_are_not_trained_themselves(workspace, tmp_path):
    integers, few = workspace / "int8", {"runner_config.epochs": 1}
    assert mindcoder("quantize", workspace / "base", integers, "--method", "w8a16").returncode == 0
    done = run("finetune", workspace, "refused", "--load_checkpoint", integers, **few)
    assert done.returncode == 2 and "is quantized (W8A16), and integers are not trained: train an" in done.stderr
    assert done.stderr.count("is quantized") == 1 and not (workspace / "refused" / "checkpoint").exists()
    assert mindcoder("convert", integers, tmp_path / "floats").returncode == 0
    curves, scores = [], []
    for name, base in (("on_integers", integers), ("on_floats", tmp_path / "floats")):
        done = run("finetune", workspace, name, "--load_checkpoint", base, **LORA, **few)
        assert done.returncode == 0, done.stderr
        curves.append(np.array(losses(workspace / name), float))
        scores.append(run("eval", workspace, "e", "--load_checkpoint", base).stdout)
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)
    assert scores[0] == scores[1] and "perplexity" in scores[0]
    done = run("eval", workspace, "e", "--load_checkpoint", workspace / "on_integers")  # merged into floats
    assert done.returncode == 0 and done.stdout != scores[0], done.stderr


def test_an_adapter_is_trained_on_codes(workspace, tmp_path):
    """QLoRA from YAML: the losses of its dequantized base, resumed, merged, evaluated."""
    wide, few = {"model.model_config.hidden_size": 64}, {"runner_config.epochs": 1}
    assert run("finetune", workspace, "wide", **wide, **few).returncode == 0
    done = mindcoder("quantize", workspace / "wide", workspace / "nf4", "--method", "nf4")
    assert done.returncode == 0, done.stderr
    assert mindcoder("convert", workspace / "nf4", tmp_path / "floats").returncode == 0
    curves = []
    for name, base in (("on_codes", workspace / "nf4"), ("on_their_floats", tmp_path / "floats")):
        done = run("finetune", workspace, name, "--load_checkpoint", base, **LORA, **wide, **few)
        assert done.returncode == 0, done.stderr
        curves.append(np.array(losses(workspace / name), float))
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)
    for step in list_steps(workspace / "on_codes" / "checkpoint")[1:]:
        shutil.rmtree(step)
    done = run(
        "finetune", workspace, "on_codes", "--resume", "--load_checkpoint", workspace / "nf4", **LORA, **wide, **few
    )
    assert done.returncode == 0 and "resuming after step 20" in done.stderr, done.stderr
    assert np.array_equal(np.array(losses(workspace / "on_codes"), float), curves[0])
    done = mindcoder("merge-lora", workspace / "nf4", workspace / "on_codes", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert "NF4; the adapter is merged into its values in floating point and the sum rounded to float32" in done.stderr
    scores = [
        run("eval", workspace, "e", "--load_checkpoint", place, **wide).stdout
        for place in (workspace / "on_codes", tmp_path / "merged")
    ]
    assert "perplexity" in scores[0] and scores[0] == scores[1]


def test_a_prefix_is_learned_resumed_and_used(workspace, tmp_path, tokenizer_folder):
    name = "model.model_config.pet_config"
    prefix = {f"{name}.pet_type": "ptuning2", f"{name}.pre_seq_len": 32, f"{name}.dropout_prob": 0.1}
    load = ("--load_checkpoint", workspace / "base")
    done = run("finetune", workspace, "prefix", *load, **prefix)
    assert done.returncode == 0 and "a prefix of 32 tokens in 1 layers: 512 of " in done.stderr, done.stderr
    steps = list_steps(workspace / "prefix" / "checkpoint")
    assert (steps[-1] / "model.safetensors").stat().st_size < 6_000
    shutil.copytree(workspace / "prefix", workspace / "prefix_cut")
    for step in list_steps(workspace / "prefix_cut" / "checkpoint")[1:]:
        shutil.rmtree(step)
    done = run("finetune", workspace, "prefix_cut", "--resume", *load, **prefix)
    assert done.returncode == 0 and "resuming after step 20" in done.stderr, done.stderr
    assert losses(workspace / "prefix_cut") == losses(workspace / "prefix")

    scores = [run("eval", workspace, "e", "--load_checkpoint", workspace / item).stdout for item in ("base", "prefix")]
    assert "perplexity" in scores[1] and scores[0] != scores[1]
    more = ("--predict_data", "Add two numbers.", "--predict_length", 130, "--vocab_file", tokenizer_folder)
    done = run("predict", tmp_path, "p", "--load_checkpoint", workspace / "prefix", *more)
    assert done.returncode == 0 and "tokens (" in done.stderr, done.stderr

    def refused(done, message) -> bool:
        return done.returncode == 2 and message in done.stderr

    assert refused(
        mindcoder("convert", workspace / "prefix", tmp_path / "x", "--to", "huggingface"), "cannot be merged"
    )
    assert refused(
        mindcoder("merge-lora", workspace / "base", workspace / "prefix", tmp_path / "x"), "cannot be merged"
    )
    complete = with_tokenizer(workspace / "prefix", tokenizer_folder, tmp_path / "complete")
    exported = mindcoder("export-lora", complete, tmp_path / "peft", "--verify", SAMPLES)
    assert exported.returncode == 0 and "1 tensors" in exported.stdout, exported.stderr
    assert "verify: top-1 agreement 100.000 %" in exported.stdout
    assert run("eval", workspace, "e", "--load_checkpoint", tmp_path / "peft").stdout == scores[1]
    again = run("finetune", workspace, "again", "--load_checkpoint", workspace / "prefix")
    assert refused(again, "train from the base model it belongs to")
    long = {**prefix, f"{name}.pre_seq_len": 16, "model.model_config.n_position": 260}
    assert refused(run("finetune", workspace, "long", **long), "more than the model's 260 positions")
    assert refused(run("finetune", workspace, "odd", **{**prefix, f"{name}.pre_seq_len": 17}), "multiple of 16")


def test_prompts_of_a_file_choose_their_adapter(workspace, tmp_path, tokenizer_folder):
    tokenizer = ("--vocab_file", tokenizer_folder / "tokenizer.json")
    shutil.copytree(workspace / "base", tmp_path / "base")
    assert mindcoder("export-lora", workspace / "adapter", tmp_path / "tuned").returncode == 0
    described = tmp_path / "tuned" / "adapter_config.json"
    values = json.loads(described.read_text())
    stronger = {key: value * 60 for key, value in values["alpha_pattern"].items()}  # so that it shows
    described.write_text(json.dumps({**values, "lora_alpha": values["lora_alpha"] * 60, "alpha_pattern": stronger}))
    asked = [{"instruction": "Add two numbers."}, {"instruction": "Add two numbers.", "adapter": "tuned"}]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(item) + "\n" for item in asked))

    def answers(load, *flags):
        output = tmp_path / "answers.jsonl"
        more = ("--predict_data", tmp_path / "prompts.jsonl", "--output_file", output, "--predict_length", 130)
        done = run("predict", tmp_path, "p", "--load_checkpoint", load, *more, *tokenizer, *flags)
        assert done.returncode == 0, done.stderr
        return [json.loads(line)["output"] for line in output.read_text().splitlines()]

    base, tuned = answers(tmp_path / "base", "--adapter", f"tuned={tmp_path / 'tuned'}")
    assert base != tuned
    (tmp_path / "prompts.jsonl").write_text(json.dumps(asked[0]) + "\n")
    assert answers(tmp_path / "base") == [base]
    assert answers(tmp_path / "tuned") == [tuned]  # merged into its base
    (tmp_path / "prompts.jsonl").write_text(json.dumps(asked[1]) + "\n")
    prompts = ("--predict_data", tmp_path / "prompts.jsonl", "--predict_length", 130, *tokenizer)
    done = run("predict", tmp_path, "p", "--load_checkpoint", tmp_path / "base", *prompts)
    assert done.returncode == 2 and "prompt 0 asks for adapter 'tuned'; available: none" in done.stderr


def test_mistakes_are_one_line(workspace, tmp_path):
    def line(done) -> str:
        assert done.returncode == 2
        return done.stderr.strip().splitlines()[-1]

    wrong = {**LORA, "model.model_config.pet_config.target_modules": ".*dense1"}
    assert "target_modules: '.*dense1' matches no linear layer" in line(run("finetune", workspace, "w", **wrong))
    unknown = run("finetune", workspace, "w", **{"model.model_config.pet_config.lora_rang": 4})
    assert "lora_rang" in line(unknown) and "lora_rank" in line(unknown)
    assert "is not an adapter" in line(mindcoder("merge-lora", workspace / "base", workspace / "base", tmp_path / "m"))
    shutil.copytree(workspace / "adapter", tmp_path / "run")
    shutil.move(workspace / "base", workspace / "gone")
    try:
        moved = line(run("eval", workspace, "e", "--load_checkpoint", tmp_path / "run"))
        assert "base model" in moved and "does not exist; merge-lora BASE ADAPTER OUT" in moved
        assert mindcoder("merge-lora", workspace / "gone", tmp_path / "run", tmp_path / "m").returncode == 0
    finally:
        shutil.move(workspace / "gone", workspace / "base")
