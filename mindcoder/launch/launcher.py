"""Starts one process per device of this server, watches them, and ends them all when one fails.

MindSpore's msrun notices a killed worker only when its scheduler times out, and leaves orphans behind on SIGTERM. This
launcher polls the process descriptors of its children, so it notices at once, and it ends whole sessions. With several
servers their launchers start and stop together (`mindcoder.launch.peers`).
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mindcoder.errors import UserError
from mindcoder.launch import guardian, peers
from mindcoder.launch.guardian import GuardianPipe
from mindcoder.launch.logs import last_lines, say
from mindcoder.launch.options import LaunchOptions
from mindcoder.launch.worker import Worker, adopt_orphans, start_worker

TICK_SECONDS = 1.0  # between checks of what process descriptors do not report: stopped ranks, deadlines
FAST_TICK_SECONDS = 0.05  # while ranks are ending, or where the kernel has no process descriptors
STOPPED_SECONDS = 20.0  # a process that is stopped (SIGSTOP) for this long counts as failed
DONE_SECONDS = 60.0  # a process that has reported its work done but does not exit is killed after this time
EARLY_NOTICE_SECONDS = 10.0  # a rank that exited while others still run is named after this time
FAILURE_GRACE_SECONDS = 1.0  # between SIGTERM and SIGKILL for the others: they cannot save without the failed one
LAST_LINES = 30  # of a failed rank's log, shown on the terminal
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Failure:
    """The first failure of a job.

    Attributes:
        worker: the rank; None if it is none of this server's.
        cause: for the terminal.
        exit_code: of the launcher.
        grace_seconds: for the other ranks, between SIGTERM and SIGKILL.
        is_known: whether the other servers know of it.
    """

    worker: Worker | None
    cause: str
    exit_code: int
    grace_seconds: float = FAILURE_GRACE_SECONDS
    is_known: bool = False


@dataclass
class Job:
    """The processes of this server."""

    options: LaunchOptions
    workers: list[Worker] = field(default_factory=list)
    interrupted: int | None = None
    failed_rank: int | None = None
    _signals: list[int] = field(default_factory=list)
    _token: str = field(default_factory=lambda: os.urandom(16).hex())
    _peers: peers.Peers | None = None
    _ended_elsewhere: bool = False
    _told_done: bool = False
    _deadline: float = float("inf")

    def run(self) -> int:
        """Start the ranks, watch them, end them; returns the exit code of the first rank that failed, or 0.

        Raises:
            UserError: the command cannot be started, or the logs cannot be written.
        """
        self._bell, self._bell_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        wanted = [number for number in SIGNALS if number != signal.SIGHUP or not _is_ignored(number)]  # nohup
        before = {number: signal.signal(number, self._note) for number in wanted}
        self._guardian = GuardianPipe(self._token)
        self._others = guardian.children()  # those of before, and the guardian
        adopt_orphans()
        try:
            failure = self._meet_peers()
            if failure is None:
                self._start()
                failure = self._watch()
            if failure is not None:
                self.failed_rank = None if failure.worker is None else failure.worker.rank
                self._tell_peers(failure)
                self._end_all(failure.grace_seconds)  # before writing to the terminal, which may be stopped (Ctrl-S)
                self._explain(failure)
            if self.interrupted is not None:
                return 128 + self.interrupted
            return 0 if failure is None else failure.exit_code
        except BaseException as error:
            if self._peers is not None:
                self._peers.failed(f"its launcher ended: {type(error).__name__}: {error}", 1)
            raise
        finally:
            self._end_all(FAILURE_GRACE_SECONDS)
            if self._peers is not None:
                self._peers.close()
            self._guardian.dismiss()
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._bell)
            os.close(self._bell_end)

    def _note(self, number: int, frame: object) -> None:
        """Signal handler; the signal is handled in the main loop."""
        self._signals.append(number)
        self._ring()

    def _ring(self) -> None:
        """Wake the main loop, from any thread."""
        try:
            os.write(self._bell_end, b"x")
        except OSError:
            pass  # the pipe is full, or the job is over

    def _wait(self, seconds: float) -> None:
        """Wait until a process ends, a signal or an event arrives, or the time is up."""
        found = [worker.pidfd for worker in self.workers if worker.process.poll() is None]
        descriptors = [number for number in found if number is not None]
        if len(descriptors) < len(found):
            seconds = min(seconds, FAST_TICK_SECONDS)
        poll = select.poll()
        for number in (self._bell, *descriptors):
            poll.register(number, select.POLLIN)
        poll.poll(seconds * 1000)
        try:
            os.read(self._bell, 4096)
        except BlockingIOError:
            pass

    def _meet_peers(self) -> Failure | None:
        """Wait until the launchers of all servers have joined."""
        options = self.options
        if len(options.table.servers) == 1 or not options.join_seconds:
            return None
        port = options.scheduler_port + 1
        first = options.table.servers[0]
        try:
            self._peers = peers.Peers(options.table, options.server, port, options.attempt, self._ring)
        except OSError as error:
            raise UserError(f"cannot listen on {first.address}:{port}: {error.strerror or error}", "--port") from None
        self._peers.start()
        limit = time.monotonic() + options.join_seconds
        while not self._peers.started:
            failure = self._handle_signals() or self._handle_events()
            if failure is not None or self.interrupted is not None:
                return failure or Failure(None, "was interrupted before it began", 128 + (self.interrupted or 0))
            if time.monotonic() > limit:
                missing = self._peers.missing() or f"the other servers of {first.address}:{port}"
                return Failure(None, f"no answer from {missing} for {options.join_seconds:.0f} s (--join_seconds)", 1)
            self._wait(TICK_SECONDS)
        return None

    def _start(self) -> None:
        if self.options.starts_scheduler:
            command = [sys.executable, "-m", "mindcoder.launch.scheduler"]
            self.workers.append(self._spawn(-1, command, self.options.environment(None, self._token), "scheduler.log"))
        for device in self.options.server.devices:
            environment = self.options.environment(device, self._token)
            name = f"rank_{device.rank_id}.log"
            self.workers.append(self._spawn(device.rank_id, self.options.command, environment, name))

    def _spawn(self, rank: int, command: Sequence[str], variables: Mapping[str, str], log_name: str) -> Worker:
        worker = start_worker(
            rank,
            command,
            variables,
            self.options.log_dir / log_name,
            self.options.done_file(rank),
            shows=rank == self.options.shown_rank,
            on_unread=self._note_unread,
        )
        self._guardian.watch(worker.process.pid)
        return worker

    def _note_unread(self) -> None:
        """The reader of the terminal output is gone: handled like SIGHUP."""
        self._signals.append(signal.SIGPIPE)
        self._ring()

    def _watch(self) -> Failure | None:
        """Wait until all ranks are done, or one has failed."""
        while True:
            failure = self._handle_signals() or self._handle_events() or self._look()
            if failure is not None or self._is_over():
                return failure
            self._wait(TICK_SECONDS if self.interrupted is None else FAST_TICK_SECONDS)

    def _handle_signals(self) -> Failure | None:
        """Pass the first Ctrl-C, SIGTERM or SIGHUP on, so that ranks save and exit; a second one kills them at once."""
        while self._signals:
            number = self._signals.pop(0)
            if self.interrupted is not None:
                if number == signal.SIGPIPE:
                    continue
                return Failure(
                    None, f"{signal.Signals(number).name} came again: the ranks are killed", 128 + number, 0.0
                )
            if self._peers is not None:
                self._peers.interrupted(number)
            why = "nobody reads the output any more" if number == signal.SIGPIPE else signal.Signals(number).name
            self._interrupt(number, why)
        return None

    def _interrupt(self, number: int, why: str) -> None:
        self.interrupted = number
        self._deadline = time.monotonic() + self.options.grace_seconds
        self._signal_ranks(signal.SIGTERM)
        if self.workers:
            say(f"{why}: the ranks save and end (within {self.options.grace_seconds:.0f} s)")

    def _handle_events(self) -> Failure | None:
        """Handle what the launchers of other servers report."""
        while self._peers is not None and not self._peers.events.empty():
            event = self._peers.events.get()
            if event.kind == peers.MISSING:
                say(f"no answer yet from {event.text} (the launchers meet on port {self.options.scheduler_port + 1})")
            elif event.kind == peers.NOTICE:
                say(event.text)
            elif event.kind == peers.OVER:
                self._ended_elsewhere = True
            elif event.kind == peers.INTERRUPTED and self.interrupted is None:
                self._interrupt(event.number, f"{_signal_name(event.number)} on {event.text}")
            elif event.kind in (peers.FAILED, peers.LOST):
                return Failure(None, event.text, event.number, is_known=event.kind == peers.FAILED)
        return None

    def _look(self) -> Failure | None:
        """Check whether a rank of this server has failed, hangs, or has exited too early."""
        running = [worker for worker in self.workers if worker.rank >= 0 and worker.poll() is None]
        for worker in self.workers:
            code = worker.poll()
            worker.reap_orphans()
            if code is None:
                failure = self._stopped_too_long(worker)
                if failure is not None:
                    return failure
                if worker.end_when_done(DONE_SECONDS):
                    say(f"{worker.title} is done, but did not end within {DONE_SECONDS:.0f} s: killed")
            elif code < 0 and worker.told_done() and not worker.was_ended:
                worker.was_ended = True
                say(f"{worker.title} is done, but was killed by {_signal_name(-code)} as it ended")
            elif code != 0 and not worker.was_ended and not (self.interrupted is not None and _ends_a_signal(code)):
                return _failure(worker, code)
        if self.interrupted is None:
            return self._early_exit(running)
        left = [worker.title for worker in self.workers if worker.rank >= 0 and worker.session_runs()]
        if left and time.monotonic() > self._deadline:
            seconds = f"{self.options.grace_seconds:.0f} s"
            return Failure(None, f"{', '.join(left)} did not end within {seconds}: killed (--grace_seconds)", 1, 0.0)
        return None

    def _early_exit(self, running: Sequence[Worker]) -> Failure | None:
        """A rank that exited with code 0 before it reported its work done: the others would wait for it for ever."""
        if self._is_over() or not self.options.early_exit_seconds:
            return None
        now, limit = time.monotonic(), self.options.early_exit_seconds
        others = ", ".join(worker.title for worker in running) or "ranks of other servers"
        for worker in self.workers:
            if worker.rank < 0 or worker.ended_at is None or worker.told_done():
                continue
            passed = now - worker.ended_at
            what = f"ended (exit code 0) {passed:.0f} s ago, but {others} still run"
            if passed > limit:
                return Failure(worker, f"{what} (--early_exit_seconds)", 1)
            if passed > min(EARLY_NOTICE_SECONDS, limit / 2) and not worker.is_named:
                worker.is_named = True
                say(f"{worker.title} {what}; the job ends in {limit - passed:.0f} s unless they end too")
        return None

    def _is_over(self) -> bool:
        """Whether the ranks of all servers are done."""
        ranks = [worker for worker in self.workers if worker.rank >= 0]
        if self.interrupted is not None:
            return not any(worker.session_runs() for worker in ranks)  # a wrapper's child may still be saving
        if any(worker.poll() is None for worker in ranks):
            return False
        if self._peers is None:
            return True
        if not self._told_done:
            self._told_done = True
            self._peers.done()
        return self._ended_elsewhere

    def _stopped_too_long(self, worker: Worker) -> Failure | None:
        if not worker.is_stopped():
            worker.stopped_since = None
            return None
        now = time.monotonic()
        worker.stopped_since = worker.stopped_since or now
        if now - worker.stopped_since < STOPPED_SECONDS:
            return None
        return Failure(worker, f"hangs: it has been stopped (SIGSTOP) for {STOPPED_SECONDS:.0f} s", 1)

    def _tell_peers(self, failure: Failure) -> None:
        """Report the rank and the cause to the other servers."""
        if self._peers is not None and not failure.is_known:
            cause = failure.cause if failure.worker is None else f"{failure.worker.title} {failure.cause}"
            self._peers.failed(cause, failure.exit_code)

    def _explain(self, failure: Failure) -> None:
        """Print the rank, the cause and the end of its log."""
        worker = failure.worker
        if worker is None:
            say(failure.cause)
            return
        if worker.rank != self.options.shown_rank:
            for line in last_lines(worker.log_file, LAST_LINES):
                say(line, f"[{worker.title}] ")
        say(f"{worker.title} {failure.cause}; its log: {worker.log_file}")

    def _signal_ranks(self, number: int) -> None:
        """Send a signal to every running rank; the scheduler exits by itself."""
        for worker in self.workers:
            if worker.rank >= 0 and worker.session_runs():
                worker.signal_group(number)

    def _end_all(self, grace_seconds: float) -> None:
        """SIGTERM, the grace period, SIGKILL; leaves no process behind."""
        ranks = [worker for worker in self.workers if worker.rank >= 0]
        self._signal_ranks(signal.SIGTERM)
        limit = time.monotonic() + grace_seconds
        while time.monotonic() < limit and any(worker.session_runs() for worker in ranks):
            time.sleep(FAST_TICK_SECONDS)
        sessions = [worker.process.pid for worker in self.workers if worker.session_runs()]
        guardian.kill_processes(self._token, sessions, self._others)
        for worker in self.workers:
            worker.process.wait()
            worker.poll()
            worker.relay.join(2.0)
            worker.done_file.unlink(missing_ok=True)


def _failure(worker: Worker, code: int) -> Failure:
    if code < 0:
        return Failure(worker, f"was killed by {_signal_name(-code)}", 128 - code)
    return Failure(worker, f"ended with exit code {code}", code)


def _ends_a_signal(code: int) -> bool:
    """Whether an exit code means the end by one of our signals, in the encoding of Python or of a shell."""
    return -code in SIGNALS or code - 128 in SIGNALS


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _is_ignored(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN
