"""Matrix products of training: GFLOP/s of ``mindcoder/native`` beside PyTorch, for a linear layer and its gradients.

``python -m benchmarks.gemm [--threads 2] [--rounds 7] [--shapes 1024x768x3072,...]``. The libraries take
turns; medians. With one thread the thread's CPU time is measured, not the clock's: a busy machine distorts it less.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.record import write_result

# tokens x inputs x outputs: GPT-BigCode 164M, larger ones, the head, and LoRA's matrices
SHAPES = (
    "512x768x768,1024x768x3072,1024x3072x768,1024x2048x2048,2048x2048x6144,1024x768x49152,1024x256x768,"
    "1024x768x16,1024x16x768"
)
POINTER, INT = ctypes.c_void_p, ctypes.c_int
Call = Callable[[], object]


def product(library: ctypes.CDLL, a: np.ndarray, b: np.ndarray, turns: tuple[bool, bool], terms: int = 3) -> Call:
    """A call of ``MindCoderGemm``; ``a`` [m, k] or [k, m], ``b`` [k, n] or [n, k]; uint16 stands for bfloat16."""
    m, k = a.shape[::-1] if turns[0] else a.shape
    n = b.shape[0] if turns[1] else b.shape[1]
    c = np.zeros((m, n), a.dtype)
    function = library.MindCoderGemm
    function.argtypes = [ctypes.c_int64] * 4 + [POINTER, INT, INT] * 2 + [POINTER, INT, POINTER, INT, INT]
    function.restype = None
    brain = int(a.dtype == np.uint16)
    given = (1, m, n, k, a.ctypes.data, brain, turns[0], b.ctypes.data, brain, turns[1], c.ctypes.data, brain)
    keep = (a, b, c)  # alive as long as the call

    def call() -> object:
        function(*given, None, 0, terms)
        return keep

    return call


def cases(library: ctypes.CDLL, tokens: int, inputs: int, outputs: int) -> dict[str, dict[str, Call]]:
    """Calls by dtype and gradient, of both libraries."""
    import torch

    found: dict[str, dict[str, Call]] = {}
    rng = np.random.default_rng(0)
    sizes = {"x": (tokens, inputs), "w": (outputs, inputs), "dy": (tokens, outputs)}
    numbers = {name: rng.standard_normal(size, np.float32) for name, size in sizes.items()}
    for dtype in ("float32", "bfloat16"):
        tensors = {name: torch.from_numpy(value).to(getattr(torch, dtype)) for name, value in numbers.items()}
        arrays = {
            name: value.view(torch.uint16).numpy() if dtype == "bfloat16" else value.numpy()
            for name, value in tensors.items()
        }
        x, w, dy = tensors["x"], tensors["w"], tensors["dy"]
        torchs: dict[str, Call] = {
            "y": lambda x=x, w=w: x @ w.T,
            "dx": lambda w=w, dy=dy: dy @ w,
            "dw": lambda x=x, dy=dy: dy.T @ x,
        }
        factors = {"y": ("x", "w", (False, True)), "dx": ("dy", "w", (False, False)), "dw": ("dy", "x", (True, False))}
        for name, (a, b, turns) in factors.items():
            found[f"{dtype} {name}"] = {
                "mindcoder": product(library, arrays[a], arrays[b], turns),
                "torch": torchs[name],
            }
            if dtype == "float32":
                found[f"{dtype} {name}"]["two terms"] = product(library, arrays[a], arrays[b], turns, 2)
    return found


def seconds(calls: dict[str, Call], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Medians; the calls take turns."""
    seen: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            began = clock()
            call()
            if turn:
                seen[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in seen.items()}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of both libraries (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="calls of each library (default: 7)")
    parser.add_argument(
        "--shapes", default=SHAPES, help="tokens x inputs x outputs, separated by commas (default: nine)"
    )
    parser.add_argument("--library", type=Path, help="the C++ library (default: the installed one)")
    parser.add_argument("--name", default="gemm", help="of the file in benchmarks/results (default: gemm)")
    options = parser.parse_args()
    os.environ["MINDCODER_THREADS"] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    library = ctypes.CDLL(str(options.library or Path(__file__).parents[1] / "mindcoder/native/libmindcoder_cpu.so"))
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    figures: dict[str, dict[str, dict[str, float]]] = {}
    print("GFLOP/s (tokens x inputs x outputs)          mindcoder    torch    ratio   two terms")
    for shape in options.shapes.split(","):
        tokens, inputs, outputs = map(int, shape.split("x"))
        work = 2e-9 * tokens * inputs * outputs
        figures[shape] = {}
        for name, calls in cases(library, tokens, inputs, outputs).items():
            rates = {who: work / spent for who, spent in seconds(calls, options.rounds, clock).items()}
            figures[shape][name] = rates
            own, other = rates["mindcoder"], rates["torch"]
            two = f"{rates['two terms']:10.0f}" if "two terms" in rates else ""
            print(f"{shape:20} {name:16} {own:16.0f} {other:8.0f} {own / other:8.2f} {two}", flush=True)
    measured = {"threads": options.threads, "rounds": options.rounds, "GFLOP/s": figures}
    print(f"written to {write_result(options.name, measured)}")


if __name__ == "__main__":
    main()
