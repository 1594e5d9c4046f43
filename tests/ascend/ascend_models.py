"""Networks of ours on softcann beside transformers: what the tests of training and generation share."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from families import VOCAB, random_model

from mindcoder.checkpoint.huggingface import HuggingFaceFolder
from mindcoder.families.registry import family_of
from softcann.environment import run_on_emulator

FAMILIES = ("gpt_bigcode", "starcoder2", "llama")
MOVEMENTS = {"Assign", "Identity", "TensorMove"}  # aclop kernels that MindSpore itself inserts, see softcann/aclop
REPOSITORY = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("model_child.py")
# Heads of 16, which the fused kernels take; a window that the text is longer than.
SIZES = {
    "gpt_bigcode": {"n_embd": 64, "n_layer": 2},
    "starcoder2": {"hidden_size": 64, "num_hidden_layers": 2, "sliding_window": 16, "use_sliding_window": True},
    "llama": {"hidden_size": 64, "num_hidden_layers": 2},
}
DTYPES = {
    "float32": {},
    "bfloat16": {"compute_dtype": "bfloat16"},
}


class Run:
    """What a case left.

    Attributes:
        arrays: it wrote.
        operators: how often it called each aclnn function.
        old: the same of the old aclop path.
        to_host: copies from the device, counted by their bytes.
    """

    def __init__(self, place: Path, **case) -> None:
        done = run_together(place, {"only": case})["only"]
        self.arrays, self.operators, self.old, self.to_host = done.arrays, done.operators, done.old, done.to_host


class Case(Run):
    """One of several cases of a process."""

    def __init__(self, place: Path, name: str, begin: int, end: int) -> None:
        self.arrays = dict(np.load(place / f"{name}.npz"))
        content = (place / "log.jsonl").read_bytes()[begin:end].decode()
        events = [json.loads(line) for line in content.splitlines()]
        self.operators = Counter(event["name"] for event in events if event["event"] == "aclnn")
        self.old = Counter(event["name"] for event in events if event["event"] == "aclop")
        self.to_host = Counter(event["bytes"] for event in events if event["event"] == "to_host")


def run_together(place: Path, cases: dict[str, dict], timeout: float = 900) -> dict[str, Run]:
    """Compute cases one after the other in one process on softcann: starting MindSpore costs as much as a small case.

    Raises:
        AssertionError: one of them failed; with the end of what the process printed.
    """
    log, file = place / "log.jsonl", place / "cases.json"
    log.unlink(missing_ok=True)
    log.touch()
    named = {name: {"output": str(place / f"{name}.npz"), **case} for name, case in cases.items()}
    file.write_text(json.dumps(named), encoding="utf-8")
    (done,) = run_on_emulator([str(CHILD), str(file)], log=log, cwd=place, timeout=timeout)
    assert done.returncode == 0, done.output[-4000:]
    ranges = json.loads((place / "cases.json.log").read_text(encoding="utf-8"))
    return {name: Case(place, name, *ranges[name]) for name in cases}


def on_cpu(place: Path, **case) -> dict[str, np.ndarray]:
    """What the same code gives on MindSpore's CPU backend, which is this process's."""
    import model_child

    return model_child.WHAT[case["what"]](case)


def saved_model(folder: Path, family: str, **overrides):
    """A random model of transformers and the folder that it is saved in."""
    model = random_model(family, **{**SIZES[family], **overrides})
    model.save_pretrained(folder / "hf")
    return model, str(folder / "hf")


def batch(folder: Path, length: int = 40, rows: int = 2, documents: int = 1) -> tuple[str, np.ndarray, np.ndarray]:
    """File of a batch with a third of the labels ignored; its ids and labels, not shifted.

    A row holds ``documents`` of the same length that do not see each other.
    """
    rng = np.random.default_rng(3)
    ids = rng.integers(0, VOCAB, (rows, length)).astype(np.int32)
    labels = np.where(rng.random((rows, length)) < 0.33, -100, ids).astype(np.int32)
    shifted = np.full_like(labels, -100)
    shifted[:, :-1] = labels[:, 1:]
    places = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    of_document = length // documents
    file = folder / "inputs.npz"
    np.savez(
        file,
        input_ids=ids,
        labels=shifted,
        position_ids=places % of_document,
        document_ids=places // of_document,
    )
    return str(file), ids, labels


def torch_gradients(model, folder: str, ids: np.ndarray, labels: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    """Loss of transformers in float32 and its gradients under our names."""
    model.zero_grad()
    loss = model(input_ids=torch.tensor(ids).long(), labels=torch.tensor(labels).long()).loss
    loss.backward()
    config = HuggingFaceFolder(Path(folder)).transformer_config
    weights, named, expected = family_of(config.model_type).weights, dict(model.named_parameters()), {}
    for rule in weights.expand(config):
        expected.update(weights.to_ours(rule, named[rule.huggingface].grad.numpy(), config))
    return float(loss), expected


def torch_curve(model, ids: np.ndarray, labels: np.ndarray, rate: float, steps: int) -> list[float]:
    """Losses of AdamW as `mindcoder.train.optimizer` has it: no decay of vectors."""
    groups = [
        {"params": [item for item in model.parameters() if item.dim() > 1], "weight_decay": 0.01},
        {"params": [item for item in model.parameters() if item.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=1e-6)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(input_ids=torch.tensor(ids).long(), labels=torch.tensor(labels).long()).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses
