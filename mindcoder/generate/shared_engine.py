"""One engine for several callers: threads, and streams that are read in turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence

from mindcoder.backend.device import interrupted_afterwards, interruptible_while_waiting
from mindcoder.generate.engine import Engine
from mindcoder.generate.request import Event, Request
from mindcoder.generate.request import Sequence as Running
from mindcoder.graph_lock import GRAPH_LOCK

Inbox = deque[tuple[int, Event]]


class SharedEngine:
    """Passes each event of an engine to the caller that waits for it.

    Whoever waits computes: a caller without an event takes the lock and runs a step, in which the requests of all
    callers share the batch.

    Args:
        engine: nobody else steps it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._inboxes: dict[int, tuple[Inbox, int]] = {}  # by the identity of a running sequence

    def follow(self, requests: Sequence[Request]) -> Generator[tuple[int, Event], None, None]:
        """Events of ``requests`` with the index of the request, in the order in which they come.

        The requests are submitted at the first ``next``; closing the generator cancels those that are not done.

        Raises:
            UserError: a request is not valid, or no token can be chosen for it.
        """
        inbox: Inbox = deque()
        running: list[Running] = []
        try:
            with GRAPH_LOCK:
                for index, request in enumerate(requests):
                    running.append(self.engine.submit(request))
                    self._inboxes[id(running[-1])] = inbox, index
            left = len(running)
            while left:
                if not inbox:
                    self._step_for(inbox)
                    continue
                index, event = inbox.popleft()
                if event.error is not None:
                    raise event.error
                left -= event.finish_reason is not None
                yield index, event
        finally:
            with GRAPH_LOCK:
                for sequence in running:
                    self.engine.cancel(sequence)
                    self._inboxes.pop(id(sequence), None)

    def cancel(self, sequence: Running) -> None:
        """End a sequence of a running `follow`, if it is not done; its last event says so."""
        with GRAPH_LOCK:
            if sequence.finish_reason is not None:
                return
            self.engine.cancel(sequence)
            inbox, index = self._inboxes[id(sequence)]
            inbox.append((index, Event(sequence, None, "cancelled")))

    def _step_for(self, inbox: Inbox) -> None:
        """Run a step, unless another caller's step has filled ``inbox`` meanwhile."""
        with interruptible_while_waiting(), GRAPH_LOCK:
            if inbox:
                return
            with interrupted_afterwards():  # the events of a step are also those of other threads
                for event in self.engine.step(isolates=True):
                    found = self._inboxes.get(id(event.sequence))
                    if found is not None:
                        found[0].append((found[1], event))
