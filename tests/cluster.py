"""Run a Python function in several MindSpore processes on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

from conftest import REPOSITORY

from mindcoder.launch.rank_table import make_table


def launch(command: str, ranks: int, folder: Path, *flags: str, timeout: int = 900) -> subprocess.CompletedProcess:
    """``scripts/run_singlenode.sh``'s work for ``ranks`` processes; logs in ``folder/log``."""
    table = write_table(folder, ranks)
    arguments = ["launch", "--command", command, "--rank_table", str(table), "--log_dir", str(folder / "log")]
    return subprocess.run(
        [sys.executable, "-m", "mindcoder.cli.main", *arguments, *flags],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=timeout,
    )


def write_table(folder: Path, ranks: int) -> Path:
    """A rank table of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / f"table_{ranks}.json"
    table.write_text(json.dumps(make_table("127.0.0.1", range(ranks), ["127.0.0.1"] * ranks).as_dict()))
    return table


def run_code(code: str, ranks: int, folder: Path) -> subprocess.CompletedProcess:
    """Run Python code in every process; it may use ``rank``."""
    script = folder / "code.py"
    head = """
        import os, sys
        sys.path[:0] = [{repository!r}, {tests!r}]
        from mindcoder.backend.device import setup_device
        setup_device("CPU")
        rank = int(os.environ["RANK_ID"])
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = textwrap.dedent(head).format(repository=str(REPOSITORY), tests=str(REPOSITORY / "tests"))
    script.write_text(text + textwrap.dedent(code))
    return launch(f"{sys.executable} {script}", ranks, folder)
