"""The protocol of WizardCoder's authors, used for its published scores.

Based on github.com/nlpxucan/WizardLM, commit cd4b4cc, WizardCoder/src: humaneval_gen.py, mbpp_gen.py,
process_humaneval.py and process_mbpp.py with ``--add_prompt``; WizardCoder/README.md for ``max_len=2048``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mindcoder.errors import UserError
from mindcoder.evaluate.problems import Problem, Task
from mindcoder.evaluate.protocols.base import Rules, Style

INTRODUCTION = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)
INSTRUCTION = "### Instruction:\nCreate a Python script for this problem:\n"
RESPONSE = "### Response:"
LONG_TESTS = {"493": "calculate_polygons(startx, starty, endx, endy, radius)"}  # shown instead of the tests
MAIN_GUARD = 'if __name__ == "__main__":'
FENCE, FENCE_END = "```python", "\n```"


class WizardLM(Rules):
    """An instruction in WizardCoder's own format, whatever the model's template. 2,048 tokens in total."""

    name: ClassVar[str] = "wizardlm"
    source: ClassVar[str] = "nlpxucan/WizardLM, WizardCoder/src at cd4b4cc"
    tasks: ClassVar[tuple[Task, ...]] = ("mbpp", "mbpp-sanitized", "humaneval")
    max_total_tokens: ClassVar[int] = 2048

    def style(self, task: Task, template: str, asked: Style | None) -> Style:
        if asked == "complete":
            raise UserError("--protocol wizardlm asks by an instruction: it has no --prompt complete")
        return "instruct"

    def stops(self, task: Task, style: Style) -> tuple[str, ...]:
        return ()

    def prompt(self, problem: Problem, task: Task, style: Style, template: str, shots: Sequence[Problem]) -> str:
        if task == "humaneval":
            asked, gap = problem.text, "\n\n\n"  # one blank line more than for MBPP
        else:
            examples = [LONG_TESTS[problem.task_id]] if problem.task_id in LONG_TESTS else problem.examples
            asked, gap = "\n".join([f"\n{problem.text}\nTest examples:", *examples]), "\n\n"
        asked = asked.replace("    ", "\t")
        return f"{INTRODUCTION}{gap}{INSTRUCTION}{asked}\n\n{RESPONSE}"

    def code(self, answer: str, problem: Problem, task: Task, style: Style) -> str:
        if task == "humaneval":
            return problem.text + process_humaneval(answer)
        return process_mbpp(answer)

    def program(self, code: str, problem: Problem) -> str:
        """The code and tests; MBPP is scored by bigcode-evaluation-harness, which does not run ``test_setup_code``."""
        return f"{code}\n{problem.published_tests}"


def process_humaneval(answer: str) -> str:
    """Extract code as process_humaneval.py does; it is appended to the problem's own text."""
    text = answer.split(RESPONSE)[0].replace("\t", "    ").replace("\r", "")
    return _cut(_fenced(text, "```"), "# Example usage")


def process_mbpp(answer: str) -> str:
    """Extract code as process_mbpp.py does."""
    text = answer.split(RESPONSE)[-1].replace("\t", "    ")
    return _cut(_fenced(text, FENCE_END), "# Example usage", "# Test examples")


def _fenced(text: str, end: str) -> str:
    """The text from the first Python fence on, with later opening fences removed, as in the scripts."""
    if FENCE not in text:
        return text
    text = text[text.index(FENCE) :].strip().replace(FENCE, "")
    at = text.find(end)
    return text if at < 0 else text[:at].strip()


def _cut(text: str, *marks: str) -> str:
    # If `__name__ == "__main__"` appears in another form the scripts raise ValueError; here it is kept.
    for mark in (MAIN_GUARD, *marks):
        if mark in text:
            text = text[: text.index(mark)].strip()
    return text
