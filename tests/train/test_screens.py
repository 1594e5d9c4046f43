"""What a run shows: the line at a terminal of 60 columns, the curve, the page."""

from __future__ import annotations

import csv
import fcntl
import json
import logging
import os
import re
import struct
import sys
import termios
import threading
import time

import pytest

from mindcoder.cli.logs import start_logging
from mindcoder.train.callbacks.base import StepRecord
from mindcoder.train.callbacks.console import ConsoleProgress, status_line
from mindcoder.train.callbacks.curve import EVAL_FIELDS, STEP_FIELDS, draw_curve, scale_loss
from mindcoder.train.digits import decimals
from mindcoder.train.report import run_report


def record(step: int, loss: float) -> StepRecord:
    return StepRecord(step, step / 10, loss, 1e-3, 1.0, 13694.4, 1.0, False)


class Terminal:
    """A pseudo-terminal in place of stderr; collects what it shows."""

    def __init__(self, columns: int) -> None:
        self.reader, writer = os.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream = os.fdopen(writer, "w", buffering=1)
        self.bytes = b""
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self) -> None:
        try:
            while chunk := os.read(self.reader, 65536):
                self.bytes += chunk
        except OSError:
            pass

    def text(self) -> str:
        """All that was written, once the writer is closed."""
        self.stream.close()
        self.thread.join(10)
        return self.bytes.decode()


def run(progress: ConsoleProgress, steps: int, compiles: float = 0.0) -> None:
    progress.on_start(0, steps)
    time.sleep(compiles)
    for step in range(1, steps + 1):
        progress.on_step(record(step, 3.21987 / step))
        time.sleep(0.02)
    progress.on_end()


def test_sixty_columns_show_loss_and_speed_the_clock_runs_and_lines_stay(monkeypatch):
    monkeypatch.setattr("mindcoder.train.callbacks.console.CLOCK_SECONDS", 0.3)
    terminal = Terminal(60)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", terminal.stream)
        start_logging()
        run(ConsoleProgress(every=10), 40, compiles=2.5)
    logging.getLogger("mindcoder").handlers.clear()
    text = terminal.text()
    assert "\x1b[3" not in text, "no colours"
    drawn = [part for part in re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)) if part.strip()]
    own = [part for part in drawn if re.match(r"\d+/40 ", part)]
    assert own and max(map(len, own)) < 60
    compiling = {part.split()[-1] for part in own if "compiling the first step" in part}
    assert {"0:00", "0:01", "0:02"} <= compiling
    training = [part for part in own if "loss" in part]
    assert training and all("loss " in part and "13694 tokens/s" in part for part in training)
    assert training[-1].startswith("40/40 loss 0.0805, 13694 tokens/s")
    stay = [line for line in text.replace("\r\n", "\n").split("\n") if "step " in line]
    for step in (1, 10, 20, 30, 40):
        assert any(f"step {step}/40, epoch" in line for line in stay), step
    assert not any("step 11/40, epoch" in line for line in stay)


def test_a_pipe_gets_lines_only(monkeypatch, capsys):
    start_logging()
    run(ConsoleProgress(every=10), 20)
    said = capsys.readouterr().err
    logging.getLogger("mindcoder").handlers.clear()
    assert "\r" not in said and "\x1b" not in said
    assert [line.split(",")[0] for line in said.splitlines()] == ["step 1/20", "step 10/20", "step 20/20"]


@pytest.mark.parametrize("columns", [20, 40, 59, 79, 200])
def test_whatever_the_width_steps_loss_and_speed_come_first(columns):
    line = status_line(columns, 123456, 1000000, "loss 2.3456, 13694 tokens/s", 3723.9, 59.0)
    assert len(line) <= columns and line.startswith("123456/1000000 loss "[:columns])
    if columns >= 43:
        assert "loss 2.3456, 13694 tokens/s" in line
    assert (columns < 79) or "1:02:03<0:59" in line
    assert (columns < 100) or "[###" in line


@pytest.mark.parametrize(
    "value, places, expected",
    [(2.3456789, 4, "2.3457"), (0.0000123, 4, "1.23e-05"), (0.00399, 5, "0.00399"), (0.0, 4, "0.0000"),
     (13694.4, 0, "13694"), (0.0123, 0, "0.0123"), (float("nan"), 4, "nan"), (float("inf"), 4, "inf")],
)  # fmt: skip
def test_numbers_keep_digits_that_mean_something(value, places, expected):
    assert decimals(value, places) == expected


def curves(folder, losses):
    folder.mkdir(parents=True)
    for name, fields, rows in (("loss", STEP_FIELDS, losses), ("eval", EVAL_FIELDS, [])):
        with open(folder / f"{name}.csv", "w", newline="") as stream:
            writer = csv.DictWriter(stream, fields, lineterminator="\n")
            writer.writeheader()
            for step, loss in enumerate(rows, 1):
                writer.writerow({**dict.fromkeys(fields, 1), "step": step, "loss": loss})


@pytest.mark.parametrize(
    "losses, scale",
    [
        ([10.8, 2.1, 0.004], "log"),
        ([10.8, 9.0, 3.0], "linear"),
        ([0.0, 0.0], "linear"),
        ([float("nan"), 5.0, 0.0, 0.01], "log"),
        ([float("inf"), 2.0], "linear"),
    ],
)
def test_losses_that_span_decades_have_a_logarithmic_axis(losses, scale, tmp_path):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    axes.plot(losses)
    scale_loss(axes, losses)
    assert axes.get_yscale() == scale
    curves(tmp_path / "curves", losses)
    assert draw_curve(tmp_path / "curves").read_bytes()[:4] == b"\x89PNG"


def test_the_page_wraps_the_command_and_shows_digits(tmp_path):
    curves(tmp_path / "curves", [10.8, 0.5, 0.00000321])
    command = ["mindcoder", "finetune", "--set", "a={'b': 1}", *(f"--flag_{number}={'x' * 40}" for number in range(30))]
    described = {"command": command, "config": {}, "environment": {}, "flops_per_token": 1.0, "parameters": 10**6}
    (tmp_path / "run.json").write_text(json.dumps({**described, "started": "now"}))
    page = run_report(tmp_path)
    assert "10.8000 first, 3.21e-06 last, 3.21e-06 lowest" in page and "0.0000 " not in page
    assert re.search(r"pre\{[^}]*white-space:pre-wrap[^}]*overflow-wrap:anywhere", page)
    assert "--set &#x27;a={&#x27;" in page, "as a shell takes it"
