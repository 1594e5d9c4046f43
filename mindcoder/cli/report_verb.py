"""report: an HTML page about a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from mindcoder.files import write_text
from mindcoder.outputs import refuse_as_page


def add_report_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of report."""
    parser.add_argument("folder", metavar="RUN", help="output folder of a training run")
    parser.add_argument("--output_file", metavar="FILE", help=".html file to write; default: RUN/report.html")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def report_verb(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from mindcoder.train.report import run_report

    run = Path(arguments.folder)
    target = Path(arguments.output_file) if arguments.output_file else run / "report.html"
    refuse_as_page(target)
    write_text(target, run_report(run))
    print(f"report: {target}")
    return 0
