"""Turns of a conversation, in the formats of various datasets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mindcoder.data.conversation import Message, Role, check_turns
from mindcoder.data.readers.fields import Fields, UnusableRecord, is_metadata
from mindcoder.data.readers.tools import SEPARATOR, call_text, result_text, tools_data, tools_text

# OpenAI's names, ShareGPT's (with those of the models it was collected from), LLaMA-Factory's and Llama 3's.
ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "ipython"), "tool"),
}
CALL = "function_call"  # LLaMA-Factory's role of an answer that is a tool call
TURN_FIELDS = {"role", "from", "content", "value", "tool_calls", "function_call", "weight", "input"}
TURN_METADATA = {"tool_call_id", "name", "end_turn", "refusal", "recipient", "channel"}
NO_QUESTION = "a first answer is left out: it has no question"


def read_turns(turns: Any, fields: Fields) -> list[Message]:
    """Messages of a list of turns; consecutive tool results become one message.

    Raises:
        ValueError: another form, or a part that is not text.
    """
    if not isinstance(turns, list):
        raise ValueError(f"expected a list, found {type(turns).__name__}")
    found: list[Message] = []
    for number, turn in enumerate(turns):
        try:
            messages = _read_turn(turn, fields)
        except ValueError as error:
            raise ValueError(f"turn {number}: {error}") from None
        for message in messages:
            if message.role == "tool" and found and found[-1].role == "tool":
                found[-1] = replace(found[-1], content=found[-1].content + SEPARATOR + message.content)
            else:
                found.append(message)
    return found


def finished(messages: list[Message], fields: Fields) -> tuple[Message, ...]:
    """Messages for training, preceded by the record's system message and tools.

    A first answer without a question is dropped with a remark, as FastChat does (fastchat/train/train.py).

    Raises:
        ValueError: questions and answers do not alternate.
        UnusableRecord: an answer is empty.
    """
    opening, rest = with_system(messages, fields)
    if len(rest) > 1 and rest[0].role == "assistant":
        rest = rest[1:]
        fields.remark = NO_QUESTION
    checked = check_turns((*opening, *rest))
    for message in checked:
        if message.role == "assistant" and message.learned and not message.content.strip():
            raise UnusableRecord("an answer is empty")
    return checked


def with_system(messages: list[Message], fields: Fields) -> tuple[list[Message], list[Message]]:
    """System message (none or one) and the other turns.

    A system turn overrides the record's own ``system``, as in LLaMA-Factory (data/README.md: system_tag); the tools
    are appended to it.

    Raises:
        ValueError: ``system`` or ``tools`` are of the wrong kind.
    """
    count = next((number for number, item in enumerate(messages) if item.role != "system"), len(messages))
    texts = [item.content for item in messages[:count]]
    name = fields.first("system", "system_prompt", "meta_instruction")
    if name and (not any(text.strip() for text in texts) or fields.peek(name) in texts):
        given = fields.optional(name)
        texts = texts if given in texts else [given]
    described = fields.first("tools", "functions")  # OpenAI's name, and its deprecated one
    given_tools = fields.raw(described) if described else None
    tools = tools_text(given_tools)
    text = "\n\n".join(part for part in (*texts, tools) if part.strip())
    opening = [Message("system", text, tools=tools_data(given_tools))] if text else []
    return opening, messages[count:]


def _read_turn(turn: Any, fields: Fields) -> list[Message]:
    if isinstance(turn, dict) and "human" in turn and "assistant" in turn:  # Firefly
        _note(turn, {"human", "assistant"}, fields)
        return [Message("user", _content(turn["human"])), Message("assistant", _content(turn["assistant"]))]
    turn = turn if isinstance(turn, dict) else {"content": turn}
    name = turn.get("role", turn.get("from"))
    name = name.strip().lower() if isinstance(name, str) else name
    content = turn.get("content", turn.get("value"))
    if name == "tool" and "observation" in turn:  # Firefly's ChatGLM3 layout: call and result in one turn
        _note(turn, {"role", "name", "parameters", "observation"}, fields)
        call = call_text({"name": turn.get("name"), "arguments": turn.get("parameters", {})})
        return [Message("assistant", call), Message("tool", result_text(turn["observation"]))]
    if name != CALL and (not isinstance(name, str) or name not in ROLES):
        raise ValueError(f"expected a role ({', '.join(ROLES)}, {CALL}) and a text, found {str(turn)[:80]}")
    _note(turn, TURN_FIELDS, fields)
    if name == CALL:
        return [Message("assistant", call_text(content), learned=_is_learned(turn))]
    role = ROLES[name]
    if role == "tool":
        return [Message("tool", _content(content) if isinstance(content, list) else result_text(content))]
    calls = turn.get("tool_calls") or turn.get("function_call") if role == "assistant" else None
    text = "" if content is None and calls else _content(content)
    if calls:
        text = "\n".join(part for part in (text, call_text(calls)) if part)
    context = turn.get("input") or ""
    if not isinstance(context, str):
        raise ValueError(f"input: expected a text, found {type(context).__name__}")
    return [Message(role, text, context, learned=role != "assistant" or _is_learned(turn))]


def _is_learned(turn: dict[str, Any]) -> bool:
    """OpenAI's ``weight`` of an answer: 1, or 0 if it is masked (platform.openai.com, fine-tuning)."""
    weight = turn.get("weight", 1)
    if weight not in (0, 1):
        raise ValueError(f"weight: expected 0 or 1, found {str(weight)[:40]}")
    return bool(weight)


def _content(content: Any) -> str:
    """A string, or OpenAI's list of parts, all of which must be text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"expected a text, found {type(content).__name__}")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part if isinstance(part, str) else part.get("text") if kind == "text" else None
        if not isinstance(text, str):
            raise ValueError(f"holds a part of type {str(kind)[:40]}: only text can be learned")
        texts.append(text)
    return "".join(texts)


def _note(turn: dict[str, Any], known: set[str], fields: Fields) -> None:
    for name, value in turn.items():
        is_switch = isinstance(value, bool)  # not the numbers 0 and 1, which equal False and True
        if name in known or name in TURN_METADATA or is_metadata(name) or is_switch or value in (None, "", [], {}):
            continue
        fields.mark_unread(f"turn.{name}")
