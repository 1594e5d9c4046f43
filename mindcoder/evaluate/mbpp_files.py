"""File formats of the original MBPP scripts: one JSON file per answer, one file of all programs.

Flags and formats are those of mindspore-lab/mindformers r1.1.0, research/wizardcoder/mbpp_gen_online.py and
mbpp_process.py. Prompts and the extraction of programs from answers are WizardLM's
(`mindcoder.evaluate.protocols.wizardlm`), on which those scripts are based.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from mindcoder.errors import UserError
from mindcoder.evaluate.problems import Problem, read_problems
from mindcoder.evaluate.protocols.wizardlm import FENCE, FENCE_END, WizardLM
from mindcoder.files import read_json, write_text

PROTOCOL = WizardLM()


def numbered_problems(file: Path) -> list[Problem]:
    """All problems of an MBPP file, by number; ``--start_index`` and ``--end_index`` refer to this list.

    Raises:
        UserError: missing, or not an MBPP file.
    """
    return sorted(read_problems(file, "mbpp", "all"), key=lambda problem: int(problem.task_id))


def prompt_of(problem: Problem) -> str:
    """The prompt of a problem."""
    return PROTOCOL.prompt(problem, "mbpp", "instruct", "", ())


def chosen(problems: Sequence[Problem], start: int, end: int | None) -> Sequence[Problem]:
    """Problems ``start`` to ``end - 1``; without ``end`` all from ``start``, fewer if the file ends before.

    Raises:
        UserError: there are none.
    """
    found = problems[start : len(problems) if end is None else end]
    if not found:
        raise UserError(f"--start_index {start} --end_index {end}: the file has problems 0 to {len(problems) - 1}")
    return found


def answer_file(folder: Path, index: int) -> Path:
    """Path of the answer to problem ``index``."""
    return folder / f"{index}.json"


def write_answer(folder: Path, index: int, text: str) -> None:
    """Write an answer; ``text`` is prompt and answer, as the original script decodes them."""
    write_text(answer_file(folder, index), json.dumps({"output": [text]}))


def read_answers(folder: Path) -> dict[int, str]:
    """Answers in a folder by problem number, in order.

    Raises:
        UserError: no folder, no answers, or a file that is not an answer.
    """
    if not folder.is_dir():
        raise UserError("no such folder of answers", folder)
    files = {int(file.stem): file for file in folder.glob("*.json") if file.stem.isdigit()}
    if not files:
        raise UserError("holds no answers (0.json, 1.json, ...)", folder)
    answers = {}
    for index in sorted(files):
        data = read_json(files[index])
        output = data.get("output") if isinstance(data, dict) else None
        if not isinstance(output, list) or not output or not isinstance(output[0], str):
            raise UserError('is not an answer: expected {"output": ["text"]}', files[index])
        answers[index] = output[0]
    return answers


def write_programs(programs: Iterable[str], file: Path) -> None:
    """Write the input of bigcode-evaluation-harness's ``--load_generations_path``: a list of answers per problem."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps([[program] for program in programs]))


def unfenced(answers: Iterable[str]) -> int:
    """Number of answers with an unclosed Python fence: the length limit cut them off."""
    after = (text.partition(FENCE)[1:] for text in answers)
    return sum(bool(begin) and FENCE_END not in rest for begin, rest in after)
