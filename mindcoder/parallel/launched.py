"""What a process that the launcher started tells it."""

from __future__ import annotations

import os

DONE_VARIABLE = "MINDCODER_DONE_FILE"


def tell_done() -> None:
    """The command has done all its work, so that ending before the others is no failure; nothing without a launcher.

    `mindcoder eval` is such a case: one rank goes on to run the programs of all. The process only has to end now; the
    launcher sees to it that it does.
    """
    file = os.environ.get(DONE_VARIABLE)
    if file:
        try:
            with open(file, "w", encoding="utf-8") as stream:
                stream.write(str(os.getpid()))
        except OSError:
            pass  # the launcher then warns of this rank, and ends the job a minute later
