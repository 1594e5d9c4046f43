"""MindCoder's own protocol, for models that no published one fits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from mindcoder.data.prompt import build_prompt
from mindcoder.evaluate.problems import Problem, Task
from mindcoder.evaluate.protocols.base import Rules, Style, cut_at, docstring_prompt
from mindcoder.evaluate.protocols.bigcode import HUMANEVAL_STOPS, MBPP_STOPS

QUESTION = "Create a Python script for this problem:\n"
FENCE = re.compile(r"```(?:[Pp]ython3?|py)?[ \t]*\r?\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
CODE_BEGINS = re.compile(r"^(?:def |class |import |from \w+(?:\.\w+)* import |@)", re.MULTILINE)


class Plain(Rules):
    """``instruct``: the problem in words, in the model's own template; ``complete``: the beginning of the code.

    The code of an answer in words is its first fenced block, whatever its language tag, or the part that looks like
    code.
    """

    name: ClassVar[str] = "plain"
    source: ClassVar[str] = "MindCoder's own"
    max_new_tokens: ClassVar[int] = 512
    uses_template: ClassVar[bool] = True

    def style(self, task: Task, template: str, asked: Style | None) -> Style:
        return "complete" if task == "humaneval-infilling" else asked or "instruct"

    def stops(self, task: Task, style: Style) -> tuple[str, ...]:
        if style == "instruct" or task == "humaneval-infilling":
            return ()
        return HUMANEVAL_STOPS if task == "humaneval" else MBPP_STOPS

    def prompt(self, problem: Problem, task: Task, style: Style, template: str, shots: Sequence[Problem]) -> str:
        is_mbpp = task.startswith("mbpp")
        if style == "complete":
            # no newline at the end: the model generates it
            own = docstring_prompt(problem) if is_mbpp else problem.text
            own = own.rstrip() if task == "humaneval" else own
            return "".join(f"{docstring_prompt(shot)}{_tidy(shot.solution)}\n\n\n" for shot in shots) + own
        asked = _question(problem) if is_mbpp else problem.text
        solved = [f"\n{_question(shot)}\n\n```python\n{_tidy(shot.solution)}\n```\n\n" for shot in shots]
        return build_prompt(QUESTION + "".join(solved) + asked, template=template)

    def code(self, answer: str, problem: Problem, task: Task, style: Style) -> str:
        if task == "humaneval-infilling":
            return problem.completed(answer)
        if style == "complete":
            cut = cut_at(answer, self.stops(task, style))
            return problem.text.rstrip() + cut if task == "humaneval" else cut
        code = extract_code(answer)
        if not problem.entry_point:
            return code
        if re.search(rf"^def {re.escape(problem.entry_point)}\b", code, re.MULTILINE):
            before, found, _ = problem.text.partition(f"def {problem.entry_point}")
            return before + code if found else code  # its imports and helpers
        return problem.text + code


def extract_code(answer: str) -> str:
    """Code of an answer in words: the first fenced block, else from the first line that looks like code."""
    fenced = FENCE.search(answer)
    if fenced:
        return fenced[1]
    begins = CODE_BEGINS.search(answer)
    return answer[begins.start() :] if begins else answer


def _question(problem: Problem) -> str:
    """The text and all tests."""
    return "\n".join([f"\n{problem.text}\nTest examples:", *problem.examples])


def _tidy(code: str) -> str:
    return code.replace("\r\n", "\n").rstrip()
