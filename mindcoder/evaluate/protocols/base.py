"""The interface of a protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from mindcoder.evaluate.problems import TASKS, Problem, Task

Style = Literal["complete", "instruct"]


class Rules(ABC):
    """Rules for prompting and for parsing the answer.

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
        """The style of the prompt.

        Args:
            task: the problem set.
            template: of the model.
            asked: the user's choice, if any.

        Raises:
            UserError: the protocol does not offer this choice.
        """

    @abstractmethod
    def stops(self, task: Task, style: Style) -> tuple[str, ...]:
        """Stop strings of an answer."""

    @abstractmethod
    def prompt(self, problem: Problem, task: Task, style: Style, template: str, shots: Sequence[Problem]) -> str:
        """The model's prompt."""

    def answer_begins(self, style: Style) -> str:
        """What the prompt ends with behind the question: the beginning of the answer."""
        return ""

    @abstractmethod
    def code(self, answer: str, problem: Problem, task: Task, style: Style) -> str:
        """The code extracted from an answer, without tests."""

    def program(self, code: str, problem: Problem) -> str:
        """The code followed by the tests."""
        return problem.program(code)


def cut_at(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def docstring_prompt(problem: Problem) -> str:
    """MBPP as prompted in the InCoder paper (Fried et al. 2022): a docstring of the text and the first test."""
    return f'"""\n{problem.text}\n{problem.examples[0]}\n"""\n'
