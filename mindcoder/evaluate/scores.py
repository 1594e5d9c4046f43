"""pass@k, its uncertainty, and output files for other harnesses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.evaluate.problems import Problem
from mindcoder.files import write_text

RESAMPLES, CONFIDENCE = 10_000, 0.95


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Unbiased estimate of the probability that one of k answers passes (Chen et al. 2021, equation 1).

    Raises:
        ValueError: fewer samples than k.
    """
    if k > samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, found {samples}")
    if samples - correct < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - correct + 1, samples + 1)))


@dataclass(frozen=True)
class Score:
    """A mean over problems with a bootstrap confidence interval over problems."""

    k: int
    value: float
    low: float
    high: float


def score(counts: Sequence[tuple[int, int]], k: int, seed: int = 0) -> Score:
    """pass@k over problems, each given as (samples, correct)."""
    values = np.array([pass_at_k(samples, correct, k) for samples, correct in counts])
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [values[rng.integers(0, len(values), (RESAMPLES // 10, len(values)))].mean(1) for _ in range(10)]
    )
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Score(k, float(values.mean()), float(low), float(high))


@dataclass(frozen=True)
class Judged:
    """One answer: its program and whether it passed."""

    task_id: str
    sample: int
    answer: str
    code: str
    passed: bool
    reason: str


def scores(judged: Sequence[Judged], ks: Sequence[int]) -> list[Score]:
    """Scores for every k that does not exceed the number of samples."""
    by_problem: dict[str, list[bool]] = {}
    for item in judged:
        by_problem.setdefault(item.task_id, []).append(item.passed)
    counts = [(len(found), sum(found)) for found in by_problem.values()]
    fewest = min(samples for samples, _ in counts)
    return [score(counts, k) for k in ks if k <= fewest]


def write_outputs(
    folder: Path, problems: Sequence[Problem], judged: Sequence[Judged], report: Mapping[str, Any]
) -> None:
    """Write ``report.json``, and the answers in other harnesses' formats.

    ``generations.json``: bigcode-evaluation-harness's ``--load_generations_path`` (a list per problem);
    ``evalplus.jsonl``: evalplus' samples (``task_id``, ``solution``); ``results.jsonl``: every answer with its verdict.
    """
    by_problem: dict[str, list[Judged]] = {problem.task_id: [] for problem in problems}
    for item in judged:
        by_problem[item.task_id].append(item)
    write_text(
        folder / "generations.json", json.dumps([[item.code for item in found] for found in by_problem.values()])
    )
    lines = [json.dumps({"task_id": _plus_id(item.task_id), "solution": item.code}) for item in judged]
    write_text(folder / "evalplus.jsonl", "\n".join(lines) + "\n")
    write_text(folder / "results.jsonl", "\n".join(json.dumps(vars(item)) for item in judged) + "\n")
    write_text(folder / "report.json", json.dumps(dict(report), indent=2) + "\n")


def _plus_id(task_id: str) -> str:
    return f"Mbpp/{task_id}" if task_id.isdigit() else task_id
