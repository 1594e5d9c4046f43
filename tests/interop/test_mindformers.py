"""The original scripts on MindFormers: pipeline and Trainer with our classes."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, SAMPLES

from mindcoder.data.preprocess import PreprocessOptions, preprocess

HEAD = """
    import sys
    sys.path.insert(0, {research!r})
    from wizardcoder_config import WizardCoderConfig
    from wizardcoder import WizardCoderLMHeadModel
    from wizardcoder_tokenizer import WizardCoderTokenizer
    import mindspore as ms
    ms.set_context(mode=0, device_target={device!r})
"""

PIPELINE = (
    HEAD
    + """
    from mindformers import pipeline
    config = WizardCoderConfig(use_past=True, batch_size=1, seq_length=256, n_position=320, vocab_size=700,
                               hidden_size=48, num_layers=3, num_heads=4, intermediate_size=112, pad_token_id=699,
                               eos_token_id=0, param_init_type="float32", compute_dtype="float32",
                               softmax_dtype="float32", checkpoint_name_or_path={checkpoint!r})
    network = WizardCoderLMHeadModel(config)
    network.set_train(False)
    tokenizer = WizardCoderTokenizer({tokenizer!r} + "/vocab.json", {tokenizer!r} + "/merges.txt")
    generate = pipeline(task="text_generation", model=network, tokenizer=tokenizer)
    print("ANSWER", ascii(generate(["def f(x):"], do_sample=False, max_length=40)[0]["text_generation_text"][0]))
"""
)

TRAINER = (
    HEAD
    + """
    import mindspore.dataset as ds
    from mindformers import Trainer, TrainingArguments
    config = WizardCoderConfig(batch_size=4, seq_length=256, n_position=320, vocab_size=700, hidden_size=48,
                               num_layers=2, num_heads=4, pad_token_id=699, param_init_type="float32",
                               compute_dtype="float32", softmax_dtype="float32")
    dataset = ds.MindDataset({dataset!r}, columns_list=["input_ids", "labels"], shuffle=False).batch(4, True)
    arguments = TrainingArguments(output_dir={output!r}, num_train_epochs=4, per_device_train_batch_size=4,
                                  learning_rate=5e-3, sink_mode=False, use_parallel=False, save_steps=1000,
                                  warmup_steps=0, logging_steps=1)
    Trainer(task="text_generation", model=WizardCoderLMHeadModel(config), args=arguments,
            train_dataset=dataset).train()
"""
)


OTHER_FAMILIES = """
    import sys
    sys.path.insert(0, {research!r})
    from {module} import {prefix}Config, {prefix}ForCausalLM, {tokenizer_class}
    import mindspore as ms
    ms.set_context(mode=0, device_target={device!r})
    from mindformers import pipeline
    config = {prefix}Config(use_past=True, batch_size=1, seq_length=256, vocab_size=700, hidden_size=48, num_layers=3,
                            num_heads=4, n_kv_heads=2, intermediate_size=112, pad_token_id=699, bos_token_id=0,
                            eos_token_id=0, max_position_embedding=320, param_init_type="float32",
                            compute_dtype="float32", checkpoint_name_or_path={checkpoint!r}, {more})
    network = {prefix}ForCausalLM(config)
    network.set_train(False)
    tokenizer = {tokenizer_class}({tokenizer!r})
    generate = pipeline(task="text_generation", model=network, tokenizer=tokenizer)
    print("ANSWER", ascii(generate(["def f(x):"], do_sample=False, max_length=40)[0]["text_generation_text"][0]))
"""


def run(code: str, folder: Path, research: str = "wizardcoder", environment: dict | None = None, **names) -> str:
    """What the program prints; ``environment`` is the emulated Ascend's, else it runs on CPU."""
    return run_files([written(code, folder / "script.py", research, environment, **names)], folder, environment)


def written(code: str, file: Path, research: str, environment: dict | None = None, **names) -> Path:
    """The program with its names filled in, as a file."""
    device = "CPU" if environment is None else "Ascend"
    names |= {"research": str(REPOSITORY / "research" / research), "device": device}
    file.write_text(textwrap.dedent(code).format(**names))
    return file


def run_files(files: list[Path], folder: Path, environment: dict | None = None) -> str:
    """What the programs print, one after the other in one process."""
    all_of_them = "import runpy, sys\nfor file in sys.argv[1:]: runpy.run_path(file, run_name='__main__')"
    command = [sys.executable, "-c", all_of_them, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


OTHERS = {
    "starcoder2": {"module": "starcoder2", "prefix": "StarCoder2", "more": "sliding_window=16",
                   "tokenizer_class": "StarCoder2Tokenizer"},
    "llama": {"module": "code_llama", "prefix": "CodeLlama", "more": "rms_norm_eps=1e-6",
              "tokenizer_class": "CodeLlamaCodeTokenizer"},
}  # fmt: skip


@pytest.fixture(scope="module")
def pipelines(hf_folder, tokenizer_folder, tmp_path_factory):
    """By family, transformers' model, and what its program says; MindFormers is imported once for all three."""
    place = tmp_path_factory.mktemp("pipelines")
    tokenizer = str(tokenizer_folder)
    model, _, folder = hf_folder(vocab_size=700, multi_query=True)
    models = {"wizardcoder": model}
    files = [written(PIPELINE, place / "0.py", "wizardcoder", checkpoint=str(folder), tokenizer=tokenizer)]
    for family, names in OTHERS.items():
        window = {"sliding_window": 16} if family == "starcoder2" else {}
        models[family], _, folder = hf_folder(family, vocab_size=700, **window)
        names = {**names, "checkpoint": str(folder), "tokenizer": tokenizer}
        files.append(written(OTHER_FAMILIES, place / f"{len(files)}.py", family, **names))
    said = [line for line in run_files(files, place).splitlines() if line.startswith("ANSWER ")]
    return {family: (models[family], line) for family, line in zip(models, said, strict=True)}


@pytest.mark.parametrize("family", ["wizardcoder", *OTHERS])
def test_pipeline_gives_huggingfaces_tokens(family, pipelines, small_tokenizer):
    import torch

    model, said = pipelines[family]
    prompt = small_tokenizer.encode("def f(x):")
    tokens = model.generate(torch.tensor([prompt]), do_sample=False, max_length=40, pad_token_id=699)[0].tolist()
    assert said == f"ANSWER {ascii(small_tokenizer.decode(tokens, skip_special_tokens=True))}"


def test_trainer_trains(small_tokenizer, tmp_path):
    dataset = tmp_path / "d.mindrecord"
    preprocess(PreprocessOptions(str(SAMPLES), dataset, 256, workers=1, show_progress=False), small_tokenizer)
    screen = run(TRAINER, tmp_path, dataset=str(dataset), output=str(tmp_path / "out"))
    losses = [float(value) for value in re.findall(r"loss:\[ *([\d.]+)/", screen)]
    assert len(losses) == 48 and np.mean(losses[-12:]) < np.mean(losses[:12]) - 0.5
    assert list((tmp_path / "out").rglob("*.ckpt"))
