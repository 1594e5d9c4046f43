"""Kills what is left of a job after its launcher has been killed itself (SIGKILL, out of memory).

The kernel then kills the launcher's children (PR_SET_PDEATHSIG), but not their children: a Python program that a
wrapper started would keep running. The guardian is a process in a session of its own. It reads from a pipe to which
only the launcher writes, so it sees the end of the file as soon as the launcher is gone. To be small it runs this file
as a script; the file imports nothing heavy and nothing of ours.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Collection

JOB_VARIABLE = "MINDCODER_JOB"  # in the environment of every process of the job, whatever session it has moved to
ROUNDS, ROUND_SECONDS = 100, 0.05  # of killing: a process may be starting another one at that moment
DISMISSED = "dismissed"  # the launcher's last line: the job is over and nothing is left of it


def job_processes(token: str, sessions: Collection[int]) -> list[int]:
    """Live processes of a job: members of ``sessions``, and processes with the job's token in their environment.

    Args:
        token: value of `JOB_VARIABLE`.
        sessions: ids of the sessions that the ranks lead.
    """
    mark = f"{JOB_VARIABLE}={token}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stream:
                state, _, _, session = stream.read().rsplit(b")", 1)[1].split()[:4]
            if state in (b"Z", b"X"):
                continue
            if int(session) not in sessions:
                with open(f"/proc/{name}/environ", "rb") as stream:
                    if mark not in stream.read().split(b"\0"):
                        continue
            found.append(int(name))
        except (OSError, ValueError, IndexError):
            continue  # it has just ended, or belongs to another user
    return found


def kill_processes(token: str, sessions: Collection[int], spared: Collection[int] | None = None) -> None:
    """Kill the processes of a job until none is left.

    Args:
        token, sessions: see `job_processes`.
        spared: children of this process that do not belong to the job. All its other children are killed too, because
            a process that left its session and dropped its environment becomes a child of the launcher when its parent
            ends. None spares all children.
    """
    for _ in range(ROUNDS):
        left = job_processes(token, sessions)
        if spared is not None:
            left += [number for number in children() if number not in spared]
        if not left:
            return
        for number in left:
            try:
                os.kill(number, signal.SIGKILL)
            except OSError:
                pass
        time.sleep(ROUND_SECONDS)


def children() -> set[int]:
    """Live children of this process."""
    found = set()
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat", "rb") as stream:
                state, parent = stream.read().rsplit(b")", 1)[1].split()[:2]
            if int(parent) == os.getpid() and state not in (b"Z", b"X"):
                found.add(int(name))
        except (OSError, ValueError, IndexError):
            continue  # no process, or it has just ended
    return found


class GuardianPipe:
    """The launcher's end of the pipe; creating it starts the guardian.

    Args:
        token: value of `JOB_VARIABLE`.
    """

    def __init__(self, token: str) -> None:
        import subprocess  # here: the guardian itself does without

        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
        self._write(token)

    def watch(self, session: int) -> None:
        """Watch the session that a rank leads."""
        self._write(f"+{session}")

    def forget(self, session: int) -> None:
        """Stop watching a session that is over; the kernel may reuse its number."""
        self._write(f"-{session}")

    def dismiss(self) -> None:
        """End the guardian: the job is over and nothing is left of it."""
        self._write(DISMISSED)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())  # shorter than PIPE_BUF: written whole
        except OSError:
            pass  # the guardian has been killed; the job continues without it


def main() -> None:
    """Read ``+PID`` for a session that begins and ``-PID`` for one that ends; at the end of the input kill the rest."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the launcher does
    sessions: set[int] = set()
    token = sys.stdin.readline().strip()
    for line in sys.stdin:
        word = line.strip()
        if word == DISMISSED:
            return
        (sessions.add if word[0] == "+" else sessions.discard)(int(word[1:]))
    kill_processes(token, sessions)


if __name__ == "__main__":
    main()
