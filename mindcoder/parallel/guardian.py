"""End what is left of a job when its launcher has gone without a word (SIGKILL, out of memory).

The kernel kills the launcher's own children then (PR_SET_PDEATHSIG), but not theirs: a wrapper's Python would go on.
The guardian is a process in a session of its own, started as a plain script to be small. It holds the reading end of a
pipe of which only the launcher has the writing end, so that it reads the end of the file when the launcher is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Collection

JOB_VARIABLE = "MINDCODER_JOB"  # every process of the job has it in its environment, wherever it moved to
ROUNDS, ROUND_SECONDS = 100, 0.05  # of killing: a process may be starting another one just then
AT_PEACE = "at peace"  # the launcher's last words: it has left nothing behind


def job_processes(token: str, sessions: Collection[int]) -> list[int]:
    """Processes of a job that are not dead: those of ``sessions`` and those with the job's mark in their environment.

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
            continue  # it has just ended, or belongs to somebody else
    return found


def kill_processes(token: str, sessions: Collection[int], spared: Collection[int] | None = None) -> None:
    """Kill every process of a job, until there is none.

    Args:
        token, sessions: as `job_processes` takes them.
        spared: children of this process that are not the job's; all others are killed too. A process that left its
            session and dropped its environment becomes a child of the launcher when its parent ends. None spares all.
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
    """Children of this process that are not dead."""
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


def main() -> None:
    """Read ``+PID`` and ``-PID`` for sessions that begin and are over; at the end of the input, kill what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # its end comes with the launcher's
    sessions: set[int] = set()
    token = sys.stdin.readline().strip()
    for line in sys.stdin:
        word = line.strip()
        if word == AT_PEACE:
            return
        (sessions.add if word[0] == "+" else sessions.discard)(int(word[1:]))
    kill_processes(token, sessions)


if __name__ == "__main__":
    main()
