"""Single-turn records, under the names that datasets use; Alpaca's ``history`` makes one a conversation.

Alpaca: tatsu-lab/stanford_alpaca README.md. ``history`` and ``system``: hiyouga/LLaMA-Factory data/README.md (answers
in the history are learned too). Firefly's ``input`` and ``target``: YeungNLP/firefly-train-1.1M. ``problem`` and
``solution``: ise-uiuc/magicoder. ``prompt`` and ``completion``: huggingface/trl docs/source/dataset_formats.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mindcoder.data.conversation import Message
from mindcoder.data.readers.fields import Fields
from mindcoder.data.readers.record import Conversation, Document, Record
from mindcoder.data.readers.turns import finished, read_turns

Origin = tuple[str, int, int | None]
BELLE_TURN = re.compile(r"^(Human|Assistant):", re.MULTILINE)
SURROUNDINGS = (
    "system",
    "system_prompt",
    "history",
    "tools",
    "functions",
)  # a record with one of these is a conversation


def single_turn(question: str, answer: str, context: str = "") -> Callable[[Fields, Origin], Record | Conversation]:
    """Reader of a layout whose record is a ``question``, optional ``context`` for it, and an ``answer``."""

    def read(fields: Fields, origin: Origin) -> Record | Conversation:
        asked, answered = fields.text(question), fields.text(answer)
        further = fields.optional(context) if context else ""
        earlier = turns_in_text(asked) if question == "instruction" and not further else []
        if earlier:
            return Conversation(*origin, finished([*earlier, Message("assistant", answered)], fields))
        if not any(fields.raw(name) for name in SURROUNDINGS):
            return Record(*origin, asked, further, answered)
        turns = [*history(fields), Message("user", asked, further), Message("assistant", answered)]
        return Conversation(*origin, finished(turns, fields))

    return read


def turns_in_text(text: str) -> list[Message]:
    """BELLE's multi-turn chat: alternating ``Human:…`` and ``Assistant:…``, the last answer left open; empty otherwise.

    LianjiaTech/BELLE data/10M/README.md (multiturn_chat_0.8M).
    """
    start, *parts = BELLE_TURN.split(text)
    names, contents = parts[::2], [content.strip() for content in parts[1::2]]
    whole = not start.strip() and len(names) > 1 and names == ["Human", "Assistant"] * (len(names) // 2)
    if not whole or contents.pop() or not all(contents):
        return []
    return [Message("user" if name == "Human" else "assistant", text) for name, text in zip(names, contents)]


def history(fields: Fields) -> list[Message]:
    """Alpaca's ``history``: pairs of an earlier question and its answer.

    Raises:
        ValueError: another form.
    """
    rounds = fields.raw("history") or []
    if not isinstance(rounds, list):
        raise ValueError(f"history: expected a list of [question, answer], found {type(rounds).__name__}")
    found: list[Message] = []
    for number, turn in enumerate(rounds):
        if not (isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)):
            raise ValueError(f"history[{number}]: expected [question, answer], found {str(turn)[:80]}")
        found += [Message("user", turn[0]), Message("assistant", turn[1])]
    return found


def prompt_and_completion(fields: Fields, origin: Origin) -> Record | Conversation:
    """TRL's ``prompt`` and ``completion``: two strings, or two lists of messages of which the second is learned."""
    prompt, completion = fields.raw("prompt"), fields.raw("completion")
    if not isinstance(prompt, list) and not isinstance(completion, list):
        return single_turn("prompt", "completion")(fields, origin)
    asked = _messages("prompt", prompt, fields)
    answered = _messages("completion", completion, fields)
    turns = [*(replace(item, learned=item.role != "assistant") for item in asked), *answered]
    return Conversation(*origin, finished(turns, fields))


def self_instruct(fields: Fields, origin: Origin) -> Record | Conversation:
    """Self-Instruct's seed tasks: an ``instruction`` and ``instances`` of input and output, of which one is used."""
    instances = fields.raw("instances")
    if not (isinstance(instances, list) and instances and isinstance(instances[0], dict)):
        raise ValueError("instances: expected a list of objects")
    if len(instances) > 1:
        fields.mark_unread("instances after the first")
    inner = Fields({"instruction": fields.raw("instruction"), **instances[0]})
    return single_turn("instruction", "output", "input")(inner, origin)


def _messages(name: str, value: Any, fields: Fields) -> list[Message]:
    if isinstance(value, str):
        return [Message("user" if name == "prompt" else "assistant", value)]
    try:
        return read_turns(value, fields)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def whole_text(name: str) -> Callable[[Fields, Origin], Document]:
    """Reader of a layout whose record is a single text in field ``name``."""

    def read(fields: Fields, origin: Origin) -> Document:
        return Document(*origin, fields.text(name))

    return read
