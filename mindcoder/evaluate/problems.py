"""Problem sets as their authors publish them."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mindcoder.errors import UserError, single_line
from mindcoder.files import TEXT_LIMIT, json_kind, parse_json, read_text

Task = Literal["mbpp", "mbpp-sanitized", "humaneval", "humaneval-infilling"]
TASKS: tuple[Task, ...] = ("mbpp", "mbpp-sanitized", "humaneval", "humaneval-infilling")
# Task ids of MBPP's splits (Austin et al. 2021, section 2.1).
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
        task_id: the problem set's own.
        text: the question; for HumanEval the beginning of the function.
        tests: Python code that raises if the solution is wrong.
        solution: the reference solution, as a completion of ``text`` (HumanEval) or a whole program (MBPP).
        examples: test lines that prompts may show (MBPP).
        entry_point: name of the function (HumanEval).
        suffix: code after the gap (infilling).
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
        """Name of the requested function; for MBPP the one that its first test calls."""
        if self.entry_point:
            return self.entry_point
        return _tested_function(self.examples[0], self.solution) if self.examples else None

    def completed(self, completion: str) -> str:
        """The program formed by ``text`` and ``completion``."""
        return self.text + completion + self.suffix

    def program(self, code: str) -> str:
        """The code followed by the tests."""
        return f"{code}\n{self.tests}"

    def canonical_program(self) -> str:
        """The reference solution with its tests; it must pass."""
        return self.program(self.completed(self.solution) if self.entry_point else self.solution)


def _tested_function(test: str, solution: str) -> str | None:
    """The function of ``solution`` that ``test`` calls, as evalplus' tools/mbpp/init_plus.py finds it."""
    functions = sorted(set(re.findall(r"^def[ \t]+(\w+)", solution, re.MULTILINE)))
    return next((name for name in functions if name in test), None)


def read_problems(file: Path, task: Task, split: str = "test") -> list[Problem]:
    """All problems of a file, in file order.

    Args:
        file: JSON lines, a JSON list, or either compressed with gzip.
        task: which determines the format.
        split: of MBPP, see `MBPP_SPLITS`.

    Raises:
        UserError: missing, corrupt, or of another problem set.
    """
    make = {
        "mbpp": _mbpp,
        "mbpp-sanitized": _mbpp,
        "humaneval": _humaneval,
        "humaneval-infilling": _infilling,
    }[task]
    problems = []
    for line, record in _read_records(file):
        try:
            if not isinstance(record, dict):
                raise TypeError(f"a record is {json_kind(record)}")
            if not task.startswith("mbpp") or _mbpp_number(record) in MBPP_SPLITS[split]:
                problems.append(make(record))
        except KeyError as error:
            there = single_line(", ".join(record), 100)
            raise UserError(f"is not in {task} format: no {error} in a record with {there}", file, line) from None
        except (TypeError, ValueError) as error:
            raise UserError(f"is not in {task} format: {single_line(str(error), 200)}", file, line) from None
    if not problems:
        raise UserError(f"holds no problem of {task}, split {split}", file)
    names = [problem.task_id for problem in problems]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"holds problem {single_line(twice, 60)} twice", file)
    return problems


def _read_records(file: Path) -> Iterator[tuple[int | None, Any]]:
    """Records with their line numbers; without for a JSON list."""
    if not file.is_file():
        raise UserError("no such file; docs/finetune.md says where the problem sets are published", file)
    text = _read_gzip(file) if file.suffix == ".gz" else read_text(file)
    if text.lstrip().startswith("["):
        yield from ((None, record) for record in parse_json(text, file))
        return
    for line, part in enumerate(text.split("\n"), 1):  # not splitlines: U+2028 may occur in a text
        if part.strip():
            yield line, parse_json(part, file, line)


def _read_gzip(file: Path) -> str:
    try:
        with gzip.open(file) as stream:
            data = stream.read(TEXT_LIMIT + 1)
        if len(data) > TEXT_LIMIT:
            raise UserError(f"unpacks to more than {TEXT_LIMIT >> 20} MiB, the most that is read", file)
        return data.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"cannot be unpacked: {error}", file) from None


def _text(record: Mapping[str, Any], *names: str) -> str:
    """The first of the fields that is present."""
    name = next((name for name in names if name in record), names[0])
    if not isinstance(record[name], str):
        raise TypeError(f"{name} is {json_kind(record[name])}, expected a text")
    record[name].encode()  # a lone surrogate raises ValueError
    return record[name]


def _texts(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = record[name]
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{name} is not a list of strings")
    return tuple(value)


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _mbpp_number(record: Mapping[str, Any]) -> int:
    name = record["task_id"]
    if isinstance(name, str) and not name.isdigit():
        hint = "; problems of HumanEval go with --task humaneval" if name.startswith("HumanEval") else ""
        raise ValueError(f"task_id {name[:40]!r} is not a number{hint}")
    return int(name)


def _mbpp(record: Mapping[str, Any]) -> Problem:
    # The setup uses classes of the solution, so it goes after it.
    setup = _text(record, "test_setup_code") if record.get("test_setup_code") else ""
    if not setup and record.get("test_imports"):
        setup = _lines(_texts(record, "test_imports"))
    tests = _texts(record, "test_list")
    return Problem(
        str(_mbpp_number(record)),
        _text(record, "text", "prompt"),
        _lines([setup, *tests]),
        _text(record, "code"),
        tests,
    )


def _humaneval(record: Mapping[str, Any]) -> Problem:
    entry = _text(record, "entry_point")
    if not entry.isidentifier():
        raise ValueError(f"entry_point {entry!r} is not an identifier")
    tests = f"{_text(record, 'test')}\ncheck({entry})"
    solution = _text(record, "canonical_solution")
    return Problem(_text(record, "task_id"), _text(record, "prompt"), tests, solution, (), entry)


def _infilling(record: Mapping[str, Any]) -> Problem:
    problem = _humaneval(record)
    return Problem(**{**vars(problem), "suffix": _text(record, "suffix")})
