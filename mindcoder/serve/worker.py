"""The thread that steps the engine, and passes events back to the requests' coroutines."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mindcoder.errors import UserError
from mindcoder.generate.engine import Engine
from mindcoder.generate.request import Event, Request, Sequence
from mindcoder.graph_lock import GRAPH_LOCK

log = logging.getLogger(__name__)


class QueueFull(Exception):
    """More requests are waiting than the server accepts."""


class EngineFailed(Exception):
    """No token could be computed for this request; the message is in the log."""


@dataclass(eq=False)
class Ticket:
    """An open request; ``events`` is read by the coroutine, everything else by the engine's thread."""

    request: Request
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[Event | Exception] = field(default_factory=asyncio.Queue)
    sequence: Sequence | None = None
    cancelled: bool = False

    def tell(self, event: Event | Exception) -> None:
        """Called by the engine's thread."""
        try:
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:
            self.cancelled = True  # the event loop is closed: nobody is listening


class EngineWorker:
    """Owns the engine: requests and cancellations come in through a queue, so nothing else touches it.

    Args:
        engine: must not be used by anyone else from now on.
        max_waiting: requests beyond those computed together; more are refused.
    """

    def __init__(self, engine: Engine, max_waiting: int) -> None:
        self.engine, self.max_waiting = engine, max_waiting
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._tickets: dict[int, Ticket] = {}
        self._open = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    @property
    def open_requests(self) -> int:
        """Number of running and waiting requests."""
        return self._open

    @property
    def capacity(self) -> int:
        """Maximum number of open requests."""
        return self.engine.batch + self.max_waiting

    @contextmanager
    def slots(self, count: int) -> Iterator[None]:
        """Reserve capacity for ``count`` requests, all or none, before any other work is done for them.

        Raises:
            QueueFull: too many requests are open.
        """
        with self._lock:
            if self._open + count > self.capacity:
                raise QueueFull
            self._open += count
        try:
            yield
        finally:
            with self._lock:
                self._open -= count

    async def answer(self, request: Request) -> AsyncIterator[Event]:
        """The events of one request with reserved capacity; leaving the iteration early cancels it.

        Raises:
            UserError: the prompt does not fit.
            EngineFailed: no token could be computed.
        """
        ticket = Ticket(request, asyncio.get_running_loop())
        self._inbox.put(lambda: self._submit(ticket))
        try:
            while True:
                event = await ticket.events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if event.finish_reason is not None:
                    return
        finally:
            self._inbox.put(lambda: self._cancel(ticket))

    def close(self) -> None:
        """Stop the thread after its current step."""
        self._inbox.put(None)
        self._thread.join(timeout=60)

    def _submit(self, ticket: Ticket) -> None:
        if ticket.cancelled:
            return
        try:
            ticket.sequence = self.engine.submit(ticket.request)
        except UserError as error:
            ticket.tell(error)
            return
        except Exception:
            log.exception("a request could not be taken; it alone ends")
            ticket.tell(EngineFailed())
            return
        self._tickets[id(ticket.sequence)] = ticket

    def _cancel(self, ticket: Ticket) -> None:
        ticket.cancelled = True
        if ticket.sequence is not None:
            self.engine.cancel(ticket.sequence)
            self._tickets.pop(id(ticket.sequence), None)

    def _work(self) -> None:
        while True:
            while not self._inbox.empty() or not self.engine.busy:
                task = self._inbox.get()
                if task is None:
                    return
                task()
            try:
                with GRAPH_LOCK:
                    events = self.engine.step(isolates=True)
            except Exception:
                log.exception("a step failed; all running requests end")
                for ticket in list(self._tickets.values()):
                    ticket.tell(EngineFailed())
                    self._cancel(ticket)
                continue
            for event in events:
                self._pass_on(event)

    def _pass_on(self, event: Event) -> None:
        ticket = self._tickets.get(id(event.sequence))
        if ticket is None:
            return
        if event.error is not None:
            log.error("a request failed and is ended; others continue: %s", event.error, exc_info=event.error)
            ticket.tell(EngineFailed())
        else:
            ticket.tell(event)
        if event.finish_reason is not None:
            del self._tickets[id(event.sequence)]
