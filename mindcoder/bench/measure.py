"""Measures our engine."""

from __future__ import annotations

import resource
import time

import numpy as np

from mindcoder.bench.cases import Case, Row
from mindcoder.generate.engine import Engine
from mindcoder.generate.request import Request


def measure(engine: Engine, case: Case, seed: int = 0) -> Row:
    """Measure a case with random prompts and full-length answers, without prefix reuse.

    Args:
        engine: with capacity for the case, without stop ids and without prefix cache.
    """
    rng = np.random.default_rng(seed)
    prompts = rng.integers(1, engine.vocab_size, (case.batch, case.prompt)).tolist()
    began = time.perf_counter()
    sequences = [engine.submit(Request(tuple(prompt), max_new_tokens=case.new)) for prompt in prompts]
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    while engine.busy:
        for event in engine.step():
            now = time.perf_counter() - began
            first.setdefault(id(event.sequence), now)
            last[id(event.sequence)] = now
    assert all(len(sequence.answer) == case.new for sequence in sequences)
    spans = [last[key] - first[key] for key in first]
    return Row(
        case.batch,
        case.prompt,
        case.new,
        1e3 * float(np.mean(list(first.values()))),
        1e3 * float(np.mean(spans)) / max(case.new - 1, 1),
        case.batch * case.new / max(last.values()),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
