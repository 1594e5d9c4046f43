"""Runs an evaluation from its request to its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError
from mindcoder.evaluate.problems import Problem
from mindcoder.evaluate.protocol import Protocol, code_of, program_of
from mindcoder.evaluate.sandbox import BROKEN, Sandbox, SandboxOptions
from mindcoder.evaluate.scores import Judged, scores, write_outputs
from mindcoder.progress import tqdm

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Execution:
    """Permission and settings for running generated code.

    Attributes:
        allowed: whether the user permitted it.
        workers: concurrent programs; by default one per CPU.
        ks: of pass@k.
    """

    allowed: bool
    sandbox: SandboxOptions = field(default_factory=SandboxOptions)
    workers: int | None = None
    ks: tuple[int, ...] = (1, 10, 100)

    def open(self) -> Sandbox:
        """A sandbox that has been checked.

        Raises:
            UserError: running code was not permitted, or cannot be made safe here.
        """
        if not self.allowed:
            raise UserError(
                "scoring runs generated code: add --allow-code-execution, or --generate_only to stop before"
            )
        sandbox = Sandbox(self.sandbox)
        sandbox.check()
        return sandbox


def judge(
    sandbox: Sandbox,
    problems: Sequence[Problem],
    answers: Mapping[tuple[str, int], str],
    protocol: Protocol,
    workers: int | None = None,
) -> list[Judged]:
    """Run every answer with its tests, in the order of the problems.

    Raises:
        UserError: answers are missing.
    """
    keys = [(problem, sample) for problem in problems for sample in range(protocol.samples)]
    missing = [problem.task_id for problem, sample in keys if (problem.task_id, sample) not in answers]
    if missing:
        raise UserError(f"{len(missing)} answers are missing, first to problem {missing[0]}")
    codes = [code_of(answers[problem.task_id, sample], problem, protocol) for problem, sample in keys]
    programs = [program_of(code, problem, protocol) for (problem, _), code in zip(keys, codes)]
    outcomes = tqdm(
        sandbox.run_all(programs, workers), total=len(programs), desc="execute", unit=" programs", disable=None
    )
    return [
        Judged(problem.task_id, sample, answers[problem.task_id, sample], code, outcome.passed, outcome.reason)
        for (problem, sample), code, outcome in zip(keys, codes, outcomes)
    ]


def report(
    folder: Path,
    model: str,
    problems: Sequence[Problem],
    judged: Sequence[Judged],
    protocol: Protocol,
    execution: Execution,
) -> list[str]:
    """Write the report and its files; returns the lines to print."""
    found = scores(judged, execution.ks)
    limits = execution.sandbox
    values: dict[str, Any] = {
        "model": model,
        "protocol": protocol.as_dict(),
        "execution": {
            "seconds": limits.seconds,
            "memory_bytes": limits.memory_bytes,
            "isolation": limits.isolation,
            "not_run": sum(item.reason.startswith(BROKEN) for item in judged),
        },
        "problems": len(problems),
        "answers": len(judged),
        "scores": {f"pass@{item.k}": vars(item) for item in found},
    }
    write_outputs(folder, problems, judged, values)
    lines = [f"model: {model}", *protocol.describe()]
    lines.append(
        f"execution: {limits.isolation}, {limits.seconds:g} s, {limits.memory_bytes / 2**30:g} GiB per program"
    )
    broken = [item for item in judged if item.reason.startswith(BROKEN)]
    if broken:
        lines.append(
            f"not run, counted as failed: {len(broken)} answers, first to problem {broken[0].task_id} "
            f"({broken[0].reason.removeprefix(BROKEN)})"
        )
    for item in found:
        lines.append(
            f"pass@{item.k}: {item.value:.3f} (95 % interval {item.low:.3f} to {item.high:.3f}, "
            f"{len(problems)} problems, {len(judged)} answers)"
        )
    return lines


def wait_for(files: Sequence[Path], is_complete: Callable[[Path], bool]) -> None:
    """Wait for the answers of the other shards (the launcher ends us if one of them dies)."""
    while not all(is_complete(file) for file in files):
        time.sleep(POLL_SECONDS)
