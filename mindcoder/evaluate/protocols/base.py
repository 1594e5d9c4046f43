"""What a protocol has to say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from mindcoder.evaluate.problems import TASKS, Problem, Task

Style = Literal["complete", "instruct"]


class Rules(ABC):
    """One way of asking and of reading the answer.

    Attributes:
        name: on the command line and in reports.
        source: where the rules are published.
        tasks: problem sets that they cover.
        max_new_tokens: published limit of the answer; 0: none.
        max_total_tokens: published limit of prompt and answer together; 0: none.
        uses_template: whether the prompt depends on the model's instruction template.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    tasks: ClassVar[tuple[Task, ...]] = TASKS
    max_new_tokens: ClassVar[int] = 0
    max_total_tokens: ClassVar[int] = 0
    uses_template: ClassVar[bool] = False

    @abstractmethod
    def style(self, task: Task, template: str, asked: Style | None) -> Style:
        """How the model is asked.

        Args:
            task: the problem set.
            template: of the model.
            asked: the user's choice, if any.

        Raises:
            UserError: the protocol leaves no such choice.
        """

    @abstractmethod
    def stops(self, task: Task, style: Style) -> tuple[str, ...]:
        """Texts that end an answer."""

    @abstractmethod
    def prompt(self, problem: Problem, task: Task, style: Style, template: str, shots: Sequence[Problem]) -> str:
        """What the model gets."""

    @abstractmethod
    def code(self, answer: str, problem: Problem, task: Task, style: Style) -> str:
        """The code that an answer stands for, without tests."""

    def program(self, code: str, problem: Problem) -> str:
        """The code with the tests behind it."""
        return problem.program(code)


def cut_at(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stops."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def docstring_prompt(problem: Problem) -> str:
    """MBPP as InCoder's paper asks it (Fried et al. 2022): a docstring of the text and the first test."""
    return f'"""\n{problem.text}\n{problem.examples[0]}\n"""\n'
