"""Conversations: OpenAI's ``messages``, ShareGPT's ``conversations``, Firefly's ``conversation``, and MOSS.

OpenAI and ShareGPT as in hiyouga/LLaMA-Factory data/README.md and src/llamafactory/data/converter.py; Firefly as in
yangjianxin1/Firefly component/dataset.py; MOSS as in OpenMOSS/MOSS finetune_moss.py and SFT_data/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mindcoder.data.conversation import Message
from mindcoder.data.readers.fields import Fields
from mindcoder.data.readers.record import Conversation
from mindcoder.data.readers.single import Origin
from mindcoder.data.readers.tools import call_text
from mindcoder.data.readers.turns import finished, read_turns

MOSS_PARTS = ("Human", "Inner Thoughts", "Commands", "Tool Responses", "MOSS")
MOSS_MARKS = re.compile(r"^\s*<\|[^|<>]+\|>:|<eo[a-z]>\s*$")
MOSS_002_TURN = re.compile(r"\[(Human|MOSS)\]:(.*?)(?:<eoh>|<eoa>|$)(?=\s*\[(?:Human|MOSS)\]:|\s*$)", re.DOTALL)


def turns_of(name: str) -> Callable[[Fields, Origin], Conversation]:
    """Reader of a layout with its turns in field ``name``."""

    def read(fields: Fields, origin: Origin) -> Conversation:
        try:
            turns = read_turns(fields.raw(name), fields)
            questions = [item.content.strip() for item in turns if item.role == "user"]
            if isinstance(fields.peek("prompt"), str) and fields.peek("prompt").strip() in questions:
                fields.raw("prompt")  # repeats the first question, as in HuggingFaceH4's datasets
            return Conversation(*origin, finished(turns, fields))
        except ValueError as error:
            raise type(error)(f"{name}: {error}") from None

    return read


def moss(fields: Fields, origin: Origin) -> Conversation:
    """MOSS 003: ``chat`` holds turn_1, turn_2 …, each with the question, thoughts, commands, their results, the answer.

    Thoughts go between ``<think>`` and ``</think>`` before the text they precede, commands are tool calls, and "None"
    is nothing. Everything the model wrote is learned, results are masked, as in finetune_moss.py.
    """
    chat = fields.raw("chat")
    if not isinstance(chat, dict) or not all(isinstance(turn, dict) for turn in chat.values()):
        raise ValueError("chat: expected an object of turns turn_1, turn_2 …")
    count = fields.raw("num_turns")
    if count is not None and str(count) != str(len(chat)):
        raise ValueError(f"num_turns is {str(count)[:20]}, chat holds {len(chat)} turns")
    turns: list[Message] = []
    for number in range(1, len(chat) + 1):
        name = f"turn_{number}"
        if name not in chat:
            raise ValueError(f"chat: {name} is missing; available: {', '.join(chat)}")
        turns += _moss_turn(chat[name], f"chat.{name}", fields)
    return Conversation(*origin, finished(turns, fields))


def moss_002(fields: Fields, origin: Origin) -> Conversation:
    """MOSS 002: all turns in ``plain_text``, between ``[Human]:``, ``<eoh>``, ``[MOSS]:`` and ``<eoa>``."""
    text = fields.text("plain_text")
    prefix = fields.optional("prefix", "Prefix")
    turns = [Message("system", prefix)] if prefix else []
    end = 0
    for match in MOSS_002_TURN.finditer(text):
        if text[end : match.start()].strip():
            break
        turns.append(Message("user" if match[1] == "Human" else "assistant", match[2].strip()))
        end = match.end()
    if text[end:].strip() or end == 0:
        raise ValueError(f"plain_text: expected [Human]: …<eoh> [MOSS]: …<eoa>, found {text[end:].strip()[:60]!r}")
    return Conversation(*origin, finished(turns, fields))


def _moss_turn(turn: dict[str, Any], where: str, fields: Fields) -> list[Message]:
    parts = {name: _moss_part(turn.get(name), f"{where}.{name}") for name in MOSS_PARTS}
    for name in turn:
        if name not in MOSS_PARTS:
            fields.mark_unread(f"chat.{name}")
    thoughts = f"<think>\n{parts['Inner Thoughts']}\n</think>\n" if parts["Inner Thoughts"] else ""
    question, answer = Message("user", parts["Human"]), parts["MOSS"]
    if not parts["Commands"]:
        return [question, Message("assistant", thoughts + answer)]
    return [
        question,
        Message("assistant", f"{thoughts}{call_text(parts['Commands'])}"),
        Message("tool", parts["Tool Responses"]),
        Message("assistant", answer),
    ]


def _moss_part(value: Any, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected a text, found {type(value).__name__}")
    text = MOSS_MARKS.sub("", value).strip()
    return "" if text == "None" else text
