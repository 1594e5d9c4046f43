"""Where the time of a training step goes, operator by operator, beside what the machine could do.

``python -m benchmarks.breakdown [tiny|large|llama|starcoder2] [--dtype float32] [--lora] [--steps 3]``. The C++
operators measure themselves, MindSpore's are measured by its runtime profiler. The bound of an operator is the longer
of two times: its floating-point operations at the rate of a large matrix product, and the bytes that it has to read and
write at the rate of a copy. Both rates are measured in the same process.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import math
import os
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.record import write_result
from benchmarks.train_worker import LORA_ALPHA, LORA_RANK, RATE, SIZES, Size, tokens

BYTES = {"float32": 4, "int32": 4, "int64": 8, "bool": 1, "uint8": 1, "float16": 2, "bfloat16": 2}
BIG = 2048  # rows, columns and depth of the product whose rate is the bound
COPIED = 64 << 20  # floats of the copy
UNREAD = [2048, 2048]  # sizes of a mask that attention is given and does not look at


@dataclass
class Operator:
    """Totals of one operator (products: of one shape) over all measured steps."""

    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0

    def add(self, calls: int, seconds: float, flops: float, size: float) -> None:
        """Add calls that took ``seconds`` together; ``flops`` and ``size`` (bytes) are one call's."""
        self.calls += calls
        self.seconds += seconds
        self.flops += calls * flops
        self.bytes += calls * size


@dataclass(frozen=True)
class Machine:
    """Rates of the machine: floating-point operations of a matrix product, bytes of a copy, both per second."""

    flops: float
    bytes: float

    def bound(self, operator: Operator) -> float:
        """Seconds that the operator takes at least."""
        return max(operator.flops / self.flops, operator.bytes / self.bytes)


def best_seconds(work: Callable[[], object], rounds: int = 7) -> float:
    """The shortest of ``rounds`` after one to warm up."""
    work()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def machine(library: ctypes.CDLL, dtype: str) -> Machine:
    """Measure the machine."""
    a, b, c = (np.ones((BIG, BIG), np.float32) for _ in range(3))
    terms = 1 if dtype == "bfloat16" else 3
    pointer, number, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    gemm = library.MindCoderGemm
    gemm.argtypes = [long] * 4 + [pointer, number, number] * 2 + [pointer, number, pointer, number, number]
    seconds = best_seconds(
        lambda: gemm(1, BIG, BIG, BIG, a.ctypes.data, 0, 0, b.ctypes.data, 0, 1, c.ctypes.data, 0, None, 0, terms)
    )
    import torch

    source, target = torch.ones(COPIED), torch.empty(COPIED)
    return Machine(2 * BIG**3 / seconds, 2 * 4 * COPIED / best_seconds(lambda: target.copy_(source)))


def parameters(text: str) -> list[tuple[str, list[int]]]:
    """dtype and sizes of each parameter in ``float32[2,3] bool[1] ...``."""
    found = re.findall(r"(\w+)\[([\d,]*)\]", text)
    return [(dtype, [int(size) for size in sizes.split(",") if size]) for dtype, sizes in found]


def operations(name: str, given: list[tuple[str, list[int]]], length: int) -> float:
    """Floating-point operations of a call's matrix products; attention's are halved, as the causal mask needs.

    Args:
        given: dtype and sizes of each parameter.
        length: tokens of a document, each of which attention computes alone.
    """
    if name == "MatMul":
        return 2.0 * given[-1][1][1] * math.prod(given[0][1])
    if name.startswith("FlashAttention"):
        products = 2 if name == "FlashAttentionScore" else 5  # scores and result; scores again and four gradients
        return products * 2.0 * length * math.prod(given[0][1]) / 2
    return 0.0


def own_operators(library: ctypes.CDLL, length: int) -> Iterator[tuple[str, int, float, float, float]]:
    """(name, calls, seconds, operations of a call, bytes of a call) of what the library measured."""
    times = library.MindCoderOperatorTimes
    times.restype, times.argtypes = ctypes.c_int64, [ctypes.c_char_p, ctypes.c_int64]
    room = times(None, 0)
    buffer = ctypes.create_string_buffer(room)
    times(buffer, room)
    for line in buffer.raw[:room].decode().splitlines():
        name, text, calls, seconds = line.split("\t")
        given = parameters(text)
        size = sum(BYTES.get(dtype, 0) * math.prod(sizes) for dtype, sizes in given if sizes != UNREAD)
        label = name
        if name == "MatMul":
            (m, n), depth = given[-1][1], math.prod(given[0][1]) // given[-1][1][0]
            label = f"MatMul {m} x {depth} x {n}"
        yield label, int(calls), float(seconds), operations(name, given, length), size


def mindspore_operators(folder: Path) -> Iterator[tuple[str, int, float]]:
    """(name, calls, seconds) of MindSpore's own kernels, from its profiler's summary."""
    text = next(folder.rglob("RuntimeProfilerSummary*.csv")).read_text()
    launched = text.partition("Event:KernelLaunch")[2].partition("Average time")[0]
    for name, total, count in re.findall(r"Op:(\w+), total_time:(\d+)ns.*?total_count:(\d+)", launched):
        if name != "Custom":
            yield f"{name} (MindSpore)", int(count), int(total) / 1e9


