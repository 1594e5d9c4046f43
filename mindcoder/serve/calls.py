"""Calls of tools in the answers to a chat, in OpenAI's format."""

from __future__ import annotations

import json
import uuid
from typing import Any

from mindcoder.data.tool_calls import Call, CallStream


class CallsInAnswer:
    """Separates the words of one answer from its calls, as its text comes.

    Calls are those between ``<tool_call>`` and ``</tool_call>``, as Hermes and Qwen write them; what another model
    writes stays text. A call is given out when it is complete.
    """

    def __init__(self) -> None:
        self._stream = CallStream()
        self._told = 0

    def add(self, text: str, reason: str | None, is_delta: bool) -> tuple[dict[str, Any], str | None]:
        """Fields of a message (or of a delta) for new text, and the finish reason.

        Args:
            reason: why the answer ends with this text; None if it goes on.
        """
        words = self._stream.push(text)
        if reason is not None:
            words += self._stream.finish()
        calls = self._stream.calls[self._told :]
        fields: dict[str, Any] = {"content": words}
        if calls:
            fields["tool_calls"] = [
                self._call(call, self._told + number, is_delta) for number, call in enumerate(calls)
            ]
            self._told += len(calls)
            if not is_delta:
                fields["content"] = words.strip("\n") or None
        return fields, "tool_calls" if reason == "stop" and self._stream.calls else reason

    @staticmethod
    def _call(call: Call, index: int, is_delta: bool) -> dict[str, Any]:
        function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
        told = {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}
        return {"index": index, **told} if is_delta else told
