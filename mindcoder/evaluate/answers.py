"""Answers to a problem set: generated once, stored line by line, resumed after an interruption."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mindcoder.data.conversation import Message
from mindcoder.data.own_template import own_prompt
from mindcoder.data.prompt import OWN, PLAIN
from mindcoder.errors import UserError
from mindcoder.evaluate.problems import Problem
from mindcoder.evaluate.protocol import Protocol, prompt_of
from mindcoder.files import write_text
from mindcoder.generate.model import Model
from mindcoder.generate.request import Request
from mindcoder.generate.request import Sequence as Running
from mindcoder.generate.sampler import SamplingOptions
from mindcoder.generate.text import StoppedText
from mindcoder.progress import tqdm

log = logging.getLogger(__name__)

PROTOCOL_FILE = "protocol.json"
Key = tuple[str, int]  # task id and sample index


@dataclass(frozen=True)
class Shard:
    """Every ``count``-th problem from ``index`` on."""

    index: int = 0
    count: int = 1

    def file(self, folder: Path, index: int | None = None) -> Path:
        """Path of a shard's answers."""
        return folder / f"answers-{self.index if index is None else index:03d}-of-{self.count:03d}.jsonl"


def begin(folder: Path, model: str, protocol: Protocol, overwrite: bool) -> None:
    """Record the protocol beside the answers.

    Raises:
        UserError: there are answers of another protocol or model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, text = folder / PROTOCOL_FILE, json.dumps({"model": model, **protocol.as_dict()}, indent=2)
    if overwrite:
        for left in folder.glob("answers-*-of-*.jsonl"):
            left.unlink()
    elif file.is_file() and file.read_text(encoding="utf-8") != text and any(folder.glob("answers-*")):
        raise UserError("holds answers of another model or protocol; --overwrite discards them", file)
    write_text(file, text)


def read_answers(file: Path) -> dict[Key, str]:
    """The existing answers; a line truncated by an interruption does not count."""
    found: dict[Key, str] = {}
    if file.is_file():
        for line in file.read_bytes().split(b"\n"):
            try:
                record = json.loads(line)
                task, sample, answer = record["task_id"], record["sample"], record["answer"]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            if isinstance(task, str) and isinstance(sample, int) and isinstance(answer, str):
                found[task, sample] = answer
    return found


def generate_answers(
    model: Model,
    problems: Sequence[Problem],
    protocol: Protocol,
    shots: Sequence[Problem],
    file: Path,
    first: int = 0,
    step: int = 1,
) -> dict[Key, str]:
    """All answers to ``problems``, including those in ``file``; new ones are appended as they finish.

    Args:
        first, step: indices of the problems in the whole set, which seed their sampling.
    """
    done = read_answers(file)
    if file.is_file():
        write_text(file, "".join(_line(key, answer) for key, answer in done.items()))  # drops a truncated line
    left = [
        (first + index * step, problem, sample)
        for index, problem in enumerate(problems)
        for sample in range(protocol.samples)
        if (problem.task_id, sample) not in done
    ]
    with (
        open(file, "a", encoding="utf-8") as stream,
        tqdm(total=len(left), desc="generate", unit=" answers", disable=None) as progress,
    ):
        for key, answer in _answers(model, left, protocol, shots):
            stream.write(_line(key, answer))
            stream.flush()
            done[key] = answer
            progress.update()
    return done


def _line(key: Key, answer: str) -> str:
    return json.dumps({"task_id": key[0], "sample": key[1], "answer": answer}) + "\n"


def _answers(
    model: Model, left: Sequence[tuple[int, Problem, int]], protocol: Protocol, shots: Sequence[Problem]
) -> Iterator[tuple[Key, str]]:
    """Answers as they finish; the engine's queue holds at most twice the batch."""
    engine, waiting = model.engine, iter(left)
    options = SamplingOptions(
        protocol.temperature > 0, protocol.temperature or 1.0, protocol.top_k, protocol.top_p, seed=protocol.seed
    )
    running: dict[int, tuple[Running, Key, StoppedText]] = {}
    while True:
        while len(running) < 2 * engine.batch and (item := next(waiting, None)) is not None:
            index, problem, sample = item
            prompt = encode(model, problem, protocol, shots)
            room = protocol.room(len(prompt), engine.max_length)
            if room == 0:
                longest = min(protocol.max_total_tokens or engine.max_length, engine.max_length)
                whose = "--max_length" if longest == engine.max_length else f"protocol {protocol.name}"
                log.warning(
                    "problem %s: the prompt's %d tokens leave no room within %d (%s); it counts as failed",
                    problem.task_id,
                    len(prompt),
                    longest,
                    whose,
                )
                yield (problem.task_id, sample), ""
                continue
            row = index * protocol.samples + sample
            sequence = engine.submit(Request(tuple(prompt), options, room, row=row))
            text = StoppedText(model.tokenizer, protocol.stops)
            running[id(sequence)] = (sequence, (problem.task_id, sample), text)
        if not running:
            return
        for event in engine.step():
            sequence, key, text = running[id(event.sequence)]
            if event.choice is not None:
                text.push(event.choice.token)
            if text.stopped or event.finish_reason is not None:
                engine.cancel(sequence)
                text.finish()
                del running[id(sequence)]
                yield key, text.text


def encode(model: Model, problem: Problem, protocol: Protocol, shots: Sequence[Problem]) -> list[int]:
    """Token ids of the prompt."""
    if protocol.task == "humaneval-infilling":
        return model.tokenizer.encode_infill(problem.text, problem.suffix)
    if protocol.template != OWN:
        return model.tokenizer.encode(prompt_of(problem, protocol, shots))
    begins = protocol.rules.answer_begins(protocol.style)
    question = prompt_of(problem, replace(protocol, template=PLAIN), shots).removesuffix(begins)
    return model.tokenizer.encode_rendered(own_prompt((Message("user", question),), model.tokenizer) + begins)
