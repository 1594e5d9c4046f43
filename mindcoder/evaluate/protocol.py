"""How a model is prompted and its answer parsed. A score means nothing without this, so every report includes it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mindcoder.errors import UserError
from mindcoder.evaluate.problems import Problem, Task
from mindcoder.evaluate.protocols import RULES, Rules, Style
from mindcoder.evaluate.protocols.plain import extract_code

__all__ = [
    "PROTOCOLS", "STYLES", "Protocol", "Style", "check_protocol", "code_of", "digest", "extract_code",
    "named_protocol", "program_of", "prompt_of", "stops_of",
]  # fmt: skip
STYLES: tuple[Style, ...] = ("complete", "instruct")
PROTOCOLS = tuple(RULES)


@dataclass(frozen=True)
class Protocol:
    """Everything that a score depends on besides the weights.

    Attributes:
        task, split, problem_set: which problems: SHA-256 of their texts and tests, in order.
        style: ``complete``: the model continues code. ``instruct``: it is asked in words, with ``template``.
        shots: solved examples in the prompt.
        samples: answers per problem.
        temperature, top_p, top_k, seed: sampling; temperature 0 is greedy.
        max_new_tokens: limit of an answer; 0: no limit of its own.
        stops: stop strings.
        name: of the published rules, see `mindcoder.evaluate.protocols`.
        max_total_tokens: limit of prompt and answer together; 0: only the model's.
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
    name: str = "plain"
    max_total_tokens: int = 0

    @property
    def rules(self) -> Rules:
        """The rules for prompting and parsing."""
        return RULES[self.name]

    def room(self, prompt_tokens: int, longest: int) -> int:
        """Maximum number of tokens of an answer.

        Args:
            prompt_tokens: length of its prompt.
            longest: the model's limit of prompt and answer together.
        """
        room = min(self.max_total_tokens or longest, longest) - prompt_tokens
        return max(min(room, self.max_new_tokens) if self.max_new_tokens else room, 0)

    def deviations(self) -> list[str]:
        """Differences from what is published under its name."""
        rules = self.rules
        if self.name == "plain":
            return []
        found = []
        if self.max_total_tokens != rules.max_total_tokens:
            found.append(f"{self.max_total_tokens} tokens in all, published: {rules.max_total_tokens or 'no limit'}")
        if self.max_new_tokens != rules.max_new_tokens:
            found.append(f"{self.max_new_tokens} new tokens, published: {rules.max_new_tokens or 'no limit'}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """As data for a report."""
        said = {"name": self.name, "source": self.rules.source, "deviations": self.deviations()}
        return {**said, **asdict(self), "stops": list(self.stops)}

    def describe(self) -> list[str]:
        """The protocol as text."""
        words = f"template {self.template}" if self.rules.uses_template else "in the protocol's own words"
        asked = f"instruction, {words}" if self.style == "instruct" else "code to go on with"
        if self.task == "humaneval-infilling":
            asked = "prefix and suffix of a gap (fill in the middle)"
        chosen = (
            "greedy"
            if self.temperature == 0
            else f"temperature {self.temperature:g}, top_p {self.top_p:g}, top_k {self.top_k}, seed {self.seed}"
        )
        split = f", split {self.split}" if self.task.startswith("mbpp") else ""
        limits = [f"at most {self.max_new_tokens} new tokens"] if self.max_new_tokens else []
        limits += [f"at most {self.max_total_tokens} tokens with the prompt"] if self.max_total_tokens else []
        differs = [f"not as published: {'; '.join(found)}"] if (found := self.deviations()) else []
        return [
            f"protocol: {self.name} ({self.rules.source})",
            f"problems: {self.task}{split} (sha256 {self.problem_set[:12]})",
            f"prompt: {asked}, {self.shots}-shot",
            f"decoding: {chosen}, {self.samples} per problem, {', '.join(limits)}",
            f"stop: {', or '.join(['end of text', *([' '.join(map(repr, self.stops))] if self.stops else [])])}",
            *differs,
        ]


def check_protocol(name: str, task: Task, asked: Style | None, shots: int = 0) -> None:
    """Check the choice before a model is loaded.

    Raises:
        UserError: protocol ``name`` does not cover the task or the requested style.
    """
    rules = RULES[name]
    if task not in rules.tasks:
        raise UserError(f"--protocol {name} has no rules for {task}; --protocol plain has")
    if shots and name != "plain":
        raise UserError(f"--shots: --protocol {name} shows no solved examples; --protocol plain does")
    rules.style(task, "plain", asked)


def named_protocol(
    name: str,
    task: Task,
    template: str,
    asked: Style | None,
    longest: int,
    max_new_tokens: int | None = None,
    **chosen: Any,
) -> Protocol:
    """Build a protocol by name.

    Args:
        name: one of `PROTOCOLS`.
        task: the problem set.
        template: the model's.
        asked: ``complete`` or ``instruct`` if the user chose.
        longest: the model's limit of prompt and answer together.
        max_new_tokens: the user's limit of an answer, instead of the published one.
        chosen: the remaining fields of `Protocol`.

    Raises:
        UserError: the protocol does not cover the task or the choice.
    """
    check_protocol(name, task, asked, chosen.get("shots", 0))
    rules = RULES[name]
    style = rules.style(task, template, asked)
    total = min(rules.max_total_tokens, longest) if rules.max_total_tokens else 0
    used = template if style == "instruct" and rules.uses_template else ""
    limit = max_new_tokens or rules.max_new_tokens
    stops = rules.stops(task, style)
    return Protocol(task, style=style, template=used, max_new_tokens=limit, stops=stops, name=name,
                    max_total_tokens=total, **chosen)  # fmt: skip


def digest(problems: Sequence[Problem]) -> str:
    """SHA-256 of questions and tests."""
    parts = (part for item in problems for part in (item.task_id, item.text, item.suffix, item.tests))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def stops_of(task: Task, style: Style, name: str = "plain") -> tuple[str, ...]:
    """Stop strings under protocol ``name``; without any only the end-of-text token ends an answer."""
    return RULES[name].stops(task, style)


def prompt_of(problem: Problem, protocol: Protocol, shots: Sequence[Problem] = ()) -> str:
    """The model's prompt (for infilling: the prefix), in one of the named templates."""
    return protocol.rules.prompt(problem, protocol.task, protocol.style, protocol.template, shots)


def code_of(answer: str, problem: Problem, protocol: Protocol) -> str:
    """The code extracted from an answer, without tests."""
    return protocol.rules.code(answer, problem, protocol.task, protocol.style)


def program_of(code: str, problem: Problem, protocol: Protocol) -> str:
    """The code with the tests that the protocol runs."""
    return protocol.rules.program(code, problem)
