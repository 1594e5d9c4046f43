"""Prometheus metrics at ``/metrics``."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mindcoder.serve.worker import EngineWorker

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self, worker: EngineWorker) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "mindcoder_requests", "Requests by path and status", ["path", "status"], registry=self.registry
        )
        self.tokens = Counter("mindcoder_tokens", "Tokens by kind", ["kind"], registry=self.registry)
        self.first_token = Histogram(
            "mindcoder_first_token_seconds", "Request to first token", buckets=SECONDS, registry=self.registry
        )
        self.next_token = Histogram(
            "mindcoder_inter_token_seconds", "Between tokens of an answer", buckets=SECONDS, registry=self.registry
        )
        engine = worker.engine
        for name, meaning, read in (
            ("running", "Sequences computed together", lambda: len(engine.scheduler.running)),
            ("waiting", "Sequences that wait", lambda: len(engine.scheduler.waiting)),
            ("open_requests", "Requests not yet answered", lambda: worker.open_requests),
            ("free_blocks", "Free cache blocks", lambda: engine.pool.free),
            ("cache_blocks", "Cache blocks", lambda: engine.pool.usable),
        ):
            Gauge(f"mindcoder_{name}", meaning, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """The metrics in exposition format."""
        return generate_latest(self.registry)


class CountRequests:
    """ASGI middleware that counts responses; it passes all messages through, disconnections included."""

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def counting(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                path = route.path if route is not None else "other"
                self.metrics.requests.labels(path, message["status"]).inc()
            await send(message)

        await self.app(scope, receive, counting if scope["type"] == "http" else send)
