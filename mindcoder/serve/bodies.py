"""Reads and validates request bodies."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from mindcoder.serve.errors import SHOWN, Refused
from mindcoder.serve.refusals import refusal

# bytes; up to here parsing takes 25 ms, larger bodies are parsed outside the event loop (1 MiB of small parts: 0.4 s)
LARGE = 64 << 10
CHARSETS = ("utf-8", "utf8", "us-ascii")

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request, kind: type[Body], most: int) -> Body:
    """Read and validate the body.

    Args:
        most: maximum size in bytes; nothing beyond it is read.

    Raises:
        Refused: it is longer, not JSON, or invalid.
    """
    body = await _read(request, most)
    # after reading: a client that is still sending would see a closed connection instead of the answer
    _check_type(request)
    if len(body) > LARGE:
        return await asyncio.to_thread(_parsed, body, kind)
    return _parsed(body, kind)


def _parsed(body: bytes, kind: type[Body]) -> Body:
    try:
        parsed = kind.model_validate_json(body)
    except ValidationError as error:
        message, param = refusal(error)
        raise Refused(400, message, param=param) from None
    _check_names(body)
    return parsed


def _check_type(request: Request) -> None:
    """Require JSON in UTF-8, or no content type (a page of another site may send a form or text without asking)."""
    for given in request.headers.getlist("content-type"):
        kind, _, parameters = given.lower().partition(";")
        kind = kind.strip()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise Refused(415, f"Content-Type: expected application/json, found {given[:SHOWN]}")
        for parameter in parameters.split(";"):
            name, _, value = parameter.partition("=")
            if name.strip() == "charset" and value.strip().strip('"') not in CHARSETS:
                raise Refused(415, f"Content-Type: expected charset=utf-8, found {given[:SHOWN]}")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise Refused(415, f"Content-Encoding: expected none, found {encoding[:SHOWN]}")


async def _read(request: Request, most: int) -> bytes:
    too_long = Refused(413, f"the request is longer than {most} bytes", closes=True)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 18 or int(length) > most):
        raise too_long
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise too_long
    return bytes(body)


def _check_names(body: bytes) -> None:
    """Refuse what pydantic's parser accepts: duplicate fields, of which the last would win, and NaN."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise Refused(400, f"the field {twice[:SHOWN]!r} occurs twice", param=twice[:SHOWN])
        return found

    def constant(name: str) -> None:
        raise Refused(400, f"the body is not JSON: {name} is not a JSON value")

    try:
        json.loads(body, object_pairs_hook=once, parse_constant=constant)
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
