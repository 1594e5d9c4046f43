"""Seconds and memory of a training step against the length of its one row, beside PyTorch (sdpa).

``python -m benchmarks.lengths [--model long] [--lengths 1024,2048,4096,8192,16384,32768] [--rounds 1]
[--sides torch,ours] [--name lengths]``. Each side and length runs in a process of its own. A side whose memory would
not fit, by the line through its last two lengths, is left out there. Figures go to ``benchmarks/results/NAME.json``.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.record import write_result
from benchmarks.train import compare

LEFT_FREE = 1.5  # GB of what is available


def available() -> float:
    """Memory that is free or can be freed, in GB."""
    with open("/proc/meminfo") as stream:
        kilobytes = next(int(line.split()[1]) for line in stream if line.startswith("MemAvailable"))
    return kilobytes * 1024 / 1e9


def expected(measured: dict[int, float], length: int) -> float:
    """Memory in GB at ``length``, on the line through the last two lengths; 0 with fewer."""
    if len(measured) < 2:
        return 0.0
    (shorter, less), (longer, more) = list(measured.items())[-2:]
    return more + (more - less) / (longer - shorter) * (length - longer)


def main() -> None:
    """Run and print a line for each side and length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="long", help="of benchmarks.train_worker.SIZES")
    parser.add_argument("--lengths", default="1024,2048,4096,8192,16384,32768")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", default="torch,ours", help="of benchmarks.train_worker")
    parser.add_argument("--name", default="lengths", help="of the file in benchmarks/results")
    arguments = parser.parse_args()
    figures: dict = {"command": " ".join(["python -m benchmarks.lengths", *sys.argv[1:]]), "lengths": {}}
    memory: dict[str, dict[int, float]] = {side: {} for side in arguments.sides.split(",")}
    for length in sorted(map(int, arguments.lengths.split(","))):
        sides = []
        for side, measured in memory.items():
            needed, free = expected(measured, length), available() - LEFT_FREE
            if needed > free:
                print(f"{length:6} {side:15} left out: about {needed:.1f} GB would be needed, {free:.1f} GB are free")
            else:
                sides.append(side)
        if not sides:
            break
        result = compare(f"{arguments.model}@{length}", arguments.rounds, 1, sides)
        figures["lengths"][length] = result
        for side, item in result["sides"].items():
            memory[side][length] = item["peak_rss_gb"]
            print(
                f"{length:6} {side:15} {item['median_step_s']:7.2f} s a step, {item['tokens_per_s']:6.0f} tokens/s, "
                f"{item['peak_rss_gb']:.2f} GB, loss differs by {item['largest_loss_difference']:.1e}",
                flush=True,
            )
    for side, measured in memory.items():
        points = list(measured.items())
        growth = [(b - a) / (longer - shorter) * 1000 for (shorter, a), (longer, b) in zip(points, points[1:])]
        figures.setdefault("gb_per_thousand_tokens", {})[side] = growth
        print(f"{side:15} grows by " + ", ".join(f"{value:.2f}" for value in growth) + " GB per thousand tokens")
    print(f"written to {write_result(arguments.name, figures)}")


if __name__ == "__main__":
    main()
