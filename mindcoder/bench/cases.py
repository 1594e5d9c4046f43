"""Benchmark cases and the result table; independent of any framework."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from mindcoder.errors import UserError
from mindcoder.files import replacing, write_text


@dataclass(frozen=True)
class Case:
    """Batch size, prompt length and answer length in tokens."""

    batch: int
    prompt: int
    new: int


@dataclass(frozen=True)
class Row:
    """Results of a case.

    Attributes:
        first_token_ms: time to first token, mean over the batch.
        next_token_ms: time per output token after the first, mean.
        tokens_per_second: generated tokens of all sequences divided by the total time, prefill included.
        memory_mb: peak memory of the process (of the GPU if there is one).
    """

    batch: int
    input_length: int
    output_length: int
    first_token_ms: float
    next_token_ms: float
    tokens_per_second: float
    memory_mb: float


def parse_cases(pairs: str | None, grid: str | None, batches: str) -> list[Case]:
    """Cases from ``--pairs "[[256,256],[512,512]]"`` or ``--grid 5,11``, for ``--batch 1,4,8``.

    A grid ``a,b`` is every pair of the lengths 2^a ... 2^(b-1), as in the original script's 36 cases.

    Raises:
        UserError: a value is malformed.
    """
    lengths = _grid(grid) if grid is not None else _pairs(pairs or "[[256,256]]")
    if not re.fullmatch(r"\d+(,\d+)*", batches) or "0" in batches.split(","):
        raise UserError(f"--batch: expected sizes such as 1,4,8, found {batches!r}")
    return [Case(int(batch), prompt, new) for batch in batches.split(",") for prompt, new in lengths]


def _pairs(text: str) -> list[tuple[int, int]]:
    wrong = UserError(f'--pairs: expected "[[in,out],[in,out]]", found {text!r}')
    try:
        pairs = json.loads(text)
    except ValueError:
        raise wrong from None
    if not isinstance(pairs, list) or not pairs:
        raise wrong
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(size) is int and size > 0 for size in pair):
            raise wrong
    return [(prompt, new) for prompt, new in pairs]


def _grid(text: str) -> list[tuple[int, int]]:
    match = re.fullmatch(r"(\d{1,2}),(\d{1,2})", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError(f"--grid: expected two powers of two such as 5,11, found {text!r}")
    sizes = [2**power for power in range(int(match[1]), int(match[2]))]
    return [(prompt, new) for prompt in sizes for new in sizes]


def original_pairs(
    multicase: int,
    set_case_pair: int,
    seqlen_in: int,
    seqlen_out: int,
    seqlen_in_range: Sequence[int],
    seqlen_out_range: Sequence[int],
    seqlen_in_pair: Sequence[int],
    seqlen_out_pair: Sequence[int],
) -> list[list[int]]:
    """``[in, out]`` pairs from the variables of the original StarCoder run.sh.

    One case without ``multicase``; with ``set_case_pair`` the pairs as given; else all
    combinations of the lengths 2^a ... 2^(b-1) of both ranges.
    """
    if not multicase:
        return [[seqlen_in, seqlen_out]]
    if set_case_pair:
        return [[first, second] for first, second in zip(seqlen_in_pair, seqlen_out_pair, strict=True)]
    lengths, answers = range(*seqlen_in_range), range(*seqlen_out_range)
    return [[2**first, 2**second] for first in lengths for second in answers]


def write_table(rows: Sequence[Row], file: Path) -> None:
    """Write ``file`` as CSV, with a plot beside it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Row)])
    writer.writerows([round(value, 3) for value in astuple(row)] for row in rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text.getvalue())
    _draw(rows, file.with_suffix(".png"))


def _draw(rows: Sequence[Row], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    figures = (
        ("first_token_ms", "first token (ms)"),
        ("next_token_ms", "next token (ms)"),
        ("tokens_per_second", "tokens/s"),
    )
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.batch, row.output_length, row.input_length)):
        groups.setdefault(f"batch {row.batch}, out {row.output_length}", []).append(row)
    lengths = {row.input_length for row in rows}
    for axis, (name, title) in zip(axes, figures):
        axis.set(title=title)
        if len(lengths) == 1:  # a line needs more than one point
            bars = axis.bar(list(groups), [getattr(own[-1], name) for own in groups.values()])
            axis.bar_label(bars, fmt="%.4g")
            axis.set_xlabel(f"{min(lengths)} prompt tokens")
            axis.tick_params(axis="x", labelrotation=0 if len(groups) < 4 else 45)
            continue
        for label, own in groups.items():
            axis.plot([row.input_length for row in own], [getattr(row, name) for row in own], "o-", label=label)
        axis.set(xlabel="prompt tokens", xscale="log")
        axis.set_ylim(bottom=0)
    if 0 < len(axes[0].lines) <= 12:
        axes[0].legend(fontsize="x-small")
    with replacing(file) as stream:
        figure.savefig(stream, format="png", dpi=120)
    pyplot.close(figure)
