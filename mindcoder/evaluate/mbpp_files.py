"""MBPP as the original MindFormers scripts ask it and keep it: one JSON file per answer, one file of all programs.

Facts (prompt, flags, file formats, the way a program is cut out of an answer) from mindspore-lab/mindformers r1.1.0,
research/wizardcoder/mbpp_gen_online.py and mbpp_process.py; they follow nlpxucan/WizardLM, WizardCoder/src.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindcoder.data.prompt import build_prompt
from mindcoder.errors import UserError
from mindcoder.files import read_json, read_text, write_text

TASK = "Create a Python script for this problem:\n"
# Its tests are longer than the context; the call alone is shown.
SHORTENED = {493: "calculate_polygons(startx, starty, endx, endy, radius)"}
FENCE_BEGIN, FENCE_END = "```python", "\n```"
CUTS = ('if __name__ == "__main__":', "# Example usage", "# Test examples")


@dataclass(frozen=True)
class Asked:
    """A problem and what the model is asked."""

    task_id: int
    prompt: str
    record: Mapping[str, Any]

    def program(self, code: str) -> str:
        """``code`` with the problem's tests behind it."""
        return "\n".join([code, self.record.get("test_setup_code") or "", *self.record["test_list"]])


def read_asked(file: Path) -> list[Asked]:
    """All problems of an MBPP file, by number; ``--start_index`` and ``--end_index`` count in this list.

    Raises:
        UserError: missing, or no MBPP file.
    """
    if not file.is_file():
        raise UserError("no such file; docs/finetune.md says where the problem sets are published", file)
    asked = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            task_id, text, tests = int(record["task_id"]), str(record["text"]), list(record["test_list"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"is no problem of MBPP (task_id, text, test_list): {error!r}", file, number) from None
        shown = [SHORTENED[task_id]] if task_id in SHORTENED else tests
        question = "\n".join([f"\n{text}\nTest examples:", *shown]).replace("    ", "\t")
        asked.append(Asked(task_id, build_prompt(TASK + question, template="wizardcoder"), record))
    if not asked:
        raise UserError("holds no problem", file)
    return sorted(asked, key=lambda item: item.task_id)


def chosen(asked: Sequence[Asked], start: int, end: int | None) -> Sequence[Asked]:
    """Problems ``start`` to ``end - 1``; all from ``start`` on without ``end``, fewer where the file ends before.

    Raises:
        UserError: there is none of them.
    """
    found = asked[start : len(asked) if end is None else end]
    if not found:
        raise UserError(f"--start_index {start} --end_index {end}: the file has problems 0 to {len(asked) - 1}")
    return found


def answer_file(folder: Path, index: int) -> Path:
    """Where the answer to problem ``index`` is kept."""
    return folder / f"{index}.json"


def write_answer(folder: Path, index: int, text: str) -> None:
    """Keep an answer; ``text`` is prompt and answer, as the original script decodes them."""
    write_text(answer_file(folder, index), json.dumps({"output": [text]}))


def read_answers(folder: Path) -> dict[int, str]:
    """Answers of a folder by the number of their problem, in order.

    Raises:
        UserError: no folder, no answers, or a file that is none.
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
            raise UserError('is no answer: expected {"output": ["text"]}', files[index])
        answers[index] = output[0]
    return answers


def program_of(text: str) -> str:
    """The program in an answer: the first fence of Python, cut before what only shows its use."""
    if FENCE_BEGIN in text:
        text = text[text.index(FENCE_BEGIN) :].strip().replace(FENCE_BEGIN, "")
        if FENCE_END in text:
            text = text[: text.index(FENCE_END)].strip()
    for cut in CUTS:
        if cut in text:
            text = text[: text.index(cut)].strip()
    return text


def write_programs(programs: Iterable[str], file: Path) -> None:
    """What bigcode-evaluation-harness reads with ``--load_generations_path``: a list of answers for every problem."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps([[program] for program in programs]))


def unfenced(answers: Iterable[str]) -> int:
    """Answers whose fence of Python is opened and not closed: the limit of length cut them off."""
    after = (text.partition(FENCE_BEGIN)[1:] for text in answers)
    return sum(bool(begin) and FENCE_END not in rest for begin, rest in after)
