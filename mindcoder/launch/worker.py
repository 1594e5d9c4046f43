"""The process of a rank: started in a session of its own, with its output going to a log."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindcoder.errors import UserError
from mindcoder.launch.guardian import job_processes
from mindcoder.launch.logs import LogRelay

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None)  # loaded here: a child should do as little as possible between fork and exec


@dataclass
class Worker:
    """A running rank (or the scheduler, rank -1).

    Attributes:
        pidfd: becomes readable when the process exits; None if the kernel has no process descriptors.
        is_over: whether every process of its session has exited.
        is_named: whether the terminal has reported that it exited too early.
        done_since: when it was first seen to be done, on the monotonic clock.
        was_ended: whether it was done and then had to be killed, or crashed while libraries cleaned up (MindSpore's
            cluster thread may follow a null pointer as the process exits).
        ended_at: exit time, on the monotonic clock; None while it runs.
    """

    rank: int
    process: subprocess.Popen
    log_file: Path
    relay: LogRelay
    pidfd: int | None
    done_file: Path
    stopped_since: float | None = None
    ended_at: float | None = None
    is_over: bool = False
    is_named: bool = False
    done_since: float | None = None
    was_ended: bool = False

    @property
    def title(self) -> str:
        """For messages."""
        return "the scheduler" if self.rank < 0 else f"rank {self.rank}"

    def poll(self) -> int | None:
        """The exit code; None while the process runs."""
        code = self.process.poll()
        if code is not None and self.ended_at is None:
            self.ended_at = time.monotonic()
            if self.pidfd is not None:
                os.close(self.pidfd)
                self.pidfd = None
        return code

    def is_stopped(self) -> bool:
        """Whether the process is stopped (SIGSTOP, a debugger)."""
        return _state(self.process.pid) in ("T", "t")

    def session_runs(self) -> bool:
        """Whether any process of its session still runs; reaps those that have exited.

        The answer stays False once all have exited, because the kernel may then reuse the number of the session.
        """
        if self.is_over:
            return False
        if self.poll() is None:
            return True
        self.reap_orphans()
        try:
            os.killpg(self.process.pid, 0)
            self.is_over = not job_processes("", (self.process.pid,))
        except ProcessLookupError:
            self.is_over = not job_processes("", (self.process.pid,))  # one may have left the group, not the session
        except PermissionError:
            pass
        return not self.is_over

    def reap_orphans(self) -> None:
        """Reap the orphans of the session; as zombies they would count as members of its process group."""
        while True:
            try:
                found = os.waitid(os.P_PGID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None or found.si_pid == self.process.pid:
                    return  # `poll` reaps that one
                os.waitid(os.P_PID, found.si_pid, os.WEXITED | os.WNOHANG)
            except OSError:
                return

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and its children."""
        if self.is_over:
            return
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def told_done(self) -> bool:
        """Whether the rank has reported that its work is done; only our own commands do."""
        return self.done_file.exists()

    def end_when_done(self, seconds: float) -> bool:
        """Kill a process that reported its work done ``seconds`` ago and has not exited; returns whether it did."""
        try:
            pid = int(self.done_file.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError, OverflowError):
            self.done_since = None
            return False
        now = time.monotonic()
        self.done_since = self.done_since or now
        if now - self.done_since < seconds or pid not in job_processes("", (self.process.pid,)):
            return False
        self.was_ended = pid == self.process.pid
        os.kill(pid, signal.SIGKILL)
        return True


def start_worker(
    rank: int,
    command: Sequence[str],
    environment: Mapping[str, str],
    log_file: Path,
    done_file: Path,
    shows: bool,
    on_unread: Callable[[], None],
) -> Worker:
    """Start the process of a rank.

    Args:
        rank: -1 for the scheduler.
        shows, on_unread: see `LogRelay`.

    Raises:
        UserError: no such program, or its log cannot be written.
    """
    source, target = os.pipe()
    try:
        relay = LogRelay(source, log_file, shows, on_unread)
    except OSError as error:
        os.close(source)
        os.close(target)
        raise UserError(f"cannot be written: {error.strerror}", log_file) from None
    try:
        done_file.unlink(missing_ok=True)
        process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{command[0]} cannot be started: {reason}", "--command") from None
    finally:
        os.close(target)
        relay.start()
    try:
        pidfd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        pidfd = None
    return Worker(rank, process, log_file, relay, pidfd, done_file)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent exits, so that their exit can be observed."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _die_with_parent() -> None:
    """In the child: get SIGKILL when the launcher dies (Linux)."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return ""
