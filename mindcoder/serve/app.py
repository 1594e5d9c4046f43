"""The HTTP application: OpenAI's paths over one engine."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel, ValidationError

from mindcoder.errors import UserError
from mindcoder.generate.model import Model
from mindcoder.serve.limits import RateLimit, key_matches
from mindcoder.serve.metrics import CountRequests, Metrics
from mindcoder.serve.protocol import ChatRequest, CompletionRequest, error_body
from mindcoder.serve.responses import ChatJob, CompletionJob, Job
from mindcoder.serve.worker import EngineFailed, EngineWorker, QueueFull

PAGE = Path(__file__).with_name("page.html")
Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True)
class Limits:
    """What the server accepts.

    Attributes:
        api_key: that clients have to send; None lets everybody in.
        max_waiting: requests beyond those computed together.
        per_minute: requests of one client; None sets no limit.
        max_body: bytes of a request.
        timeout: seconds until an answer ends unfinished.
    """

    api_key: str | None = None
    max_waiting: int = 256
    per_minute: int | None = None
    max_body: int = 1 << 20
    timeout: float = 600.0


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", retry: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.kind, self.retry = status, kind, retry


class Server:
    """Paths and their common checks.

    Args:
        model: its engine belongs to the server from now on.
        limits: what is accepted.
    """

    def __init__(self, model: Model, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.worker = EngineWorker(model.engine, limits.max_waiting)
        self.metrics = Metrics(self.worker)
        self.rate = RateLimit(limits.per_minute)
        self.started = int(time.time())

    async def admit(self, request: Request) -> None:
        """Key and rate."""
        header = request.headers.get("authorization")
        if not key_matches(header, self.limits.api_key):
            raise Refused(401, "wrong or missing API key", "authentication_error")
        client = header or (request.client.host if request.client else "")
        seconds = self.rate.wait(client)
        if seconds > 0:
            limit = f"more than {self.limits.per_minute} requests a minute"
            raise Refused(429, limit, "rate_limit_error", retry=seconds)

    async def read(self, request: Request, kind: type[Body]) -> Body:
        """The body, no longer than it may be, as what it has to be."""
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > self.limits.max_body:
                raise Refused(413, f"the request is longer than {self.limits.max_body} bytes")
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise Refused(400, f"{place}: {first['msg']}" if place else first["msg"]) from None

    async def run(self, request: Request, job: Job) -> Response:
        """The whole answer, or its stream."""
        job.prepare()
        if job.body.stream:
            first = job.stream()
            try:  # errors before the first token still get a status of their own
                opening = await asyncio.wait_for(anext(first), self.limits.timeout)
            except BaseException:
                await first.aclose()  # type: ignore[attr-defined]
                raise
            return StreamingResponse(self._events(opening, first), media_type="text/event-stream")
        whole = asyncio.create_task(job.whole())
        gone = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait({whole, gone}, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
            if whole.done():
                return JSONResponse(whole.result())
            if gone.done():
                return Response(status_code=499)
            raise Refused(504, f"no complete answer within {self.limits.timeout:.0f} s", "timeout_error")
        finally:
            for task in (whole, gone):
                task.cancel()
            await asyncio.gather(whole, gone, return_exceptions=True)

    async def _events(self, opening: dict[str, Any], rest: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
        """Server-sent events."""
        try:
            async with asyncio.timeout(self.limits.timeout):
                yield f"data: {json.dumps(opening, ensure_ascii=False)}\n\n"
                async for item in rest:
                    yield f"data: {json.dumps(item, ensure_ascii=False)}\n\n"
                yield "data: [DONE]\n\n"
        except (TimeoutError, EngineFailed, QueueFull) as error:
            kind = "timeout_error" if isinstance(error, TimeoutError) else "server_error"
            message = "the time for this answer is over" if isinstance(error, TimeoutError) else "the engine failed"
            yield f"data: {json.dumps(error_body(message, kind))}\n\n"
        finally:
            await rest.aclose()  # type: ignore[attr-defined]


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def create_app(model: Model, limits: Limits = Limits()) -> FastAPI:
    """The application; its engine thread ends with it."""
    server = Server(model, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(server.worker.close)

    app = FastAPI(title="MindCoder", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.server = server

    app.add_middleware(CountRequests, metrics=server.metrics)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        headers = {"Retry-After": str(math.ceil(error.retry))} if error.retry else None
        return JSONResponse(error_body(str(error), error.kind), error.status, headers)

    @app.exception_handler(UserError)
    async def unfit(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse(error_body(str(error), "invalid_request_error"), 400)

    @app.exception_handler(QueueFull)
    async def full(_: Request, error: QueueFull) -> JSONResponse:
        body = error_body("the queue is full", "rate_limit_error", "queue_full")
        return JSONResponse(body, 429, {"Retry-After": "1"})

    @app.exception_handler(EngineFailed)
    async def failed(_: Request, error: EngineFailed) -> JSONResponse:
        return JSONResponse(error_body("the engine failed; the server's log says why", "server_error"), 500)

    @app.exception_handler(TimeoutError)
    async def late(_: Request, error: TimeoutError) -> JSONResponse:
        return JSONResponse(error_body("no token within the time for an answer", "timeout_error"), 504)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok" if server.worker.alive else "failed"}, 200 if server.worker.alive else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        await server.admit(request)
        about = {"object": "model", "created": server.started, "owned_by": "mindcoder"}
        entries = [
            {"id": name, **about} if adapter is None else {"id": name, **about, "parent": model.name}
            for name, adapter in model.choices.items()
        ]
        return {"object": "list", "data": entries}

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        await server.admit(request)
        body = await server.read(request, CompletionRequest)
        return await server.run(request, CompletionJob(body, model, server.worker, server.metrics))

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        await server.admit(request)
        body = await server.read(request, ChatRequest)
        return await server.run(request, ChatJob(body, model, server.worker, server.metrics))

    return app
