"""The protocol of bigcode-evaluation-harness: StarCoder's scores, and those of most other base models.

Based on github.com/bigcode-project/bigcode-evaluation-harness, commit 8fc5bae6: bigcode_eval/tasks/humaneval.py (task
``humaneval``, the one that strips prompts), tasks/mbpp.py, base.py, generation.py, main.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mindcoder.errors import UserError
from mindcoder.evaluate.problems import Problem, Task
from mindcoder.evaluate.protocols.base import Rules, Style, cut_at, docstring_prompt

HUMANEVAL_STOPS = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```", "<file_sep>")
MBPP_STOPS = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")


class BigCode(Rules):
    """The model continues code. Prompt and answer have 512 tokens together (``--max_length_generation``)."""

    name: ClassVar[str] = "bigcode"
    source: ClassVar[str] = "bigcode-project/bigcode-evaluation-harness at 8fc5bae6"
    tasks: ClassVar[tuple[Task, ...]] = ("mbpp", "mbpp-sanitized", "humaneval")
    max_total_tokens: ClassVar[int] = 512

    def style(self, task: Task, template: str, asked: Style | None) -> Style:
        if asked == "instruct":
            raise UserError("--protocol bigcode lets the model go on with code: it has no --prompt instruct")
        return "complete"

    def stops(self, task: Task, style: Style) -> tuple[str, ...]:
        return HUMANEVAL_STOPS if task == "humaneval" else MBPP_STOPS

    def prompt(self, problem: Problem, task: Task, style: Style, template: str, shots: Sequence[Problem]) -> str:
        # HumanEval is stripped on both sides: 142 of its 164 prompts begin or end with whitespace.
        return problem.text.strip() if task == "humaneval" else docstring_prompt(problem)

    def code(self, answer: str, problem: Problem, task: Task, style: Style) -> str:
        return self.prompt(problem, task, style, "", ()) + cut_at(answer, self.stops(task, style))

    def program(self, code: str, problem: Problem) -> str:
        """The code and tests, without MBPP's ``test_setup_code`` (problem 367 of the test split therefore always
        fails).
        """
        return f"{code}\n{problem.published_tests}"
