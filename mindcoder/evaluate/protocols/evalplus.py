"""The protocol of EvalPlus, used for its leaderboard.

Based on github.com/evalplus/evalplus, commit 26d6d00: evalplus/codegen.py, provider/base.py, provider/hf.py,
provider/utility.py, sanitize.py; tools/mbpp/init_plus.py for the prompts of MBPP+. The tests run here are those of the
problem file; ``evalplus.jsonl`` beside the report is for ``evalplus.evaluate`` and its additional tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mindcoder.data.prompt import OWN, TEMPLATES, build_prompt
from mindcoder.evaluate.problems import Problem, Task
from mindcoder.evaluate.protocols.base import Rules, Style, cut_at, docstring_prompt
from mindcoder.evaluate.protocols.sanitize import sanitize

STOPS = ("<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint(")
HUMANEVAL_STOPS = ("\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ")
MBPP_STOPS = ('\n"""', "\nassert")
CHAT_STOPS = ("\n```\n",)
ASKED = "Please provide a self-contained Python script that solves the following problem in a markdown code block:"
ANSWERED = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:"
)
LONGEST_CUT = 10_000  # characters: later stop strings are ignored, and longer answers are truncated here


class EvalPlus(Rules):
    """Code to continue, or a chat with the beginning of the answer, depending on the model. 768 new tokens."""

    name: ClassVar[str] = "evalplus"
    source: ClassVar[str] = "evalplus/evalplus at 26d6d00"
    tasks: ClassVar[tuple[Task, ...]] = ("mbpp", "mbpp-sanitized", "humaneval")
    max_new_tokens: ClassVar[int] = 768
    uses_template: ClassVar[bool] = True

    def style(self, task: Task, template: str, asked: Style | None) -> Style:
        """``--prompt complete`` is EvalPlus' ``--force_base_prompt``.

        WizardCoder's tokenizer has no ``chat_template``: it is prompted to continue code, like a base model.
        """
        is_chat_template = template == OWN or TEMPLATES[template].is_chat_template
        return asked or ("instruct" if is_chat_template else "complete")

    def stops(self, task: Task, style: Style) -> tuple[str, ...]:
        if style == "instruct":
            return STOPS + CHAT_STOPS
        return STOPS + (HUMANEVAL_STOPS if task == "humaneval" else MBPP_STOPS)

    def prompt(self, problem: Problem, task: Task, style: Style, template: str, shots: Sequence[Problem]) -> str:
        own = _own(problem, task)
        if style == "complete":
            return own
        asked = f"{ASKED}\n```\n{own.strip()}\n```\n"
        if TEMPLATES[template].strips_questions:
            asked = asked.strip()
        return build_prompt(asked, template=template) + TEMPLATES[template].before_answer + self.answer_begins(style)

    def answer_begins(self, style: Style) -> str:
        return f"{ANSWERED}\n```python\n" if style == "instruct" else ""

    def code(self, answer: str, problem: Problem, task: Task, style: Style) -> str:
        written = cut_at(answer, self.stops(task, style))[:LONGEST_CUT].replace("\t", "    ")
        whole = _own(problem, task) + written if style == "complete" else written
        return sanitize(whole, problem.function)


def _own(problem: Problem, task: Task) -> str:
    text = problem.text if task == "humaneval" else docstring_prompt(problem)
    return text.strip() + "\n"
