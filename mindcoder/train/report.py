"""One HTML page about a run: curves, evaluations, losses that were noticed, configuration, environment."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError
from mindcoder.train.description import DESCRIPTION_FILE

CURVES = (("loss", "loss (nats)"), ("grad_norm", "gradient norm"), ("learning_rate", "learning rate"),
          ("tokens_per_second", "tokens/s"))  # fmt: skip
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body{{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}}
img{{max-width:100%}} table{{border-collapse:collapse}}
td,th{{border:1px solid #ddd;padding:.25rem .6rem;text-align:left}}
pre{{background:#f6f6f6;padding:.8rem;overflow:auto}} h2{{margin-top:2rem}}
</style><h1>{title}</h1>{body}</html>
"""


def run_report(run: Path) -> str:
    """The page of a run's output folder; it needs nothing else.

    Raises:
        UserError: no run there.
    """
    curve = run / "curves" / "loss.csv"
    if not curve.is_file():
        raise UserError("is no run: curves/loss.csv is missing", run)
    steps, evals = _rows(curve), _rows(run / "curves" / "eval.csv")
    described = _json(run / DESCRIPTION_FILE)
    parts = [_summary(steps, described)]
    if steps:
        parts.append(f'<img alt="curves" src="data:image/png;base64,{_curves(steps, evals)}">')
    if evals:
        parts.append("<h2>Evaluations</h2>" + _table(list(evals[0]), [list(row.values()) for row in evals]))
    parts.append("<h2>Loss health</h2>" + _health(run / "health.jsonl"))
    samples = _samples(run)
    if samples:
        parts.append(f"<h2>Answers</h2>{samples}")
    if described:
        parts.append("<h2>Environment</h2>" + _table([], list(described["environment"].items())))
        parts.append(f"<h2>Command</h2><pre>{html.escape(' '.join(described['command']))}</pre>")
        text = json.dumps(described["config"], indent=2, ensure_ascii=False)
        parts.append(
            f"<h2>Configuration</h2><details><summary>all keys</summary><pre>{html.escape(text)}</pre></details>"
        )
    return PAGE.format(title=html.escape(run.resolve().name), body="\n".join(parts))


def _summary(steps: Sequence[dict[str, str]], described: dict[str, Any]) -> str:
    rows: list[tuple[str, str]] = [("updates", str(len(steps)))]
    if steps:
        losses = [float(row["loss"]) for row in steps]
        rows.append(("loss", f"{losses[0]:.4f} first, {losses[-1]:.4f} last, {min(losses):.4f} lowest"))
        speeds = sorted(float(row["tokens_per_second"]) for row in steps)
        rows.append(("tokens/s", f"{speeds[len(speeds) // 2]:.0f} (median)"))
        if described:
            rate = speeds[len(speeds) // 2] * described["flops_per_token"]
            rows.append(("arithmetic", f"{rate / 1e12:.4g} TFLOP/s (6 N and attention, forward and backward)"))
    if described:
        rows.append(("parameters", f"{described['parameters'] / 1e6:.2f} M"))
        rows.append(("started", described["started"]))
    return _table([], rows)


def _curves(steps: Sequence[dict[str, str]], evals: Sequence[dict[str, str]]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.set_loglevel("WARNING")
    figure = Figure(figsize=(11, 6), dpi=110, layout="constrained")
    numbers = [int(row["step"]) for row in steps]
    for place, (name, label) in enumerate(CURVES, 1):
        axes = figure.add_subplot(2, 2, place, xlabel="step", ylabel=label)
        axes.plot(numbers, [float(row[name]) for row in steps], linewidth=1)
        if name == "loss" and evals:
            points = [int(row["step"]) for row in evals], [float(row["loss"]) for row in evals]
            axes.plot(*points, marker="o", markersize=3, label="eval")
            axes.legend()
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def _health(file: Path) -> str:
    if not file.is_file():
        return "<p>Nothing was noticed.</p>"
    entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    names = ("step", "verdict", "action", "loss", "grad_norm", "rows", "dataset")
    return _table(names, [[str(entry.get(name, "")) for name in names] for entry in entries])


def _samples(run: Path) -> str:
    """Answers of ``eval-code`` or ``predict`` that were written into the run's folder."""
    blocks = []
    for file in sorted(run.glob("*/results.jsonl"))[:3]:
        for line in file.read_text(encoding="utf-8").splitlines()[:3]:
            item = json.loads(line)
            verdict = "passed" if item["passed"] else f"failed: {item['reason']}"
            title = f"{file.parent.name}, problem {item['task_id']}: {verdict}"
            blocks.append(f"<h3>{html.escape(title)}</h3><pre>{html.escape(item['answer'])}</pre>")
    return "".join(blocks)


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if names else ''}{body}</table>"


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
