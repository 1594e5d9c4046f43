"""How a model is asked and how its answer is read. A score means nothing without this, so every report carries it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mindcoder.data.prompt import build_prompt
from mindcoder.evaluate.problems import Problem, Task

Style = Literal["complete", "instruct"]
STYLES: tuple[Style, ...] = ("complete", "instruct")
# bigcode-evaluation-harness: tasks/humaneval.py and tasks/mbpp.py.
STOPS = {
    "humaneval": ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```", "<file_sep>"),
    "mbpp": ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```"),
}
WIZARDCODER_TASK = "Create a Python script for this problem:\n"  # nlpxucan/WizardLM, WizardCoder/src
FENCE = re.compile(r"```(?:[Pp]ython3?|py)?[ \t]*\r?\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
CODE_BEGINS = re.compile(r"^(?:def |class |import |from \w+(?:\.\w+)* import |@)", re.MULTILINE)


@dataclass(frozen=True)
class Protocol:
    """Everything that a score depends on besides the weights.

    Attributes:
        task, split, problem_set: which problems: SHA-256 of their texts and tests, in order.
        style: ``complete``: the model goes on with code. ``instruct``: it is asked in words, by ``template``.
        shots: solved examples in the prompt.
        samples: answers a problem.
        temperature, top_p, top_k, seed: how tokens are chosen; temperature 0 is greedy.
        max_new_tokens: limit of an answer.
        stops: texts that end it.
    """

    task: Task
    split: str
    problem_set: str
    style: Style
    template: str
    shots: int
    samples: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    max_new_tokens: int
    stops: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For a report."""
        return {**asdict(self), "stops": list(self.stops)}

    def describe(self) -> list[str]:
        """Lines for people."""
        asked = f"instruction, template {self.template}" if self.style == "instruct" else "code to go on with"
        if self.task == "humaneval-infilling":
            asked = "prefix and suffix of a gap (fill in the middle)"
        chosen = (
            "greedy"
            if self.temperature == 0
            else f"temperature {self.temperature:g}, top_p {self.top_p:g}, top_k {self.top_k}, seed {self.seed}"
        )
        split = f", split {self.split}" if self.task.startswith("mbpp") else ""
        return [
            f"problems: {self.task}{split} (sha256 {self.problem_set[:12]})",
            f"prompt: {asked}, {self.shots}-shot",
            f"decoding: {chosen}, {self.samples} a problem, at most {self.max_new_tokens} new tokens",
            f"stop: end of text, or {' '.join(map(repr, self.stops)) or 'nothing else'}",
        ]


def digest(problems: Sequence[Problem]) -> str:
    """SHA-256 of what is asked and tested."""
    parts = (part for item in problems for part in (item.task_id, item.text, item.suffix, item.tests))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def stops_of(task: Task, style: Style) -> tuple[str, ...]:
    """Texts that end an answer; an instruction's answer ends with the end-of-text token only."""
    if style == "instruct":
        return ()
    if task == "humaneval-infilling":
        return ()
    return STOPS["mbpp" if task.startswith("mbpp") else "humaneval"]


def prompt_of(problem: Problem, protocol: Protocol, shots: Sequence[Problem] = ()) -> str:
    """What the model gets (for infilling: the prefix)."""
    is_mbpp = protocol.task.startswith("mbpp")
    if protocol.style == "complete":
        own = _docstring(problem) if is_mbpp else problem.text
        if protocol.task == "humaneval":
            own = own.rstrip()  # bigcode-evaluation-harness: prompt.strip(); the newline is the model's to write
        return "".join(f"{_docstring(shot)}{_tidy(shot.solution)}\n\n\n" for shot in shots) + own
    asked = _question(problem) if is_mbpp else problem.text
    solved = [f"\n{_question(shot)}\n\n```python\n{_tidy(shot.solution)}\n```\n\n" for shot in shots]
    return build_prompt(WIZARDCODER_TASK + "".join(solved) + asked, template=protocol.template)


def _docstring(problem: Problem) -> str:
    """bigcode-evaluation-harness's prompt for MBPP, from InCoder's paper: the text and one test."""
    return f'"""\n{problem.text}\n{problem.examples[0]}\n"""\n'


def _question(problem: Problem) -> str:
    """WizardCoder's: the text and all tests."""
    return "\n".join([f"\n{problem.text}\nTest examples:", *problem.examples])


def _tidy(code: str) -> str:
    return code.replace("\r\n", "\n").rstrip()


def code_of(answer: str, problem: Problem, protocol: Protocol) -> str:
    """The program that an answer stands for, without tests."""
    if protocol.task == "humaneval-infilling":
        return problem.completed(answer)
    if protocol.style == "complete":
        cut = cut_at(answer, protocol.stops)
        if protocol.task == "humaneval":
            return problem.text.rstrip() + cut
        return cut
    code = extract_code(answer)
    if not problem.entry_point:
        return code
    if re.search(rf"^def {re.escape(problem.entry_point)}\b", code, re.MULTILINE):
        before = problem.text[: problem.text.index(f"def {problem.entry_point}")]
        return before + code  # its imports and helpers
    return problem.text + code


def cut_at(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stops."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def extract_code(answer: str) -> str:
    """Code of an answer in words: the first fenced block, else from the first line that begins like code."""
    fenced = FENCE.search(answer)
    if fenced:
        return fenced[1]
    begins = CODE_BEGINS.search(answer)
    return answer[begins.start() :] if begins else answer
