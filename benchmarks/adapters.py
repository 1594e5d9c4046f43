"""What several adapters on one base cost: tokens a second without any, with them idle, and with one for each request.

``python -m benchmarks.adapters [--requests 8] [--adapters 4] [--rank 16]``. A Llama of random weights; the three take
turns in one process. Greedy, all requests together.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.networks import llama
from benchmarks.record import write_result
from mindcoder.backend.device import setup_device
from mindcoder.checkpoint.adapter import Adapter, Update
from mindcoder.generate.engine import Engine
from mindcoder.generate.request import Request
from mindcoder.models.decoder import Decoder

ROUNDS, NEW_TOKENS, PROMPT = 5, 32, 64
LLAMA = llama(vocab_size=8192, hidden_size=1024, num_layers=8, num_heads=16, intermediate_size=2752, length=512)


def random_adapter(rank: int, rng: np.random.Generator) -> Adapter:
    """Updates of all linear layers."""
    updates = {
        f"layers.{layer}.{module}": Update(
            rng.standard_normal((rank, inputs)).astype(np.float32) * 0.02,
            rng.standard_normal((outputs, rank)).astype(np.float32) * 0.02,
            1.0,
        )
        for layer in range(LLAMA.num_layers)
        for module, (outputs, inputs) in LLAMA.linear_shapes().items()
    }
    return Adapter(Path("random"), "", updates)


def rate(engine: Engine, prompts: list[list[int]], adapters: list[str | None]) -> tuple[float, float]:
    """Prompt tokens a second, then generated tokens a second."""
    for prompt, adapter in zip(prompts, adapters):
        engine.submit(Request(tuple(prompt), max_new_tokens=NEW_TOKENS, adapter=adapter))
    began, tokens, filled = time.perf_counter(), 0, 0.0
    while engine.busy:
        tokens += len(engine.step())
        if not filled and tokens >= len(prompts):
            filled, first = time.perf_counter() - began, tokens
    seconds = time.perf_counter() - began - filled
    return len(prompts) * PROMPT / filled, (tokens - first) / seconds


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--adapters", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    arguments = parser.parse_args()
    setup_device("CPU")
    rng = np.random.default_rng(0)
    names = [f"adapter{number}" for number in range(arguments.adapters)]
    given = {name: random_adapter(arguments.rank, rng) for name in names}
    options = (arguments.requests, PROMPT + NEW_TOKENS, (), LLAMA.vocab_size)
    plain = Engine(Decoder(LLAMA), *options, reuses_prefixes=False)
    adapted = Engine(Decoder(LLAMA), *options, reuses_prefixes=False, adapters=given)
    prompts = rng.integers(1, LLAMA.vocab_size, (arguments.requests, PROMPT)).tolist()
    nobody: list[str | None] = [None] * arguments.requests
    everybody: list[str | None] = [names[index % len(names)] for index in range(arguments.requests)]
    cases = {"no adapters": (plain, nobody), "idle": (adapted, nobody), "one each": (adapted, everybody)}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for turn in range(ROUNDS + 1):
        for name, (engine, adapters) in cases.items():
            found = rate(engine, prompts, adapters)
            if turn:  # the first compiles
                seen[name].append(found)
    figures = {}
    for name, rates in seen.items():
        prefill, decode = (statistics.median(values) for values in zip(*rates))
        figures[name] = {"prefill": prefill, "decode": decode}
        shares = [figures[name][kind] / figures["no adapters"][kind] for kind in ("prefill", "decode")]
        print(f"{name:12} prompts {prefill:7.0f} tokens/s ({shares[0]:.2f}), answers {decode:6.1f} ({shares[1]:.2f})")
    size = {"adapters": arguments.adapters, "rank": arguments.rank, "requests": arguments.requests}
    print(f"written to {write_result('adapters', {**size, **figures})}")


if __name__ == "__main__":
    main()
