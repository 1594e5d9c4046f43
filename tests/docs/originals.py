"""docs/originals.md as a table, the original documents' commands, and a folder in which ours can run."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from conftest import REPOSITORY

PAGES = ("docs/originals.md", "docs/originals_CN.md")
STARTS = re.compile(
    r"^(?:(?:export|unset|source|git|cd|bash|pip3?|python3?|wget|mkdir|chmod|tar|torchrun|cp) |\./|CUDA_VISIBLE)"
)


@dataclass(frozen=True)
class Row:
    """A row: what the original document says, and the commands that do it here (none: a dash)."""

    section: int
    original: str
    here: tuple[str, ...]
    remark: str


def rows(page: str) -> list[Row]:
    """The rows of all tables of a page."""
    found, section = [], 0
    for line in (REPOSITORY / page).read_text(encoding="utf-8").splitlines():
        section += line.startswith("## ")
        if not line.startswith("| ") or line.startswith("|---"):
            continue
        original, here, remark = line.strip("|").split(" | ")
        if "`" in original or "quantization" in original:
            found.append(Row(section, original, tuple(re.findall(r"`([^`]+)`", here)), remark.strip()))
    return found


def original_commands(text: str) -> list[str]:
    """The shell commands of a document: lines of its blocks that begin as commands do, continued lines joined."""
    commands: list[str] = []
    inside, block = False, ""
    for line in text.splitlines():
        stripped = line.strip().lstrip(">").strip()
        if stripped.startswith("```"):
            inside = not inside
            block = stripped.strip("` ").lower()
            continue
        if stripped.startswith("执行命令"):
            commands.append(stripped.removeprefix("执行命令"))
        if not inside or block in ("python", "json", "yaml") or "print(" in stripped:
            continue
        if commands and (commands[-1].endswith("\\") or (stripped.startswith("--") and "python" in commands[-1])):
            commands[-1] = commands[-1].rstrip("\\").rstrip() + " " + stripped
        elif STARTS.match(stripped):
            commands.append(stripped)
    return commands


def marks(command: str) -> list[str]:
    """What a row has to contain to be this command's: the script and its flags, a variable, a file."""
    words = re.sub(r"-i https?://\S+", "", command.replace('"', " ")).split()
    first = words[0]
    if first in ("export", "unset"):
        return [words[1].split("=")[0]]
    if first == "wget":
        return [words[1].split("/")[-1]]
    if first in ("source", "chmod", "tar", "git", "cp", "pip", "pip3", "mkdir", "cd") or first.startswith("./"):
        longest = max((word for word in (words[1:] or words) if not word.startswith("-")), key=len, default=first)
        return [longest.rstrip("/").split("/")[-1]]
    scripts = [word.split("/")[-1] for word in words if word.endswith((".py", ".sh")) or word.startswith("examples.")]
    flags = [word for word in words if word.startswith("--") and word != "--"]
    plain = [word for word in words[1:] if first == "bash" and re.fullmatch(r"[A-Za-z]\w*", word)]
    return [*scripts, *flags, *plain]


def make_workspace(folder: Path, small_tokenizer, hf_folder) -> None:
    """A copy of the project in which the models, data and tables of the original documents are small ones."""
    for name in ("research", "scripts", "tools", "examples", "configs"):
        shutil.copytree(REPOSITORY / name, folder / name)
    _, _, weights = hf_folder(vocab_size=700, n_positions=2048, n_embd=32, n_inner=64, n_layer=2, multi_query=True)
    shutil.copytree(weights, folder / "ckpt")
    small_tokenizer.save(folder / "ckpt")
    _make_bin(folder)
    yaml = folder / "research" / "wizardcoder" / "run_wizardcoder.yaml"
    text = yaml.read_text(encoding="utf-8")
    for key, value in {
        "device_target": "'CPU'", "seq_length": 2048, "n_position": 2048, "vocab_size": 700, "hidden_size": 32,
        "num_layers": 2, "num_heads": 4, "expand_ratio": 2, "pad_token_id": 699, "max_decode_length": 160,
        "param_init_type": "'float32'", "compute_dtype": "'float32'", "micro_batch_num": 2,
    }.items():  # fmt: skip
        text, count = re.subn(rf"(?m)^( *{key}:).*$", rf"\1 {value}", text)
        assert count, key
    yaml.write_text(text, encoding="utf-8")
    records = json.loads((REPOSITORY / "datasets" / "samples.json").read_text(encoding="utf-8"))[:4]
    for name in ("dataset/alpaca_data.json", "finetune_dataset/code_alpaca_20k.json"):
        (folder / name).parent.mkdir()
        (folder / name).write_text(json.dumps(records), encoding="utf-8")
    problem = {"task_id": 11, "text": "Add.", "code": "def f(x): return x", "test_list": ["assert f(1) == 1"]}
    (folder / "mbpp.test.jsonl").write_text(json.dumps(problem) + "\n", encoding="utf-8")
    (folder / "ids.txt").write_text("5, 6, 7\n8, 9\n", encoding="utf-8")


def _make_bin(folder: Path) -> None:
    from families import to_bin

    shutil.copytree(folder / "ckpt", folder / "bin")
    to_bin(folder / "bin")
