"""A tiny Qwen2.5-Coder with its own chat template: trained, asked, completed, exported; transformers says the same."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from command import mindcoder
from conftest import SAMPLES
from families import random_model
from own_templates import write_folder

from mindcoder.checkpoint.trained_format import trained_format
from mindcoder.generate.model import ModelRequest, open_model

pytestmark = pytest.mark.long

SHAPE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "rope_theta": 1e6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder as the published model's, the run that it was fine-tuned in, and the export of that."""
    folder = tmp_path_factory.mktemp("qwen")
    write_folder(folder / "hf", "qwen2.5", in_file=True)
    size = len(json.loads((folder / "hf" / "tokenizer.json").read_text())["model"]["vocab"])
    vocab = size + 2  # the added tokens
    ids = {"eos_token_id": 5, "bos_token_id": 5}  # <|endoftext|>: the base model's, not what ends an answer
    random_model("qwen2", layers=2, vocab_size=vocab, **SHAPE, **ids).save_pretrained(folder / "hf")
    records = sorted(json.loads(SAMPLES.read_text(encoding="utf-8")), key=lambda item: len(str(item)))[:4]
    turns = [
        {
            "messages": [
                {"role": "user", "content": item["instruction"]},
                {"role": "assistant", "content": item["output"]},
            ]
        }
        for item in records
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(item) + "\n" for item in turns))
    (folder / "run.yaml").write_text(
        "base: [models/tiny_qwen2, methods/tiny_finetune]\n"
        f"load_checkpoint: {folder / 'hf'}\n"
        f"output_dir: {folder / 'run'}\n"
        f"train_dataset: {{data_loader: {{dataset_dir: {folder / 'data.jsonl'}}}}}\n"
        "runner_config: {batch_size: 2, epochs: 60}\n"
        "lr_schedule: {learning_rate: 3.0e-3, warmup_steps: 5}\n"
        f"model: {{model_config: {{vocab_size: {vocab}, hidden_size: 64, num_layers: 2, num_heads: 4, n_kv_heads: 2, "
        "intermediate_size: 160, seq_length: 256, eos_token_id: 5, bos_token_id: 5, pad_token_id: 5}}\n"
    )
    done = mindcoder("finetune", "--config", folder / "run.yaml")
    assert done.returncode == 0, done.stderr
    done = mindcoder("convert", folder / "run", folder / "export")
    assert done.returncode == 0, done.stderr
    return folder, turns


def test_the_run_and_the_export_carry_the_models_own_template(trained):
    folder, _ = trained
    for place in ("run", "export"):
        found = trained_format(folder / place)
        assert found.template == "chat_template" and found.chat_template
    original = (folder / "hf" / "chat_template.jinja").read_text()
    assert (folder / "export" / "chat_template.jinja").read_text() == original
    model = open_model(ModelRequest(str(folder / "run"), max_length=256))
    assert (
        model.template == "chat_template" and model.tokenizer.backend.token_to_id("<|im_end|>") in model.engine.stop_ids
    )


def test_transformers_chats_with_the_export_identically(trained):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, turns = trained
    tokenizer = AutoTokenizer.from_pretrained(folder / "export")
    theirs = AutoModelForCausalLM.from_pretrained(folder / "export")
    ours = open_model(ModelRequest(str(folder / "export"), max_length=256))
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for item in turns:
        asked = item["messages"][:1]
        ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt")
        options = {"do_sample": False, "max_new_tokens": 60, "eos_token_id": end, "pad_token_id": end}
        done = theirs.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, ids.shape[1] :].tolist()
        answer = ours.chat(asked, max_new_tokens=60)
        assert answer.prompt_tokens == ids.shape[1]
        assert list(answer.tokens) == [token for token in done if token != end]
        whole = tokenizer.apply_chat_template(item["messages"], return_tensors="pt")
        labels = whole.clone()
        labels[:, : ids.shape[1]] = -100
        with torch.no_grad():
            assert theirs(whole, labels=labels).loss.item() < 2.5  # it has learned from 6 at random


def test_its_marks_complete_code(trained):
    folder, _ = trained
    (folder / "file.py").write_text("def f(x):\n<FILL_ME>\n    return y\n")
    (folder / "other.py").write_text("def g(x):\n    return x\n")
    done = mindcoder(
        "complete", folder / "export", "--file", folder / "file.py", "--related", folder / "other.py",
        "--repo_name", "r", "--max_output_length", 4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    missing = mindcoder("complete", folder / "export", "--prefix", "a", "--related", folder / "none.py")
    assert missing.returncode == 2 and "none.py" in missing.stderr and missing.stderr.count("\n") == 1


def test_another_template_is_said_and_a_changed_one_too(trained, tmp_path):
    folder, turns = trained
    asked = ("--input_text", turns[0]["messages"][0]["content"], "--max_output_length", 2)
    done = mindcoder("chat", folder / "run", *asked, "--template", "chatml")
    assert done.returncode == 0 and "template chatml is used; the model was trained with chat_template" in done.stderr
    shutil.copytree(folder / "export", tmp_path / "changed")
    file = tmp_path / "changed" / "chat_template.jinja"
    file.write_text(file.read_text().replace("You are Q.", "You are R."))
    done = mindcoder("chat", tmp_path / "changed", *asked)
    assert "is not the chat_template that the model was trained with" in done.stderr
    made = mindcoder(
        "preprocess", "--input_glob", folder / "data.jsonl", "--vocab_file", tmp_path / "changed", "--seq_length", 256,
        "--output_file", tmp_path / "d.mindrecord",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    command = (
        "finetune",
        "--config",
        folder / "run.yaml",
        "--output_dir",
        tmp_path / "run",
        "--template",
        "chat_template",
    )
    refused = mindcoder(*command, "--train_data", tmp_path / "d.mindrecord")
    assert refused.returncode == 2 and "was made with another chat_template" in refused.stderr
