"""Nothing waits or measures by the clock on the wall, which an administrator or NTP may set back by an hour."""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path

from conftest import REPOSITORY

from mindcoder.progress import tqdm

WALL_CLOCKS = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
# What tells people when something was.
TIMESTAMPS = {"mindcoder/serve/responses.py", "mindcoder/serve/app.py", "mindcoder/tokenizer/render_child.py"}


def wall_clock_calls(file: Path) -> list[str]:
    """Places of a file that read the clock on the wall, by call or by import."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in WALL_CLOCKS:
                found.append(f"{file.relative_to(REPOSITORY)}:{node.lineno}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            if {alias.name for alias in node.names} & {"time", "time_ns"}:
                found.append(f"{file.relative_to(REPOSITORY)}:{node.lineno}")
    return found


def test_only_timestamps_come_from_the_clock_on_the_wall():
    files = [file for room in ("mindcoder", "research", "tools", "benchmarks") for file in
             (REPOSITORY / room).rglob("*.py")]  # fmt: skip
    assert len(files) > 150
    found = [place for file in files for place in wall_clock_calls(file)]
    assert [place for place in found if place.split(":")[0] not in TIMESTAMPS] == []


def test_the_native_code_has_no_clock():
    for file in (REPOSITORY / "mindcoder" / "native").glob("*.[ch]*"):
        text = file.read_text(encoding="utf-8", errors="replace") if file.suffix != ".so" else ""
        assert not [word for word in ("system_clock", "gettimeofday", "CLOCK_REALTIME", "timedwait") if word in text]


def test_a_progress_bar_goes_on_when_the_clock_is_set_back(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr("tqdm.std.time", iter(range(10**6, 0, -3600)).__next__)
    bar = tqdm(total=5, file=screen, mininterval=0.0, ascii=True)
    for _ in range(5):
        bar.update()
    bar.close()
    assert "3/5" in screen.getvalue() and "5/5" in screen.getvalue() and "-" not in screen.getvalue()


def test_every_bar_is_ours():
    files = [file for file in (REPOSITORY / "mindcoder").rglob("*.py") if file.name != "progress.py"]
    assert [file.name for file in files if re.search(r"^ *(from|import) tqdm", file.read_text(), re.M)] == []
