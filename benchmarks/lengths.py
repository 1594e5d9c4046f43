"""Seconds and memory of a training step against the length of its one row, beside PyTorch (sdpa).

``python -m benchmarks.lengths [--model llama] [--lengths 1024,2048,4096,8192] [--rounds 2] [--sides torch,ours]``. Each
side and length runs in a process of its own. Figures go to ``benchmarks/results/lengths.json``.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.record import write_result
from benchmarks.train import compare


def main() -> None:
    """Run and print a line for each side and length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="llama", help="of benchmarks.train_worker.SIZES")
    parser.add_argument("--lengths", default="1024,2048,4096,8192")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sides", default="torch,ours", help="of benchmarks.train_worker")
    arguments = parser.parse_args()
    figures: dict = {"command": " ".join(["python -m benchmarks.lengths", *sys.argv[1:]]), "lengths": {}}
    for length in map(int, arguments.lengths.split(",")):
        result = compare(f"{arguments.model}@{length}", arguments.rounds, 1, arguments.sides.split(","))
        figures["lengths"][length] = result
        for side, item in result["sides"].items():
            print(
                f"{length:6} {side:15} {item['median_step_s']:7.2f} s a step, {item['tokens_per_s']:6.0f} tokens/s, "
                f"{item['peak_rss_gb']:.2f} GB, loss differs by {item['largest_loss_difference']:.1e}",
                flush=True,
            )
    print(f"written to {write_result('lengths', figures)}")


if __name__ == "__main__":
    main()
