"""A response of server-sent events that releases its resources however it ends."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from fastapi.responses import StreamingResponse

from mindcoder.serve.errors import error_body
from mindcoder.serve.worker import EngineFailed

LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}  # JSON escapes all others

log = logging.getLogger(__name__)


class EventStream(StreamingResponse):
    """Chunks as ``data:`` lines, then ``[DONE]``.

    Args:
        opening: the first chunk.
        rest: the others; closed at the end, also if the client disconnects before the first chunk is sent.
        seconds: timeout of the response; also applies to a client that does not read.
        slots: engine slots held by the answers.
    """

    def __init__(
        self, opening: dict[str, Any], rest: AsyncIterator[dict[str, Any]], seconds: float, slots: ExitStack
    ) -> None:
        super().__init__(self._lines(opening), media_type="text/event-stream")
        self.rest, self.seconds, self.slots = rest, seconds, slots

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            # `_lines` reports the timeout itself, if the client is reading
            async with asyncio.timeout(self.seconds + 1):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            log.warning("a client did not read its answer: disconnected")
        finally:
            self.slots.close()
            await self.rest.aclose()  # type: ignore[attr-defined]

    async def _lines(self, opening: dict[str, Any]) -> AsyncIterator[str]:
        end = asyncio.get_running_loop().time() + self.seconds
        yield _line(opening)
        try:
            while True:
                try:
                    async with asyncio.timeout_at(end):  # not around the yield: the timeout belongs to this task
                        item = await anext(self.rest)
                except StopAsyncIteration:
                    break
                yield _line(item)
        except TimeoutError:
            yield _line(error_body("the time for this answer is over", "timeout_error"))
        except EngineFailed:
            yield _line(error_body("the engine failed; the server's log says why", "server_error"))
        else:
            yield "data: [DONE]\n\n"


def _line(item: dict[str, Any]) -> str:
    """JSON without characters that Python's ``str.splitlines`` treats as line ends, as httpx and others read
    streams.
    """
    text = json.dumps(item, ensure_ascii=False, allow_nan=False)
    return f"data: {text.translate(LINE_ENDS)}\n\n"
