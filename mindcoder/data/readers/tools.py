"""Tools, calls and results as text.

No template here was trained with a dedicated section for tools, so their descriptions go at the end of the system
message, and calls and results between the tags of Hermes and Qwen 2.5 (``<tool_call>``, ``<tool_response>``;
LLaMA-Factory's ``qwen`` format, src/llamafactory/data/tool_utils.py). At inference the same system message gives the
model the same tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mindcoder.data.conversation import Message

SEPARATOR = "\n</tool_response>\n<tool_response>\n"  # between the results of parallel calls


def tools_text(tools: Any) -> str:
    """Descriptions of tools for the end of a system message: a list (or one) as JSON, a JSON string, or prose.

    Raises:
        ValueError: another form.
    """
    if isinstance(tools, str):
        try:
            parsed = json.loads(tools)
        except (ValueError, RecursionError):
            parsed = None
        listed = parsed if isinstance(parsed, (list, dict)) else tools.strip()
    else:
        listed = tools
    if not listed:
        return ""
    if isinstance(listed, (list, dict)):
        items = listed if isinstance(listed, list) else [listed]
        if not all(isinstance(item, (dict, str)) for item in items):
            raise ValueError("tools: expected a list of objects or a text")
        listed = "\n".join(item if isinstance(item, str) else _json(item) for item in items)
    elif not isinstance(listed, str):
        raise ValueError(f"tools: expected a list of objects or a text, found {type(tools).__name__}")
    return (
        f"You can call these tools:\n<tools>\n{listed}\n</tools>\n"
        'Call one with <tool_call>\n{"name": its name, "arguments": an object}\n</tool_call>'
    )


def with_tools(messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> list[Message]:
    """The messages with descriptions of tools at the end of the first system message, as `with_system` has them."""
    if not tools:
        return list(messages)
    opening, rest = (messages[:1], messages[1:]) if messages and messages[0].role == "system" else ((), messages)
    parts = [*(message.content for message in opening), tools_text(list(tools))]
    text = "\n\n".join(part for part in parts if part.strip())
    return [Message("system", text, tools=tuple(tools)), *rest]


def tools_data(tools: Any) -> tuple[Any, ...]:
    """The same tools as data: a list of objects, or nothing if they are described in prose."""
    parsed = _parsed(tools) if isinstance(tools, str) else tools
    items = parsed if isinstance(parsed, list) else [parsed]
    return tuple(items) if items and all(isinstance(item, dict) for item in items) else ()


def call_text(call: Any) -> str:
    """A call by the assistant: OpenAI's ``{function: {name, arguments}}``, ``{name, arguments}``, or any text.

    ``arguments`` may be an object or a JSON string.

    Raises:
        ValueError: another form.
    """
    if isinstance(call, str):
        parsed = _parsed(call)
        if not isinstance(parsed, (dict, list)):
            return f"<tool_call>\n{call}\n</tool_call>"
        call = parsed
    if isinstance(call, list) and call and not any(isinstance(item, list) for item in call):
        return "\n".join(call_text(item) for item in call)
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        call = call["function"]
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise ValueError(f"expected a call {{name, arguments}}, found {str(call)[:80]}")
    arguments = call.get("arguments", call.get("parameters", {}))
    arguments = _parsed(arguments) if isinstance(arguments, str) else arguments
    return f"<tool_call>\n{_json({'name': call['name'], 'arguments': arguments})}\n</tool_call>"


def result_text(value: Any) -> str:
    """The result of a tool: a string, or anything else as JSON."""
    return value if isinstance(value, str) else _json(value)


def _parsed(text: str) -> Any:
    """Parsed JSON, or the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _json(value: Any) -> str:
    """JSON as the model sees it; JSON inside a string was not validated when the record was read.

    Raises:
        ValueError: nested too deeply, or a lone surrogate.
    """
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise ValueError("nested too deep") from None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"holds {text[error.start]!a}, half of a character (a lone surrogate)") from None
    return text
