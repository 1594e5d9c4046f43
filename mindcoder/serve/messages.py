"""Chat messages, and their conversion to turns; calls and results become the same text as in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mindcoder.data.conversation import Message
from mindcoder.data.readers.tools import SEPARATOR, call_text
from mindcoder.serve.schema import Strict, expected, only

MAX_PARTS = 2048  # per message, and messages per conversation
MAX_CALLS = 128  # per message; as many as there are tools in OpenAI's API
RESULTS = ("tool", "function")
TEXT_ONLY = "this server reads text only"

Identifier = Annotated[str, Field(max_length=512)]


class TextPart(Strict):
    """A text part of a message."""

    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: Any = None

    @model_validator(mode="before")
    @classmethod
    def is_text(cls, data: Any) -> Any:
        """Runs before the fields are validated: an image has other names."""
        if isinstance(data, dict) and data.get("type", "text") != "text":
            raise expected(f'"text" ({TEXT_ONLY})', "type")
        return data


class Function(Strict):
    """The called function, with its arguments as a JSON string."""

    name: Identifier
    arguments: str


class ToolCall(Strict):
    """A tool call made by the assistant."""

    id: Identifier | None = None
    type: Literal["function"] = "function"
    function: Function
    index: Any = None  # present in calls assembled from a stream


class ChatMessage(Strict):
    """A message.

    Attributes:
        content: a list of parts; a string is one part.
        name: of the function that a result is from; other messages cannot have one, as no template can express it.
        refusal, audio, annotations: as in OpenAI's answers when they are sent back as messages.
    """

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[list[TextPart], Field(max_length=MAX_PARTS, fail_fast=True)] | None = None
    name: Identifier | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_CALLS, fail_fast=True)] | None = None
    function_call: Function | None = None
    tool_call_id: Identifier | None = None
    refusal: Annotated[Any, only(why="not supported: write it into the content")] = None
    audio: Annotated[Any, only(why=TEXT_ONLY)] = None
    annotations: Any = None

    @field_validator("content", mode="before")
    @classmethod
    def in_parts(cls, value: Any) -> Any:
        """Convert the short form to the long one."""
        if isinstance(value, str):
            return [{"type": "text", "text": value}]
        if value is not None and not isinstance(value, list):
            raise expected("a text or a list of parts")
        return value

    @model_validator(mode="after")
    def fits_its_role(self) -> Self:
        """Check role-specific fields, and content, which only a tool call may omit."""
        if self.role != "assistant":
            for field in ("tool_calls", "function_call"):
                if getattr(self, field):
                    raise expected("null (only the assistant calls)", field)
        if self.role not in RESULTS:
            if self.name is not None:
                raise expected("null (the templates have no place for names: write it into the content)", "name")
            if self.tool_call_id is not None:
                raise expected('null (only a message of the role "tool" answers a call)', "tool_call_id")
        if self.content is None and not (self.tool_calls or self.function_call):
            raise expected("a text or a list of parts", "content")
        return self

    @property
    def text(self) -> str:
        """Content and calls as one text."""
        content = "".join(part.text for part in self.content or ())
        calls = [call.function for call in self.tool_calls or ()] + ([self.function_call] if self.function_call else [])
        return "\n".join(part for part in (content, *(call_text(call.model_dump()) for call in calls)) if part)


def conversation(messages: Sequence[ChatMessage]) -> list[Message]:
    """Turns to be encoded; consecutive tool results form one turn, in the order of their calls.

    Raises:
        ValueError: a result belongs to no call or a call has no result, a system message is between the turns, or
            a call contains what cannot be text.
    """
    turns: list[Message] = []
    number = 0
    while number < len(messages):
        message, end = messages[number], number + 1
        if message.role in RESULTS:
            while end < len(messages) and messages[end].role in RESULTS:
                end += 1
            calls = messages[number - 1].tool_calls if number else None
            results = _in_order(messages[number:end], calls or [], number)
            turns.append(Message("tool", SEPARATOR.join(results)))
        elif message.role in ("system", "developer"):
            if any(turn.role != "system" for turn in turns):
                raise ValueError(f"messages[{number}]: a system message between the turns; it is read at the beginning")
            turns.append(Message("system", message.text))
        else:
            if message.tool_calls and end < len(messages) and messages[end].role not in RESULTS:
                raise ValueError(
                    f"messages[{end}]: expected the results of the calls before it, found a {messages[end].role}'s"
                )
            turns.append(Message("assistant" if message.role == "assistant" else "user", _text(message, number)))
        number = end
    return turns


def _in_order(results: Sequence[ChatMessage], calls: Sequence[ToolCall], first: int) -> list[str]:
    """Texts of results, those with a ``tool_call_id`` in the order of the calls; the first is messages[first]."""
    named = [call.id for call in calls if call.id is not None]
    if len(set(named)) < len(named):
        raise ValueError(f"messages[{first - 1}].tool_calls: two calls have the same id")
    indices = {call.id: index for index, call in enumerate(calls) if call.id is not None}
    if all(result.tool_call_id is None for result in results) or not indices:
        return [result.text for result in results]
    texts: dict[int, str] = {}
    for number, result in enumerate(results, first):
        identifier = result.tool_call_id
        if identifier is None or identifier not in indices:
            known = ", ".join(repr(name[:40]) for name in list(indices)[:8])
            raise ValueError(
                f"messages[{number}].tool_call_id: expected one of the calls before it ({known}), "
                f"found {identifier[:40] if identifier else identifier!r}"
            )
        if indices[identifier] in texts:
            raise ValueError(f"messages[{number}].tool_call_id: {identifier[:40]!r} has a result already")
        texts[indices[identifier]] = result.text
    for identifier, index in indices.items():
        if index not in texts:
            raise ValueError(f"messages[{first - 1}].tool_calls[{index}]: {identifier[:40]!r} has no result")
    return [texts[index] for index in sorted(texts)]


def _text(message: ChatMessage, number: int) -> str:
    try:
        return message.text
    except ValueError as error:  # from JSON inside a string, which has not been validated before
        raise ValueError(f"messages[{number}]: the arguments of a call: {error}") from None
