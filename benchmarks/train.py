"""Training speed and memory against PyTorch + transformers: same architecture, weights, batch and threads.

``python -m benchmarks.train [--sizes tiny,large,starcoder2,llama] [--rounds 8] [--repeats 2] [--name train] [--lora]
[--sides torch,ours]``.
The sides take turns, so that a noisy machine hits both; each runs in a process of its own. Figures go to
``benchmarks/results/NAME.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.record import write_result
from benchmarks.train_worker import huggingface_config, size_of

SIDES = ("torch", "ours", "torch-bfloat16", "ours-bfloat16", "ours-recompute")
LORA_SIDES = ("torch-lora", "ours-lora", "torch-lora-bfloat16", "ours-lora-bfloat16")  # PEFT, and our adapters


def gemm_rate() -> dict[str, float]:
    """float32 GFLOP/s of a 1024 x 768 x 3072 product in both libraries: the bound of a training step."""
    code = {
        "mindspore": "from mindcoder.backend.device import setup_device; setup_device('CPU'); "
        "import numpy as np, mindspore as ms; from mindspore import ops; "
        "a, b = (ms.Tensor(np.ones(s, np.float32)) for s in ((1024, 768), (3072, 768))); "
        "matmul = ops.MatMul(transpose_b=True); work = lambda: matmul(a, b).asnumpy()",
        "torch": "import torch; torch.set_num_threads(2); a, b = torch.ones(1024, 768), torch.ones(3072, 768); "
        "work = lambda: a @ b.T",
    }
    rates = {}
    for name, setup in code.items():
        measure = (
            "; import time; [work() for _ in range(3)]; t = []\n"
            "for _ in range(30):\n    s = time.perf_counter(); work(); t.append(time.perf_counter() - s)\n"
            "print(2 * 1024 * 768 * 3072 / min(t) / 1e9)"
        )
        done = subprocess.run([sys.executable, "-c", setup + measure], capture_output=True, text=True, check=True)
        rates[name] = float(done.stdout.strip().splitlines()[-1])
    return rates


def run_side(side: str, size: str, rounds: int, weights: str) -> dict:
    """One process's figures."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.train_worker", side, size, str(rounds), weights],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(size: str, rounds: int, repeats: int, sides: Sequence[str] = SIDES) -> dict:
    """All sides in turn; the best median of each, and ratios to the first, PyTorch."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as weights:
        torch.manual_seed(0)
        config = AutoConfig.for_model(**huggingface_config(size_of(size)))
        AutoModelForCausalLM.from_config(config).save_pretrained(weights)
        runs: dict[str, list[dict]] = {side: [] for side in sides}
        for repeat in range(repeats):
            for side in sides:
                runs[side].append(run_side(side, size, rounds, weights))
                print(
                    f"{size} {side} {repeat + 1}/{repeats}: {runs[side][-1]['tokens_per_s']:.0f} tokens/s, "
                    f"{runs[side][-1]['peak_rss_gb']:.2f} GB",
                    flush=True,
                )
    best = {side: min(results, key=lambda item: item["median_step_s"]) for side, results in runs.items()}
    reference = best[sides[0]]
    for side, item in best.items():
        item["speed_ratio"] = item["tokens_per_s"] / reference["tokens_per_s"]
        item["memory_ratio"] = item["peak_rss_gb"] / reference["peak_rss_gb"]
        item["largest_loss_difference"] = float(np.abs(np.subtract(item["losses"], reference["losses"])).max())
    return {"config": size_of(size).__dict__, "sides": best}


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="tiny,large")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--name", default="train", help="of the file in benchmarks/results")
    parser.add_argument("--sides", help="those to measure, PyTorch's float32 first (default: all)")
    parser.add_argument("--lora", action="store_true", help="adapters of rank 16, against PEFT")
    arguments = parser.parse_args()
    sides = LORA_SIDES if arguments.lora else SIDES
    if arguments.sides:
        sides = tuple(arguments.sides.split(","))
    began = time.monotonic()
    rates = gemm_rate()
    print("float32 GEMM: " + ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items()))
    figures: dict = {
        "gemm_gflops": rates,
        "command": " ".join(["python -m benchmarks.train", *sys.argv[1:]]),
        "sizes": {},
    }
    for size in arguments.sizes.split(","):
        result = compare(size, arguments.rounds, arguments.repeats, sides)
        flops = result["sides"][sides[1]]["flops_per_token"]
        for side, item in result["sides"].items():
            achieved = item["tokens_per_s"] * flops / 1e9
            item["gflops"] = achieved
            item["utilisation"] = achieved / rates["torch" if side.startswith("torch") else "mindspore"]
            print(
                f"{size:10} {side:15} {item['tokens_per_s']:8.0f} tokens/s ({item['speed_ratio']:.2f} x PyTorch), "
                f"{item['peak_rss_gb']:.2f} GB ({item['memory_ratio']:.2f} x), {achieved:.0f} GFLOP/s = "
                f"{item['utilisation']:.0%} of its GEMM rate, loss differs by {item['largest_loss_difference']:.1e}"
            )
        figures["sizes"][size] = result
    print(f"written to {write_result(arguments.name, figures)} after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
