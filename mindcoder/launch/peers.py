"""Connections between the launchers of a job on several servers, so that they start and stop together.

The launcher of the first server listens; the others connect to it, and it forwards what concerns all. A thread serves
the connections and a heartbeat while the launcher waits, and reports to it by events.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from mindcoder.launch.peer_protocol import BadPeer, Link, is_proof, job_key, prove
from mindcoder.launch.rank_table import RankTable, Server

BEAT_SECONDS = 2.0
SILENT_SECONDS = 30.0  # without a heartbeat until a server counts as lost
GONE_SECONDS = 10.0  # from a broken connection, without a new one, until its launcher counts as dead
HANDSHAKE_SECONDS = 10.0
RETRY_SECONDS = 0.5
MISSING_SECONDS = 30.0  # until a server that has not joined is named, and between two such lines
MOST_STRANGERS = 32  # connections that are not authenticated
FLUSH_SECONDS = 2.0

START, FAILED, INTERRUPTED, DONE, OVER = "start", "failed", "interrupted", "done", "over"  # sent by launchers
LOST, MISSING, NOTICE = "lost", "missing", "notice"  # observed here


@dataclass(frozen=True)
class Event:
    """A message of another server's launcher, or an observation about it.

    Attributes:
        kind: `START` all have joined; `FAILED` a rank of another server failed; `INTERRUPTED` another server got a
            signal; `OVER` the ranks of all servers are done; `LOST` a server does not answer; `MISSING` it has not
            joined yet; `NOTICE` text for the user.
        text: for the terminal.
        number: the exit code of `FAILED`, the signal of `INTERRUPTED`.
    """

    kind: str
    text: str = ""
    number: int = 1


class Peers(threading.Thread):
    """Connections of this launcher to the others.

    Args:
        table: of the job.
        server: this machine's entry (perhaps with fewer devices).
        port: on which the launcher of the first server listens.
        attempt: number of restarts so far; launchers of different attempts do not connect.
        notify: called after an event has been put into `events`.

    Raises:
        OSError: the first server cannot listen there.
    """

    def __init__(
        self, table: RankTable, server: Server, port: int, attempt: int, notify: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(daemon=True)
        self.servers, self.port, self.attempt, self.notify = table.servers, port, attempt, notify
        self.index = next(number for number, item in enumerate(table.servers) if item.address == server.address)
        self.key, self.identity = job_key(table), os.urandom(8).hex()
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.started = False
        self._began = time.monotonic()
        self._links: dict[int, Link] = {}  # by server; to the first one only, unless this is it
        self._strangers: list[Link] = []
        self._gone: dict[int, float] = {}  # servers with a broken connection, and when it broke
        self._done: set[int] = set()
        self._refused: set[str] = set()  # addresses that have been reported
        self._is_done = False
        self._ended = False  # the end was announced; whoever leaves now is not missed
        self._orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._bell, self._bell_end = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._listener = _listen(table.servers[0].address, port) if self.is_first else None
        if self._listener is not None:
            self._selector.register(self._listener, selectors.EVENT_READ)
        self._next_beat = self._next_try = 0.0
        self._next_naming = self._began + MISSING_SECONDS

    @property
    def is_first(self) -> bool:
        """Whether this launcher listens."""
        return self.index == 0

    @property
    def others(self) -> list[int]:
        """Servers that this launcher connects to: all others, or the first."""
        return list(range(1, len(self.servers))) if self.is_first else [0]

    def failed(self, cause: str, code: int) -> None:
        """Report to the others that the job ends, and why."""
        self._order({"kind": FAILED, "text": f"{self.servers[self.index].title}: {cause}"[:1000], "number": code})

    def interrupted(self, number: int) -> None:
        """Report a signal to the others, so that all ranks save the same step."""
        self._order({"kind": INTERRUPTED, "text": self.servers[self.index].title, "number": number})

    def done(self) -> None:
        """Report to the others that all ranks of this server are done."""
        self._order({"kind": DONE})

    def close(self) -> None:
        """Close the connections after pending messages have been sent."""
        self._orders.put(None)
        self._ring()
        if self.is_alive():
            self.join(2 * FLUSH_SECONDS)

    def missing(self) -> str:
        """Servers that have not joined, for messages."""
        return ", ".join(self.servers[index].title for index in self.others if index not in self._links)

    def _order(self, message: dict[str, Any]) -> None:
        self._orders.put(message)
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):
            self._bell_end.send(b"x")

    def _tell(self, event: Event) -> None:
        self.events.put(event)
        self.notify()

    def run(self) -> None:
        """Serve until `close`."""
        try:
            while self._serve():
                pass
        finally:
            for link in [*self._links.values(), *self._strangers]:
                link.close()
            for item in (self._listener, self._bell):
                if item is not None:
                    item.close()
            self._selector.close()

    def _serve(self) -> bool:
        """One round of the loop; returns False at its end."""
        for key, _ in self._selector.select(RETRY_SECONDS):
            if key.fileobj is self._bell:
                self._bell.recv(4096)
            elif key.fileobj is self._listener:
                self._accept()
            else:
                self._read(key.data)
        now = time.monotonic()
        if not self.is_first and 0 not in self._links and not self._strangers and now >= self._next_try:
            self._next_try = now + RETRY_SECONDS
            self._connect()
        if now >= self._next_beat:
            self._next_beat = now + BEAT_SECONDS
            self._broadcast({"kind": "beat"})
        self._notice_absence(now)
        while not self._orders.empty():
            order = self._orders.get()
            if order is None:
                self._flush()
                return False
            self._ended |= order["kind"] in (FAILED, INTERRUPTED)
            self._is_done |= order["kind"] == DONE
            if order["kind"] == DONE and self.is_first:
                self._note_done(0)
            else:
                self._broadcast(order)
        return True

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self._strangers) >= MOST_STRANGERS:
            self._drop(min(self._strangers, key=lambda link: link.heard_at))
        link = self._add(connection)
        self._send(link, {"challenge": link.challenge})

    def _connect(self) -> None:
        try:
            connection = socket.create_connection((self.servers[0].address, self.port), RETRY_SECONDS * 4)
        except OSError:
            return
        self._add(connection)

    def _add(self, connection: socket.socket) -> Link:
        connection.setblocking(False)
        link = Link(connection, time.monotonic())
        self._strangers.append(link)
        self._selector.register(connection, selectors.EVENT_READ, link)
        return link

    def _drop(self, link: Link) -> None:
        """Close a connection; from now on the absence of a known server is timed."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(link.socket)
        link.close()
        if link in self._strangers:
            self._strangers.remove(link)
        if link.index is not None and self._links.get(link.index) is link:
            del self._links[link.index]
            self._gone[link.index] = time.monotonic()

    def _read(self, link: Link) -> None:
        try:
            for message in link.take():
                if link.index is None:
                    self._greet(link, message)
                else:
                    link.heard_at = time.monotonic()
                    self._hear(link, message)
        except (OSError, BadPeer):
            self._drop(link)

    def _greet(self, link: Link, message: dict[str, Any]) -> None:
        """Handshake: challenge and response in both directions.

        Raises:
            BadPeer: the other side has another rank table, or is not a launcher.
        """
        if self.is_first:
            index, attempt, identity = message.get("server"), message.get("attempt"), str(message.get("identity"))
            proof = prove(self.key, "server", link.challenge, index, attempt, identity)
            if not is_proof(message.get("proof"), proof) or not isinstance(index, int) or index not in self.others:
                self._refuse(link, message, "its rank table is not the same")
            if attempt != self.attempt:
                raise BadPeer("is at another attempt and comes again")
            known = self._links.get(index)
            if known is not None and known.identity != identity:
                self._refuse(link, message, f"{self.servers[index].title} has joined already")
            if known is not None:
                self._drop(known)
            link.put(proof=prove(self.key, "first", str(message.get("challenge"))))
            link.identity = identity
            self._welcome(link, index)
        elif "refused" in message:
            self._ended = True
            self._tell(Event(LOST, f"{self.servers[0].title} refuses this launcher: {str(message['refused'])[:200]}"))
            raise BadPeer("refuses us")
        elif "challenge" in message:
            facts = (self.index, self.attempt, self.identity)
            proof = prove(self.key, "server", str(message["challenge"]), *facts)
            names = dict(zip(("server", "attempt", "identity"), facts))
            link.put(challenge=link.challenge, proof=proof, **names)
        elif is_proof(message.get("proof"), prove(self.key, "first", link.challenge)):
            self._welcome(link, 0)
        else:
            raise BadPeer("has another rank table")

    def _refuse(self, link: Link, message: dict[str, Any], reason: str) -> NoReturn:
        """Reject a connection; send the reason if the peer is a launcher.

        Raises:
            BadPeer: always.
        """
        if "proof" in message:
            address = link.socket.getpeername()[0]
            if address not in self._refused and len(self._refused) < MOST_STRANGERS:
                self._refused.add(address)
                self._tell(Event(NOTICE, f"a launcher at {address} is not let in: {reason}"))
            link.put(refused=reason)
        raise BadPeer(reason)

    def _welcome(self, link: Link, index: int) -> None:
        self._strangers.remove(link)
        link.index, link.heard_at = index, time.monotonic()
        self._links[index] = link
        self._gone.pop(index, None)
        if self._is_done and not self.is_first:
            self._send(link, {"kind": DONE})  # it may have been lost with the connection
        if self.is_first and not self.started and len(self._links) == len(self.others):
            self._broadcast({"kind": START})
            self._start()
        elif self.is_first and self.started:
            self._send(link, {"kind": START})

    def _start(self) -> None:
        if not self.started:
            self.started = True
            self._tell(Event(START))

    def _hear(self, link: Link, message: dict[str, Any]) -> None:
        kind, text, number = message.get("kind"), str(message.get("text", "")), message.get("number", 1)
        if kind == START:
            self._start()
        elif kind == DONE and self.is_first and link.index is not None:
            self._note_done(link.index)
        elif kind in (FAILED, INTERRUPTED, OVER) and isinstance(number, int):
            self._ended = True
            self._tell(Event(kind, text, number))
            if self.is_first:
                self._broadcast(message, but=link)

    def _note_done(self, index: int) -> None:
        self._done.add(index)
        if len(self._done) == len(self.servers):
            self._ended = True
            self._broadcast({"kind": OVER})
            self._tell(Event(OVER))

    def _broadcast(self, message: dict[str, Any], but: Link | None = None) -> None:
        for link in list(self._links.values()):
            if link is not but:
                self._send(link, message)

    def _send(self, link: Link, message: dict[str, Any]) -> None:
        try:
            link.put(**message)
        except (OSError, BadPeer):
            self._drop(link)

    def _notice_absence(self, now: float) -> None:
        for stranger in list(self._strangers):
            if now - stranger.heard_at > HANDSHAKE_SECONDS:
                self._drop(stranger)
        if self._ended:
            return
        if not self.started:
            if now >= self._next_naming:
                self._next_naming = now + MISSING_SECONDS
                self._tell(Event(MISSING, self.missing() or "other servers, which the first one waits for"))
            return
        for index in self.others:
            link = self._links.get(index)
            if link is not None and now - link.heard_at > SILENT_SECONDS:
                self._lose(index, f"has not answered for {SILENT_SECONDS:.0f} s")
            elif link is None and now - self._gone.get(index, now) > GONE_SECONDS:
                self._lose(index, "does not answer: its launcher has ended without a word, or the network is down")

    def _lose(self, index: int, how: str) -> None:
        self._ended = True
        text = f"{self.servers[index].title} {how}"
        self._tell(Event(LOST, text))
        self._broadcast({"kind": FAILED, "text": text, "number": 1})

    def _flush(self) -> None:
        limit = time.monotonic() + FLUSH_SECONDS
        while time.monotonic() < limit and any(link.waits for link in self._links.values()):
            for link in list(self._links.values()):
                with contextlib.suppress(OSError):
                    link.flush()
            time.sleep(0.05)


def _listen(address: str, port: int) -> socket.socket:
    """A listening socket on the address; on all addresses if the machine does not have it itself (behind a router)."""
    family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
    try:
        listener = socket.create_server((address, port), family=family)
    except OSError:
        listener = socket.create_server(("", port), family=family)
    listener.setblocking(False)
    return listener
