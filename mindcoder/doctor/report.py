"""What a check found: one line, for people or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from mindcoder.errors import single_line

Status = Literal["ok", "note", "problem"]
NAME_WIDTH = 18
LONGEST = 240  # characters of what was found: files and programs of the host may say anything


@dataclass(frozen=True)
class Row:
    """One check.

    Attributes:
        check: its name.
        status: ``note`` is worth knowing, ``problem`` keeps something from working.
        found: what is there.
        advice: what to do; empty where there is nothing to do.
    """

    check: str
    status: Status
    found: str
    advice: str = ""

    def line(self) -> str:
        """``problem  CANN  found …; what to do``."""
        text = single_line(self.found, LONGEST)
        if self.advice:
            text += f"; {single_line(self.advice, LONGEST)}"
        return f"{self.status:7}  {self.check:{NAME_WIDTH}}  {text}"


def summary(rows: Sequence[Row]) -> str:
    """``24 checks: 22 ok, 2 notes``."""
    count = Counter(row.status for row in rows)
    parts = [f"{count['ok']} ok"]
    parts += [f"{count[kind]} {kind}{'s' if count[kind] != 1 else ''}" for kind in ("note", "problem") if count[kind]]
    return f"{len(rows)} checks: {', '.join(parts)}"


def as_json(rows: Sequence[Row], version: str, device_target: str) -> str:
    """An object with the rows and how many of them are problems.

    Args:
        version: MindCoder's.
        device_target: for which the checks were made, CPU or Ascend.
    """
    listed = [asdict(row) | {"found": single_line(row.found, LONGEST)} for row in rows]
    problems = sum(row.status == "problem" for row in rows)
    return json.dumps({"mindcoder": version, "device_target": device_target, "problems": problems, "rows": listed})
