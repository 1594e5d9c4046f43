"""Attention in C++ (FlashAttentionScore and its gradient) beside PyTorch's, causal, on this processor.

``python -m benchmarks.attention [--lengths 512,2048] [--head_dims 64,128] [--dtypes float32,bfloat16] [--rounds 5]
[--one_thread]``

Both sides take the same tensors with the same number of threads, in turn; the figures are medians. With
``--one_thread`` they are the processor time of one thread, which tells something on a busy machine, too. Memory is
measured in a process of its own for each side: the growth of its peak over what it held before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.record import write_result
from tests.native_calls import OperatorLibrary

MANY = 2147483647
HEADS = 8


class Sides:
    """One batch of one text, ``HEADS`` heads, causal."""

    def __init__(self, length: int, head_dim: int, dtype: torch.dtype) -> None:
        self.library = OperatorLibrary()
        generator = torch.Generator().manual_seed(0)
        self.ours = [torch.randn(1, length, HEADS * head_dim, generator=generator).to(dtype) for _ in range(4)]
        self.peers = [x.view(1, length, HEADS, head_dim).transpose(1, 2).contiguous() for x in self.ours]
        self.attributes = (HEADS, 1.0, head_dim**-0.5, MANY, 0, 0, 0, 3)
        self.mask = torch.ones(2048, 2048, dtype=torch.bool).triu(1)
        self.scale = head_dim**-0.5

    def mindcoder(self, backward: bool) -> None:
        """Forward, and backward where asked for."""
        query, key, value, slope = self.ours
        out = torch.empty_like(query)
        largest, total = (torch.empty(1, HEADS, query.shape[1], 8) for _ in range(2))
        nones = (None, None, None)
        outputs = (largest, total, torch.empty(1), out)
        assert not self.library.call(
            "FlashAttentionScore", query, key, value, *nones, self.mask, *nones, *self.attributes, *outputs
        )
        if not backward:
            return
        saved = (*nones, self.mask, largest, total, None, out, *nones)
        gradients = [torch.empty_like(x) for x in (query, key, value)]
        assert not self.library.call(
            *("FlashAttentionScoreGrad", query, key, value, slope, *saved, *self.attributes, *gradients, torch.empty(0))
        )

    def pytorch(self, backward: bool) -> None:
        """The same by PyTorch."""
        query, key, value, slope = self.peers
        if not backward:
            with torch.no_grad():
                scaled_dot_product_attention(query, key, value, is_causal=True, scale=self.scale)
            return
        leaves = [x.detach().requires_grad_() for x in (query, key, value)]
        scaled_dot_product_attention(*leaves, is_causal=True, scale=self.scale).backward(slope)


def seconds(work: Callable[[], None], clock: Callable[[], float]) -> float:
    """Of one call."""
    start = clock()
    work()
    return clock() - start


def compare(
    length: int, head_dim: int, dtype: torch.dtype, rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Milliseconds of both, and how many times as fast as PyTorch we are."""
    sides, found = Sides(length, head_dim, dtype), {}
    for name, backward in (("forward", False), ("with_gradient", True)):
        work = {"mindcoder": lambda: sides.mindcoder(backward), "pytorch": lambda: sides.pytorch(backward)}  # noqa: B023
        times: dict[str, list[float]] = {"mindcoder": [], "pytorch": []}
        for one in work.values():
            one()  # warm
        for _ in range(rounds):
            for side, one in work.items():
                times[side].append(seconds(one, clock))
        ours, theirs = (statistics.median(times[side]) * 1000 for side in ("mindcoder", "pytorch"))
        found |= {f"{name}_ms": ours, f"{name}_pytorch_ms": theirs, f"{name}_speed_up": theirs / ours}
    return found


def peak_growth(side: str, length: int, head_dim: int, dtype: str) -> float:
    """MB that forward and backward of one side take at most beside their inputs."""
    command = ["-m", "benchmarks.attention", "--peak", side, "--lengths", str(length), "--head_dims", str(head_dim)]
    done = subprocess.run([sys.executable, *command, "--dtypes", dtype], capture_output=True, text=True, check=True)
    return float(done.stdout)


def print_peak(side: str, length: int, head_dim: int, dtype: torch.dtype) -> None:
    """The same in this process."""
    sides = Sides(64, head_dim, dtype)
    getattr(sides, side)(True)  # threads and libraries
    sides = Sides(length, head_dim, dtype)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status_mb("VmRSS")
    getattr(sides, side)(True)
    print(status_mb("VmHWM") - before)


def status_mb(field: str) -> float:
    """A size of this process from /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", default="512,2048", help="tokens (default: 512,2048)")
    parser.add_argument("--head_dims", default="64,128", help="head dimensions (default: 64,128)")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="dtypes (default: float32,bfloat16)")
    parser.add_argument("--rounds", type=int, default=5, help="calls of each side (default: 5)")
    parser.add_argument("--one_thread", action="store_true", help="processor time of one thread (default: no)")
    parser.add_argument("--memory_length", type=int, default=8192, help="tokens to measure memory with (default: 8192)")
    parser.add_argument("--peak", choices=("mindcoder", "pytorch"), help="print the memory of one side and stop")
    arguments = parser.parse_args()
    lengths, head_dims = (list(map(int, text.split(","))) for text in (arguments.lengths, arguments.head_dims))
    dtypes = arguments.dtypes.split(",")
    if arguments.peak:
        return print_peak(arguments.peak, lengths[0], head_dims[0], getattr(torch, dtypes[0]))
    clock = time.perf_counter
    if arguments.one_thread:
        os.environ["MINDCODER_THREADS"] = "1"  # read when the library's first operator runs
        torch.set_num_threads(1)
        torch.autograd.set_multithreading_enabled(False)  # backward in this thread
        clock = time.thread_time
    figures: dict[str, dict[str, float]] = {}
    for dtype in dtypes:
        for length in lengths:
            for head_dim in head_dims:
                found = compare(length, head_dim, getattr(torch, dtype), arguments.rounds, clock)
                figures[f"{dtype} {length} x {head_dim}"] = found
                print(
                    f"{dtype:8} S {length:5} D {head_dim:3}: forward {found['forward_ms']:7.2f} ms, "
                    f"{found['forward_speed_up']:.2f} x PyTorch; with gradient {found['with_gradient_ms']:7.2f} ms, "
                    f"{found['with_gradient_speed_up']:.2f} x PyTorch",
                    flush=True,
                )
        if arguments.memory_length == 0:
            continue
        memory = {side: peak_growth(side, arguments.memory_length, 64, dtype) for side in ("mindcoder", "pytorch")}
        figures[f"{dtype} memory"] = {f"{side}_mb": value for side, value in memory.items()}
        print(
            f"{dtype:8} S {arguments.memory_length} D 64: {memory['mindcoder']:.0f} MB, "
            f"PyTorch {memory['pytorch']:.0f} MB"
        )
    print(f"written to {write_result('attention', figures)}")
    return None


if __name__ == "__main__":
    main()
