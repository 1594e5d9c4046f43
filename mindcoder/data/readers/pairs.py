"""Preference pairs: the formats of LLaMA-Factory (Alpaca's and ShareGPT's), TRL and UltraFeedback.

hiyouga/LLaMA-Factory data/README.md (``chosen`` as a text or as one turn beside ``conversations``) and huggingface/trl
docs/source/dataset_formats.md (``prompt`` and answers as texts or as messages; without a prompt, both lists begin with
it and their common beginning is the prompt).
"""

from __future__ import annotations

from typing import Any

from mindcoder.data.conversation import Message
from mindcoder.data.readers.fields import Fields
from mindcoder.data.readers.record import Pair
from mindcoder.data.readers.single import Origin, history
from mindcoder.data.readers.turns import finished, read_turns

QUESTIONS = ("instruction", "prompt", "question", "query", "input")


def pair(fields: Fields, origin: Origin) -> Pair:
    """A prompt of one or more turns and two answers.

    Raises:
        ValueError: no prompt, two prompts, identical answers, or answers that diverge before the last turn.
    """
    chosen, rejected = (_answer(name, fields) for name in ("chosen", "rejected"))
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if len(chosen) != shared + 1 or len(rejected) != shared + 1:
        raise ValueError("chosen and rejected: expected the same turns up to the last one, which is an answer")
    given = _prompt(fields, bool(shared))
    prompt = chosen[:shared]
    if shared and given and not _repeats(given, prompt):
        raise ValueError("the prompt is not what chosen and rejected begin with")
    answers = chosen[-1], rejected[-1]
    if answers[0].content == answers[1].content:
        raise ValueError("chosen and rejected are the same")
    if not prompt and not given:
        raise ValueError(f"{', '.join(QUESTIONS)}, messages or conversations: expected a text or turns, found nothing")
    *before, _ = finished([*(prompt or given), answers[0]], fields)
    if answers[1].role != "assistant":
        raise ValueError("rejected: expected the assistant's answer")
    return Pair(*origin, tuple(before), answers[0].content, answers[1].content)


def _answer(name: str, fields: Fields) -> list[Message]:
    """An answer: a string, a turn, or a list of turns that ends with it."""
    value = fields.raw(name)
    if isinstance(value, str):
        turns = [Message("assistant", value)]
    else:
        turns = _turns(name, [value] if isinstance(value, dict) else value, fields)
    if not turns or not turns[-1].content.strip():
        raise ValueError(f"{name}: expected a text or messages, found {str(value)[:80]!r}")
    return turns


def _prompt(fields: Fields, has_shared: bool) -> list[Message]:
    """The part before the answers from separate fields."""
    for name in ("conversations", "messages"):
        if not fields.has(name):
            continue
        if has_shared:  # UltraFeedback repeats the chosen conversation there
            if fields.peek(name) == fields.peek("chosen"):
                fields.raw(name)
            continue
        return _turns(name, fields.raw(name), fields)
    name = fields.first(*QUESTIONS)
    if not name:
        return []
    value = fields.raw(name)
    if isinstance(value, list):
        return _turns(name, value, fields)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}: expected a text, found {str(value)[:80]!r}")
    context = fields.optional("input", "context") if name != "input" else ""
    return [*history(fields), Message("user", value, context)]


def _repeats(given: list[Message], prompt: list[Message]) -> bool:
    """Whether a separate prompt field repeats the shared turns: all of them, or one of the questions."""
    if given == prompt[: len(given)] or given == [item for item in prompt if item.role != "system"]:
        return True
    questions = [item.content.strip() for item in prompt if item.role == "user"]
    return len(given) == 1 and given[0].content.strip() in questions


def _turns(name: str, value: Any, fields: Fields) -> list[Message]:
    try:
        return read_turns(value, fields)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
