"""Problem sets as their authors publish them."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mindcoder.errors import UserError

Task = Literal["mbpp", "mbpp-sanitized", "humaneval", "humaneval-infilling"]
TASKS: tuple[Task, ...] = ("mbpp", "mbpp-sanitized", "humaneval", "humaneval-infilling")
# Of MBPP (Austin et al. 2021, section 2.1): task ids.
MBPP_SPLITS = {
    "prompt": range(1, 11),
    "test": range(11, 511),
    "validation": range(511, 601),
    "train": range(601, 975),
    "all": range(1000),
}


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        task_id: the set's own.
        text: what is asked; for HumanEval the beginning of the function.
        tests: Python that raises where the solution is wrong.
        solution: the set's own, as a completion of ``text`` (HumanEval) or a whole program (MBPP).
        examples: test lines that prompts may show (MBPP).
        entry_point: name of the function (HumanEval).
        suffix: code behind the gap (infilling).
    """

    task_id: str
    text: str
    tests: str
    solution: str
    examples: tuple[str, ...] = ()
    entry_point: str = ""
    suffix: str = ""

    @property
    def published_tests(self) -> str:
        """The tests as bigcode-evaluation-harness runs them: MBPP's without ``test_setup_code``."""
        return "\n".join(self.examples) if self.examples else self.tests

    @property
    def function(self) -> str | None:
        """Name of the function that is asked for; MBPP's is the one that its first test calls."""
        if self.entry_point:
            return self.entry_point
        return _tested_function(self.examples[0], self.solution) if self.examples else None

    def completed(self, completion: str) -> str:
        """The program that ``completion`` makes of ``text``."""
        return self.text + completion + self.suffix

    def program(self, code: str) -> str:
        """The code with the tests behind it."""
        return f"{code}\n{self.tests}"

    def canonical_program(self) -> str:
        """The set's own solution with its tests; it has to pass."""
        return self.program(self.completed(self.solution) if self.entry_point else self.solution)


def _tested_function(test: str, solution: str) -> str | None:
    """The function of ``solution`` that ``test`` names, as evalplus' tools/mbpp/init_plus.py finds it."""
    functions = sorted(set(re.findall(r"^def[ \t]+(\w+)", solution, re.MULTILINE)))
    return next((name for name in functions if name in test), None)


def read_problems(file: Path, task: Task, split: str = "test") -> list[Problem]:
    """All problems of a file, in its order.

    Args:
        file: JSON lines, a JSON list, or either compressed by gzip.
        task: whose format it has.
        split: of MBPP, see `MBPP_SPLITS`.

    Raises:
        UserError: missing, damaged, or another set's.
    """
    records = _read_records(file)
    make = {
        "mbpp": _mbpp,
        "mbpp-sanitized": _mbpp,
        "humaneval": _humaneval,
        "humaneval-infilling": _infilling,
    }[task]
    try:
        problems = [make(record) for record in records if not task.startswith("mbpp") or _in_split(record, split)]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"is no {task} file: {error!r} in its records", file) from None
    if not problems:
        raise UserError(f"holds no problem of {task}, split {split}", file)
    return problems


def _in_split(record: Mapping[str, Any], split: str) -> bool:
    return int(record["task_id"]) in MBPP_SPLITS[split]


def _read_records(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise UserError("no such file; docs/finetune.md says where the problem sets are published", file)
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8") as stream:
            text = stream.read()
        if text.lstrip().startswith("["):
            return list(json.loads(text))
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {error}", file) from None


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _mbpp(record: Mapping[str, Any]) -> Problem:
    # The setup uses classes of the solution, so it comes behind it.
    setup = record.get("test_setup_code") or _lines(record.get("test_imports") or [])
    tests = tuple(record["test_list"])
    text = record.get("text") or record["prompt"]
    return Problem(str(record["task_id"]), text, _lines([setup, *tests]), record["code"], tests)


def _humaneval(record: Mapping[str, Any]) -> Problem:
    entry = record["entry_point"]
    tests = f"{record['test']}\ncheck({entry})"
    return Problem(record["task_id"], record["prompt"], tests, record["canonical_solution"], (), entry)


def _infilling(record: Mapping[str, Any]) -> Problem:
    problem = _humaneval(record)
    return Problem(**{**vars(problem), "suffix": record["suffix"]})
