"""Conversion of a synthetic 6 GB checkpoint against a plain file copy: seconds and peak memory.

``python -m benchmarks.convert [FOLDER]``; FOLDER (default: a temporary one) needs 30 GB and is cleaned up.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.record import write_result
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.safetensors_file import write_safetensors
from mindcoder.checkpoint.stored_tensor import StoredTensor, convert_dtype
from mindcoder.families.gpt_bigcode import FAMILY
from mindcoder.families.registry import family_of

CONFIG = {
    "model_type": "gpt_bigcode",
    "n_embd": 3072,
    "n_layer": 30,
    "n_head": 24,
    "n_inner": 12288,
    "n_positions": 8192,
    "vocab_size": 49152,
    "multi_query": True,
    "eos_token_id": 0,
    "bos_token_id": 0,
}
ROUNDS = 2


def make_checkpoint(folder: Path) -> tuple[int, int]:
    """A sharded bfloat16 folder; gives its bytes and those of its largest tensor."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    config = FAMILY.config_from_huggingface(CONFIG)
    normal = np.random.default_rng(0).standard_normal(49152 * 3072, np.float32) * np.float32(0.02)
    noise = convert_dtype(normal, "F32", "BF16")
    shapes = config.parameter_shapes()
    plans = []
    for rule in family_of(config.model_type).weights.expand(config):
        rows = sum(shapes[name][0] for name in rule.ours)
        shape = (rows, *shapes[rule.ours[0]][1:])
        values = noise[: int(np.prod(shape))].reshape(shape)
        stored = StoredTensor(rule.huggingface, folder, "BF16", shape, loaded=values)
        plans.append(TensorPlan(rule.huggingface, shape, "BF16", (stored,)))
    write_safetensors(plans, folder, 10**9)
    return sum(plan.nbytes for plan in plans), max(plan.nbytes for plan in plans)


def make_bin(source: Path, folder: Path) -> None:
    """The same as PyTorch shards, made by PyTorch in a process of its own."""
    script = (
        "import sys, json, torch, pathlib\n"
        "from safetensors.torch import load_file\n"
        "source, target = map(pathlib.Path, sys.argv[1:])\n"
        "target.mkdir()\n"
        "(target / 'config.json').write_text((source / 'config.json').read_text())\n"
        "for file in source.glob('*.safetensors'):\n"
        "    name = file.name.replace('model', 'pytorch_model').replace('.safetensors', '.bin')\n"
        "    torch.save(load_file(file), target / name)\n"
        "text = (source / 'model.safetensors.index.json').read_text()\n"
        "text = text.replace('model-', 'pytorch_model-').replace('.safetensors', '.bin')\n"
        "(target / 'pytorch_model.bin.index.json').write_text(text)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(source), str(folder)], check=True)


def copy_files(source: Path, target: Path) -> float:
    """Seconds of ``cp -r`` with the data written through to the disk."""
    return timed(lambda: subprocess.run(["cp", "-r", str(source), str(target)], check=True))


def convert(source: Path, target: Path, *options: str) -> float:
    """Seconds of ``mindcoder convert``, its start included."""
    command = [sys.executable, "-m", "mindcoder.cli.main", "convert", str(source), str(target), *options]
    return timed(lambda: subprocess.run(command, check=True, capture_output=True))


def timed(work: Callable[[], object]) -> float:
    """Seconds, with a sync at both ends so that no side pays for the other's dirty pages."""
    os.sync()
    began = time.perf_counter()
    work()
    os.sync()
    return time.perf_counter() - began


def peak_rss(source: Path, target: Path, *options: str) -> int:
    """Peak resident bytes of one conversion (of a child of its own: the figure is a maximum over children)."""
    command = [sys.executable, "-m", "mindcoder.cli.main", "convert", str(source), str(target), *options]
    pid = os.fork()
    if pid == 0:
        done = subprocess.run(command, capture_output=True)
        os._exit(min(done.returncode, 1) if done.returncode else _report_peak(target))
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"conversion failed: {' '.join(command)}")
    file = target.with_name(target.name + ".peak")
    value = int(file.read_text())
    file.unlink()
    return value


def _report_peak(target: Path) -> int:
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    target.with_name(target.name + ".peak").write_text(str(peak))
    return 0


def remove(path: Path) -> None:
    """Folder or file."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> None:
    """Measure every direction."""
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=parent) as name:
        root = Path(name)
        size, largest = make_checkpoint(root / "hf")
        subprocess.run(
            [sys.executable, "-m", "mindcoder.cli.main", "convert", str(root / "hf"), str(root / "ours")], check=True
        )
        make_bin(root / "hf", root / "bin")
        cases = {
            "Hugging Face -> MindCoder": (root / "hf", "out", ()),
            "MindCoder -> Hugging Face": (root / "ours", "out", ()),
            "Hugging Face .bin -> safetensors": (root / "bin", "out", ("--to", "huggingface")),
            "Hugging Face -> old .ckpt": (root / "hf", "out.ckpt", ()),
            "Hugging Face bfloat16 -> float16": (root / "hf", "out", ("--to", "huggingface", "--dtype", "float16")),
        }
        bound = 1.5 * largest + 1e9
        figures = {}
        for title, (source, target, options) in cases.items():
            ours, plain = [], []
            for _ in range(ROUNDS):
                plain.append(copy_files(source, root / "copy"))
                remove(root / "copy")
                ours.append(convert(source, root / target, *options))
                remove(root / target)
            peak = peak_rss(source, root / target, *options)
            remove(root / target)
            ratio = min(ours) / min(plain)
            figures[title] = {
                "seconds": min(ours),
                "copy_seconds": min(plain),
                "ratio_to_copy": ratio,
                "all_seconds": ours,
                "all_copy_seconds": plain,
                "peak_rss_bytes": peak,
            }
            print(
                f"{title:<34} {min(ours):5.1f} s, copy {min(plain):5.1f} s ({ratio:.2f} x), "
                f"peak {peak / 1e6:.0f} MB of {bound / 1e6:.0f} MB allowed",
                flush=True,
            )
        path = write_result(
            "convert",
            {
                "bytes": size,
                "largest_tensor_bytes": largest,
                "peak_bound_bytes": bound,
                "cases": figures,
                "command": "python -m benchmarks.convert",
            },
        )
        print(f"written to {path}")


if __name__ == "__main__":
    main()
