"""HTML report of a run: curves, evaluations, loss anomalies, configuration, environment."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

from mindcoder.config.schema import RunConfig
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.files import json_kind, parse_json, read_text, write_text
from mindcoder.train.callbacks.curve import scale_loss
from mindcoder.train.digits import decimals

DESCRIPTION_FILE = "run.json"
PACKAGES = ("mindcoder", "mindspore", "mindformers", "mindpet", "numpy", "tokenizers", "safetensors")


def environment() -> dict[str, Any]:
    """Versions and machine."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} processors",
        "system": platform.platform(),
        "host": platform.node(),
    }


def write_run_description(config: RunConfig, network: TransformerConfig, output: Path) -> None:
    """Write ``run.json``: command, device in use, configuration with all defaults, size and FLOPs, environment."""
    import mindspore as ms

    values = {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": sys.argv,
        "device": ms.get_context("device_target"),
        "config": config.model_dump(exclude_none=True),
        "parameters": network.num_parameters(),
        "flops_per_token": network.flops_per_token(config.model.settings.seq_length),
        "environment": environment(),
    }
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / DESCRIPTION_FILE, json.dumps(values, indent=2, default=str) + "\n")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


CURVES = (("loss", "loss (nats)"), ("grad_norm", "gradient norm"), ("learning_rate", "learning rate"),
          ("tokens_per_second", "tokens/s"))  # fmt: skip
DESCRIBED = {
    "environment": dict, "command": list, "config": dict, "flops_per_token": int | float, "parameters": int,
    "started": str,
}  # fmt: skip
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body{{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}}
img{{max-width:100%}} table{{border-collapse:collapse}}
td,th{{border:1px solid #ddd;padding:.25rem .6rem;text-align:left}}
pre{{background:#f6f6f6;padding:.8rem;white-space:pre-wrap;overflow-wrap:anywhere}}
td{{overflow-wrap:anywhere}} h2{{margin-top:2rem}}
</style><h1>{title}</h1>{body}</html>
"""


def run_report(run: Path) -> str:
    """The self-contained page of a run's output folder.

    Raises:
        UserError: there is no run.
    """
    curve = run / "curves" / "loss.csv"
    if not curve.is_file():
        raise UserError("is not a training run: it has no curves/loss.csv", run)
    steps = _rows(curve, ("step", *(name for name, _ in CURVES)))
    evals = _rows(run / "curves" / "eval.csv", ("step", "loss"))
    described = _description(run / DESCRIPTION_FILE)
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
        parts.append(f"<h2>Command</h2><pre>{html.escape(shlex.join(map(str, described['command'])))}</pre>")
        text = json.dumps(described["config"], indent=2, ensure_ascii=False)
        parts.append(
            f"<h2>Configuration</h2><details><summary>all keys</summary><pre>{html.escape(text)}</pre></details>"
        )
    return PAGE.format(title=html.escape(run.resolve().name), body="\n".join(parts))


def _summary(steps: Sequence[dict[str, str]], described: dict[str, Any]) -> str:
    rows: list[tuple[str, str]] = [("updates", str(len(steps)))]
    if steps:
        losses = [float(row["loss"]) for row in steps]
        rows.append(
            (
                "loss",
                f"{decimals(losses[0], 4)} first, {decimals(losses[-1], 4)} last, {decimals(min(losses), 4)} lowest",
            )
        )
        speeds = sorted(float(row["tokens_per_second"]) for row in steps)
        rows.append(("tokens/s", f"{decimals(speeds[len(speeds) // 2], 0)} (median)"))
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
    for number, (name, label) in enumerate(CURVES, 1):
        axes = figure.add_subplot(2, 2, number, xlabel="step", ylabel=label)
        values = [float(row[name]) for row in steps]
        axes.plot(numbers, values, linewidth=1)
        if name == "loss" and evals:
            points = [int(row["step"]) for row in evals], [float(row["loss"]) for row in evals]
            axes.plot(*points, marker="o", markersize=3, label="eval")
            axes.legend()
            values += points[1]
        if name == "loss":
            scale_loss(axes, values)
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def _health(file: Path) -> str:
    if not file.is_file():
        return "<p>Nothing was noticed.</p>"
    entries = list(_objects(file))
    names = ("step", "verdict", "action", "loss", "grad_norm", "rows", "dataset")
    return _table(names, [[str(entry.get(name, "")) for name in names] for entry in entries])


def _samples(run: Path) -> str:
    """Answers that ``eval-code`` or ``predict`` wrote into the run's folder."""
    blocks = []
    for file in sorted(run.glob("*/results.jsonl"))[:3]:
        for item in islice(_objects(file), 3):
            verdict = "passed" if item.get("passed") else f"failed: {item.get('reason')}"
            title = f"{file.parent.name}, problem {item.get('task_id')}: {verdict}"
            blocks.append(f"<h3>{html.escape(title)}</h3><pre>{html.escape(str(item.get('answer')))}</pre>")
    return "".join(blocks)


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if names else ''}{body}</table>"


def _rows(file: Path, numbers: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a curve file.

    Args:
        numbers: columns that hold numbers.

    Raises:
        UserError: names the line and the column that is not a number.
    """
    if not file.is_file():
        return []
    rows = []
    try:
        table = csv.DictReader(io.StringIO(read_text(file)))
        missing = [name for name in numbers if name not in (table.fieldnames or numbers)]
        if missing:
            raise UserError(f"has no column {missing[0]}; available: {', '.join(table.fieldnames or [])}", file, 1)
        for row in table:
            rows.append(row)
            for name in numbers:
                try:
                    (int if name == "step" else float)(row[name])
                except (KeyError, TypeError, ValueError):
                    found = row.get(name)
                    raise UserError(f"{name}: expected a number, found {found!r}", file, len(rows) + 1) from None
    except csv.Error as error:
        raise UserError(f"is not a table: {error}", file, len(rows) + 2) from None
    return rows


def _objects(file: Path) -> Iterator[dict[str, Any]]:
    """Objects of a JSONL file; losses in it may be NaN."""
    for number, line in enumerate(read_text(file).splitlines(), 1):
        item = parse_json(line, file, number, non_finite=True)
        if not isinstance(item, dict):
            raise UserError(f"expected an object, found {json_kind(item)}", file, number)
        yield item


def _description(file: Path) -> dict[str, Any]:
    """The run's description as far as the page needs it; empty if there is none."""
    if not file.is_file():
        return {}
    found = parse_json(read_text(file), file, non_finite=True)
    if not isinstance(found, dict):
        raise UserError(f"holds {json_kind(found)}, expected an object", file)
    for name, kind in DESCRIBED.items():
        if not isinstance(found.get(name), kind):
            raise UserError(f"{name}: missing, or of another kind than a run writes", file)
    return found
