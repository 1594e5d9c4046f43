"""From a Hugging Face folder through finetune and predict back to a folder that transformers runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, SAMPLES
from families import random_model, sentencepiece_model

from mindcoder.config.load import load_config
from mindcoder.families.from_section import config_from_section
from mindcoder.families.registry import FAMILIES, family_of

pytestmark = pytest.mark.long

# Without recipes. Granite's multipliers keep a tiny one from learning texts by heart in so few updates.
OTHERS = [name for name in FAMILIES if name not in ("gpt_bigcode", "starcoder2", "llama", "granite")]
MINDCODER = [sys.executable, "-m", "mindcoder.cli.main"]
SHAPES = {
    "starcoder": ("gpt_bigcode", {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_inner": 512, "n_positions": 512}),
    "starcoder2": (
        "starcoder2",
        {"hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 512, "sliding_window": 64, "rope_theta": 1e5},
    ),
    "llama": ("llama", {"hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 352, "rms_norm_eps": 1e-5}),
}


def run(*arguments: object) -> str:
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def make_huggingface_folder(model: str, folder: Path, tokenizer_folder: Path) -> None:
    """A random model with a tokenizer of its family's kind, as `save_pretrained` writes both."""
    family, shape = SHAPES[model] if model in SHAPES else (model, tiny_shape(model))
    if model == "llama":
        from transformers import LlamaTokenizerFast

        (folder.parent / "tokenizer.model").write_bytes(sentencepiece_model())
        file = str(folder.parent / "tokenizer.model")
        tokenizer = LlamaTokenizerFast(file, from_slow=True, add_prefix_space=True)
        tokenizer.save_pretrained(folder)
        ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": len(tokenizer)}
    else:
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tokenizer_folder / name, folder / name)
        ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 699, "vocab_size": 700}
    random_model(family, **{**shape, **ids}).save_pretrained(folder)


def tiny_shape(model: str) -> dict:
    """The sizes of ``models/tiny_<family>``, two layers of them, as fields of ``config.json``."""
    network = config_from_section(load_config(f"models/tiny_{model}")[0].model.settings)
    sizes = {"num_layers": 2, "max_position_embeddings": 320, "no_rope_layers": network.no_rope_layers[:1] and (1,)}
    fields = family_of(model).config_to_huggingface(replace(network, **sizes))
    return {name: value for name, value in fields.items() if name not in ("architectures", "model_type")}


def config_of(model: str, folder: Path) -> tuple[str | Path, list]:
    """Configuration and the command before its mode: a recipe with the original script, or parts with ours."""
    if model in SHAPES:
        return f"configs/{model}/tiny_finetune.yaml", [sys.executable, f"research/{model}/run_{model}.py", "--run_mode"]
    file = folder / "tiny_finetune.yaml"
    file.write_text(f"base: [models/tiny_{model}, methods/tiny_finetune]\n")
    return file, MINDCODER


def answer_loss(folder: Path, prompt: str, answer: str) -> float:
    """Transformers' mean loss of the answer's tokens."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer(prompt + answer, return_tensors="pt")["input_ids"]
    labels = ids.clone()
    labels[:, : tokenizer(prompt, return_tensors="pt")["input_ids"].shape[1]] = -100
    with torch.no_grad():
        return model(ids, labels=labels).loss.item()


def generate(folder: Path, prompt: str) -> str:
    """Transformers' greedy answer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer(prompt, return_tensors="pt")["input_ids"]
    output = model.generate(inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=60)
    return tokenizer.decode(output[0, inputs.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("model", [*SHAPES, *OTHERS])
def test_finetune_predict_and_export(model, tmp_path, tokenizer_folder):
    from mindcoder.data.prompt import build_prompt

    make_huggingface_folder(model, tmp_path / "hf", tokenizer_folder)
    records = sorted(json.loads(SAMPLES.read_text(encoding="utf-8")), key=lambda item: len(str(item)))[:6]
    (tmp_path / "samples.json").write_text(json.dumps(records))
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    file, command = config_of(model, tmp_path)
    common = ["--config", file, "--output_dir", tmp_path / "run"]
    sizes = {
        "num_layers": 2,
        "vocab_size": config["vocab_size"],
        "seq_length": 256,
        "eos_token_id": config["eos_token_id"],
        "bos_token_id": config["bos_token_id"],
        "pad_token_id": config["pad_token_id"],
    }
    if model == "starcoder2":
        sizes["sliding_window"] = 64
    if model != "starcoder":
        sizes["max_position_embedding"] = 320
    if model == "smollm3":
        sizes["no_rope_layer_interval"] = 2
    for name, value in sizes.items():
        common += ["--set", f"model.model_config.{name}={value}"]

    run(
        *MINDCODER, "preprocess", "--input_glob", tmp_path / "samples.json", "--vocab_file", tmp_path / "hf",
        "--seq_length", 256, "--output_file", tmp_path / "samples.mindrecord",
    )  # fmt: skip
    run(
        *command, "finetune", *common, "--load_checkpoint", tmp_path / "hf",
        "--train_data", tmp_path / "samples.mindrecord", "--set", "runner_config.batch_size=3",
        "--set", "runner_config.epochs=40", "--set", "lr_schedule.warmup_steps=5",
    )  # fmt: skip
    record = records[0]
    ours = run(
        *command, "predict", *common, "--load_checkpoint", tmp_path / "run",
        "--predict_data", record["instruction"], "--set", "model.model_config.max_new_tokens=60",
    ).strip("\n")  # fmt: skip

    run(*MINDCODER, "convert", tmp_path / "run", tmp_path / "export")
    prompt = build_prompt(record["instruction"], record.get("input", ""))
    before, after = (answer_loss(tmp_path / name, prompt, record["output"]) for name in ("hf", "export"))
    assert before > 3 and after < 0.5, (before, after)
    assert generate(tmp_path / "export", build_prompt(record["instruction"])).strip("\n") == ours
    assert "parameters" in run(*MINDCODER, "inspect", tmp_path / "run")
