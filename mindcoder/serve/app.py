"""The HTTP application: OpenAI's endpoints over one engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from mindcoder.generate.model import Model
from mindcoder.serve.bodies import read_body
from mindcoder.serve.errors import Refused, add_error_handlers, unknown_model
from mindcoder.serve.events import EventStream
from mindcoder.serve.limits import WRONG_KEYS, Limits, RateLimit, client_name, key_matches
from mindcoder.serve.metrics import CountRequests, Metrics
from mindcoder.serve.origins import Names, OnlyOwnNames
from mindcoder.serve.page import add_page
from mindcoder.serve.protocol import ChatRequest, CompletionRequest
from mindcoder.serve.responses import ChatJob, CompletionJob, Job
from mindcoder.serve.worker import EngineWorker

PREPARED_AT_ONCE = 2  # requests tokenized concurrently; others wait
__all__ = ["Limits", "Server", "create_app"]


class Server:
    """Endpoints and their common checks.

    Args:
        model: the server takes over its engine.
        limits: of requests.
    """

    def __init__(self, model: Model, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.worker = EngineWorker(model.engine, limits.max_waiting)
        self.metrics = Metrics(self.worker)
        self.rate, self.wrong_keys = RateLimit(limits.per_minute), RateLimit(WRONG_KEYS)
        self.preparing = asyncio.Semaphore(PREPARED_AT_ONCE)
        self.started = int(time.time())

    def admit(self, request: Request, counts: bool = True) -> None:
        """Check API key and rate limit; wrong keys have a rate limit of their own, to prevent guessing.

        Args:
            counts: whether the request counts toward the client's rate limit.
        """
        client = client_name(request.client.host if request.client else None)
        if self.limits.api_key is not None and (seconds := self.wrong_keys.blocked(client)) > 0:
            # before the key is checked, so that it is not an oracle
            raise self._too_many(self.wrong_keys, "wrong keys", seconds)
        if not key_matches(request.headers.get("authorization"), self.limits.api_key):
            self._take(self.wrong_keys, client, "wrong keys")
            raise Refused(401, "wrong or missing API key", "authentication_error")
        if counts:
            self._take(self.rate, client, "requests")

    def _take(self, rate: RateLimit, client: str, what: str) -> None:
        seconds = rate.wait(client)
        if seconds > 0:
            raise self._too_many(rate, what, seconds)

    @staticmethod
    def _too_many(rate: RateLimit, what: str, seconds: float) -> Refused:
        return Refused(429, f"more than {rate.per_minute} {what} per minute", "rate_limit_error", retry=seconds)

    async def run(self, request: Request, job: Job) -> Response:
        """The whole response, or its stream."""
        job.check_size(self.limits.request_tokens)
        slots = ExitStack()
        slots.enter_context(self.worker.slots(job.count))
        try:
            async with self.preparing:
                await asyncio.to_thread(job.prepare)
            if not job.body.stream:
                return await self._whole(request, job)
            first = job.stream()
            try:  # errors before the first token still get their own status
                opening = await self._until_gone(request, anext(first))
            except BaseException:
                await first.aclose()  # type: ignore[attr-defined]
                raise
            if opening is None:
                await first.aclose()  # type: ignore[attr-defined]
                return Response(status_code=499)
            return EventStream(opening, first, self.limits.timeout, slots.pop_all())
        finally:
            slots.close()

    async def _whole(self, request: Request, job: Job) -> Response:
        answer = await self._until_gone(request, job.whole())
        return Response(status_code=499) if answer is None else JSONResponse(answer)

    async def _until_gone(self, request: Request, work: Awaitable[dict[str, Any]]) -> dict[str, Any] | None:
        """The result of ``work``; None if the client disconnects first.

        Raises:
            Refused: it took too long.
        """
        doing = asyncio.ensure_future(work)
        gone = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait({doing, gone}, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            if gone.done():
                return None
            raise Refused(504, f"no complete answer within {self.limits.timeout:g} s", "timeout_error")
        finally:
            for task in (doing, gone):
                task.cancel()
            await asyncio.gather(doing, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def create_app(model: Model, limits: Limits = Limits(), names: Names | None = None) -> FastAPI:
    """Create the application; its engine thread ends with it.

    Args:
        names: host names it answers to; None checks neither ``Host`` nor ``Origin``.
    """
    server = Server(model, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(server.worker.close)

    app = FastAPI(title="MindCoder", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.router.redirect_slashes = False  # an unknown path gets an error that names the nearest one
    app.state.server = server

    app.add_middleware(OnlyOwnNames, names=names)
    app.add_middleware(CountRequests, metrics=server.metrics)

    add_error_handlers(app)
    add_page(app)

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok" if server.worker.alive else "failed"}, 200 if server.worker.alive else 503)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        server.admit(request, counts=False)
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4")

    def entry(name: str) -> dict[str, Any]:
        about = {"id": name, "object": "model", "created": server.started, "owned_by": "mindcoder"}
        return about if model.choices[name] is None else {**about, "parent": model.name}

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        server.admit(request)
        return {"object": "list", "data": [entry(name) for name in model.choices]}

    @app.get("/v1/models/{name:path}")
    async def one_model(request: Request, name: str) -> dict[str, Any]:
        server.admit(request)
        if name not in model.choices:
            raise unknown_model(name, model.choices)
        return entry(name)

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        server.admit(request)
        body = await read_body(request, CompletionRequest, limits.max_body)
        return await server.run(request, CompletionJob(body, model, server.worker, server.metrics))

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        server.admit(request)
        body = await read_body(request, ChatRequest, limits.max_body)
        return await server.run(request, ChatJob(body, model, server.worker, server.metrics))

    return app
