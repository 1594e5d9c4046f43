"""The launcher's end of the pipe to its guardian (`mindcoder.parallel.guardian`)."""

from __future__ import annotations

import subprocess
import sys

from mindcoder.parallel import guardian
from mindcoder.parallel.log_relay import write_all


class GuardianPipe:
    """A guardian, started when this is made.

    Args:
        token: the job's mark.
    """

    def __init__(self, token: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._tell(token)

    def watch(self, session: int) -> None:
        """Watch the session that a rank leads."""
        self._tell(f"+{session}")

    def forget(self, session: int) -> None:
        """A session is over; its number may be given to somebody else."""
        self._tell(f"-{session}")

    def dismiss(self) -> None:
        """The job is over and nothing is left of it."""
        self._tell(guardian.AT_PEACE)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            write_all(self._process.stdin.fileno(), f"{line}\n".encode())
        except OSError:
            pass  # somebody has killed it: the job goes on without
