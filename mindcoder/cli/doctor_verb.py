"""doctor: what this machine has and lacks for MindCoder.

Imports nothing that a broken installation may lack: `mindcoder.cli.main` calls it even where other verbs cannot be.
"""

from __future__ import annotations

import argparse
import dataclasses

from mindcoder import __version__
from mindcoder.backend.device import ascend_present
from mindcoder.doctor.examine import examine
from mindcoder.doctor.host import Host
from mindcoder.doctor.report import Row, as_json, summary

PROBLEMS = 1


def add_doctor_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of doctor."""
    parser.add_argument(
        "--device_target",
        choices=["auto", "CPU", "Ascend"],
        default="auto",
        help="what is to compute: Ascend demands cards and CANN, auto does where there are cards",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def doctor_verb(arguments: argparse.Namespace) -> int:
    """Print a line a check; gives 1 where one of them is a problem, else 0."""
    on_ascend = arguments.device_target == "Ascend" or (arguments.device_target == "auto" and ascend_present())
    host = dataclasses.replace(Host(), on_ascend=on_ascend)
    rows: list[Row] = []
    for row in examine(host):
        rows.append(row)
        if not arguments.json:
            print(row.line(), flush=True)
    if arguments.json:
        print(as_json(rows, __version__, "Ascend" if on_ascend else "CPU"))
    else:
        print(summary(rows))
    return PROBLEMS if any(row.status == "problem" for row in rows) else 0