def prepared_step(size: Size, dtype: str, lora: bool) -> Callable[[], float]:
    """A compiled training step, of all parameters or of a LoRA adapter; its result is the loss."""
    import mindspore as ms
    from mindspore import Tensor

    from mindcoder.backend.device import compile_ahead
    from mindcoder.families.transformer_config import TransformerConfig
    from mindcoder.models.decoder import Decoder
    from mindcoder.train.optimizer import AdamW, AdamWOptions
    from mindcoder.train.step import TrainStep

    grouped = size.family != "gpt_bigcode"
    llama = size.family == "llama"
    config = TransformerConfig(
        *(size.family, size.vocab, size.hidden, size.layers, size.heads, size.heads // 3 if grouped else 1),
        *(8 * size.hidden // 3 if llama else 4 * size.hidden, 1024),
        position="rope" if grouped else "learned",
        norm="rms_norm" if llama else "layer_norm",
        gated_mlp=llama,
        activation="silu" if llama else "gelu_tanh",
        **({"qkv_bias": False, "output_bias": False, "mlp_bias": False, "tied_head": False} if llama else {}),
        compute_dtype=dtype,
    )
    decoder = Decoder(config)
    if lora:
        from mindcoder.peft.lora import add_lora
        from mindcoder.peft.options import LoraOptions

        add_lora(decoder, LoraOptions(LORA_RANK, LORA_ALPHA, target_modules=(".*",)), 0)
    step = TrainStep(decoder, AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions()), 1.0)
    step.set_train(True)
    batch = tokens(size)
    positions = np.tile(np.arange(size.length, dtype=np.int32), (size.batch, 1))
    inputs = (
        *(Tensor(batch[:, :-1]), Tensor(positions), Tensor(np.zeros_like(positions)), Tensor(batch[:, 1:])),
        *(
            Tensor(0, ms.int32),
            Tensor(RATE, ms.float32),
            Tensor(1.0, ms.float32),
            Tensor(1.0, ms.float32),
            Tensor(True),
        ),
    )
    compile_ahead(step, *inputs)
    return lambda: float(step(*inputs)[0].asnumpy())


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Keep what C++ code prints away from the terminal."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", nargs="?", default="large", choices=SIZES)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="compute_dtype")
    parser.add_argument("--lora", action="store_true", help=f"train an adapter of rank {LORA_RANK} only")
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["MS_ENABLE_RUNTIME_PROFILER"], os.environ["MS_ENABLE_PROFILER_TOP_NUM"] = "1", "100"

    from mindcoder.backend.device import setup_device
    from mindcoder.backend.library import LIBRARY

    setup_device("CPU")
    from mindspore._c_expression import (
        _framework_profiler_clear,
        _framework_profiler_step_end,
        _framework_profiler_step_start,
    )

    library = ctypes.CDLL(str(LIBRARY))
    step = prepared_step(SIZES[arguments.size], arguments.dtype, arguments.lora)
    step(), step()
    rates = machine(library, arguments.dtype)
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where the profiler writes
        library.MindCoderTimeOperators(1)
        _framework_profiler_step_start()
        began = time.perf_counter()
        for _ in range(arguments.steps):
            step()
        whole = (time.perf_counter() - began) / arguments.steps
        with quiet_stdout():  # it prints its summary, too
            _framework_profiler_step_end()
            _framework_profiler_clear()
        os.chdir(before)
        found: dict[str, Operator] = defaultdict(Operator)
        for name, calls, seconds, flops, size in own_operators(library, SIZES[arguments.size].length):
            found[name].add(calls, seconds, flops, size)
        for name, calls, seconds in mindspore_operators(Path(folder)):
            found[name].add(calls, seconds, 0.0, 0.0)
    report(arguments, whole, rates, found)


def report(arguments: argparse.Namespace, whole: float, rates: Machine, found: dict[str, Operator]) -> None:
    """Print the operators by time, and write them."""
    print(
        f"{arguments.size}{' with LoRA' if arguments.lora else ''}, {arguments.dtype}: a step of {whole * 1e3:.0f} ms; "
        f"bounds {rates.flops / 1e9:.0f} GFLOP/s, {rates.bytes / 1e9:.1f} GB/s"
    )
    print(f"{'':34}{'calls':>7}{'ms':>9}{'share':>8}{'GFLOP/s':>9}{'GB/s':>7}{'of bound':>10}")
    rows = []
    for name, operator in sorted(found.items(), key=lambda item: -item[1].seconds):
        seconds = operator.seconds / arguments.steps
        of_bound = rates.bound(operator) / operator.seconds if operator.bytes and operator.seconds else None
        rows.append(
            {
                "operator": name,
                "calls": operator.calls / arguments.steps,
                "seconds": seconds,
                "gflops": operator.flops / operator.seconds / 1e9 if operator.seconds else 0.0,
                "gb_per_s": operator.bytes / operator.seconds / 1e9 if operator.seconds else 0.0,
                "of_bound": of_bound,
            }
        )
        if seconds < whole / 1000:
            continue
        row = rows[-1]
        print(
            f"{name:34}{row['calls']:7.0f}{seconds * 1e3:9.1f}{seconds / whole:8.1%}"
            + (f"{row['gflops']:9.0f}" if operator.flops else " " * 9)
            + (f"{row['gb_per_s']:7.1f}{of_bound:10.0%}" if of_bound is not None else "")
        )
    rest = whole - sum(row["seconds"] for row in rows)
    print(f"{'between operators':34}{'':7}{rest * 1e3:9.1f}{rest / whole:8.1%}")
    bound = sum(rates.bound(operator) for operator in found.values()) / arguments.steps
    print(f"{'all operators at their bounds':34}{'':7}{bound * 1e3:9.1f}{bound / whole:8.1%}")
    figures = {
        "command": " ".join(["python -m benchmarks.breakdown", *sys.argv[1:]]),
        "step_s": whole,
        "bound_flops_per_s": rates.flops,
        "bound_bytes_per_s": rates.bytes,
        "operators": rows,
    }
    variants = [arguments.dtype] * (arguments.dtype != "float32") + ["lora"] * arguments.lora
    name = "_".join(["breakdown", arguments.size, *variants])
    print(f"written to {write_result(name, figures)}")


if __name__ == "__main__":
    main()
