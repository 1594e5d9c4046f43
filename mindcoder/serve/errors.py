"""Errors in OpenAI's format, whatever their origin."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from mindcoder.errors import UserError, single_line
from mindcoder.serve.worker import EngineFailed, QueueFull

INVALID = "invalid_request_error"
SHOWN = 80  # characters of client input in a message


class Refused(Exception):
    """An error response.

    Args:
        status: HTTP status.
        message: one line.
        kind: OpenAI's ``type``.
        param: the field at fault, such as ``messages[0].role``.
        code: OpenAI's ``code``.
        retry: seconds after which to retry.
        closes: whether the rest of the request is left unread.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        retry: float = 0.0,
        closes: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.param, self.code = status, kind, param, code
        self.headers = {"Retry-After": str(math.ceil(retry))} if retry else {}
        if closes:
            self.headers["Connection"] = "close"


def error_body(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object; the message is a single line without terminal control characters."""
    return {"error": {"message": single_line(message), "type": kind, "param": param, "code": code}}


def add_error_handlers(app: FastAPI) -> None:
    """Add handlers for the server's exceptions and the framework's own."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        body = error_body(str(error), error.kind, error.code, error.param)
        return JSONResponse(body, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(error_body(_unrouted(app, request, error), INVALID), error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def left(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)

    @app.exception_handler(UserError)
    async def unfit(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse(error_body(str(error), INVALID), 400)

    @app.exception_handler(QueueFull)
    async def full(_: Request, error: QueueFull) -> JSONResponse:
        body = error_body("the queue is full", "rate_limit_error", "queue_full")
        return JSONResponse(body, 429, {"Retry-After": "1"})

    @app.exception_handler(EngineFailed)
    async def failed(_: Request, error: EngineFailed) -> JSONResponse:
        return JSONResponse(error_body("the engine failed; the server's log says why", "server_error"), 500)

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(error_body("the server failed; its log says why", "server_error"), 500)


def unknown_model(name: str, choices: Iterable[str]) -> Refused:
    """OpenAI's error for an unknown model, with the names of the available ones."""
    there = ", ".join(map(repr, choices))
    return Refused(404, f"no model {name[:SHOWN]!r} here; available: {there}", param="model", code="model_not_found")


def _unrouted(app: FastAPI, request: Request, error: HTTPException) -> str:
    """What is wrong with a path or a method; for a path with the nearest existing one."""
    path = request.scope["path"][:SHOWN]  # not its URL, which a foreign target makes unreadable
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return f"{path} does not take {request.method[:SHOWN]}, only {allowed}"
    if error.status_code != 404:
        return str(error.detail)
    known = [route.path for route in app.routes if hasattr(route, "path") and "{" not in route.path]
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    return f"there is no {path} here" + (f"; did you mean {near[0]}?" if near else "")
