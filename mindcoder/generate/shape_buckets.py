"""The shapes that a graph of any shape is run in: buckets of batches and lengths, in files that MindSpore Lite takes.

GE compiles a graph once for each entry of ``ge.dynamicDims``, which has one number for every -1 of ``ge.inputShape``,
in its order. ``prefill_dyn.cfg`` has the shapes of prompts, ``inc_dyn.cfg`` those of decoding, after MindFormers'
scripts for MindSpore Lite, which give such a file to each model. GraphCell compiles for each shape as well, so that
steps are padded to the next bucket here, too.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError
from mindcoder.files import file_there, read_text

PREFILL, DECODE = "prefill_dyn.cfg", "inc_dyn.cfg"
CONTEXT = "context.cfg"  # of graphs with fixed shapes
# What the original document gives MindSpore Lite; the file limits its size.
SECTIONS: Mapping[str, Mapping[str, str]] = {
    "ascend_context": {"plugin_custom_ops": "All", "provider": "ge"},
    "ge_session_options": {
        "ge.exec.formatMode": "1",
        "ge.exec.precision_mode": "must_keep_origin_dtype",
        "ge.externalWeight": "1",
        "ge.exec.atomicCleanPolicy": "1",
    },
}
GRAPH, SHAPE, DIMS, NODE = "ge_graph_options", "ge.inputShape", "ge.dynamicDims", "ge.dynamicNodeType"
LIMIT = 1 << 20
SHORTEST = 32  # tokens of the smallest bucket of lengths

Inputs = Mapping[str, Mapping[str, Any]]  # dtype and shape of what a graph takes, None for any size


@dataclass(frozen=True)
class ShapeBuckets:
    """Shapes that steps are padded to.

    Attributes:
        batches: sequences of a decoding step, ascending.
        lengths: tokens of a step of a prompt, ascending.
    """

    batches: tuple[int, ...]
    lengths: tuple[int, ...]


def doubling(first: int, last: int) -> tuple[int, ...]:
    """``first``, twice as much … and ``last``."""
    found = [min(first, last)]
    while found[-1] < last:
        found.append(min(2 * found[-1], last))
    return tuple(found)


def fitting(buckets: Sequence[int], size: int) -> int | None:
    """The smallest bucket that ``size`` fits in; None if there is none."""
    return next((bucket for bucket in buckets if bucket >= size), None)


def check_buckets(name: str, found: Iterable[Any], largest: int = LIMIT) -> tuple[int, ...]:
    """Buckets as they were asked for, ascending.

    Raises:
        UserError: they are not whole numbers from 1 to ``largest``, each once; ``name`` tells which.
    """
    values = list(found)
    for value in values:
        if type(value) is not int or not 1 <= value <= largest:
            raise UserError(f"{name}: expected whole numbers from 1 to {largest}, found {value!r:.30}")
    if not values or len(set(values)) < len(values):
        raise UserError(f"{name}: expected different numbers, found {', '.join(map(str, values)) or 'none'}")
    return tuple(sorted(values))


def write_context(folder: Path) -> None:
    """Write `CONTEXT`."""
    _write(folder / CONTEXT, SECTIONS)


def write_buckets(folder: Path, buckets: ShapeBuckets, inputs: Inputs) -> None:
    """Write `PREFILL` and `DECODE` beside a graph.

    Args:
        inputs: of the graph.
    """
    for file, sizes in (
        (PREFILL, [{"rows": 1, "tokens": length, "logits": 1} for length in buckets.lengths]),
        (DECODE, [{"rows": batch, "tokens": batch, "logits": batch} for batch in buckets.batches]),
    ):
        names = sorted(inputs)
        shapes = ";".join(f"{name}:{','.join(str(size or -1) for size in inputs[name]['shape'])}" for name in names)
        dims = ";".join(
            ",".join(str(one[_kind(name)]) for name in names for size in inputs[name]["shape"] if size is None)
            for one in sizes
        )
        _write(folder / file, {**SECTIONS, GRAPH: {SHAPE: shapes, DIMS: dims, NODE: "1"}})


def read_buckets(folder: Path, inputs: Inputs) -> ShapeBuckets | None:
    """The buckets in a folder; None if it has no such files.

    Args:
        inputs: of the folder's graph.

    Raises:
        UserError: a file is not one of `write_buckets`, changed in its numbers alone.
    """
    files = [folder / name for name in (PREFILL, DECODE)]
    if not any(file_there(file) for file in files):
        return None
    for file in files:
        if not file_there(file):
            raise UserError(f"is missing; {' and '.join((PREFILL, DECODE))} belong together", file)
    lengths, batches = (_read(file, inputs, kind) for file, kind in zip(files, ("tokens", "rows")))
    return ShapeBuckets(batches, lengths)


def _kind(name: str) -> str:
    """Which size of a step the first axis of an input is."""
    return {"block_tables": "rows", "logits_indices": "logits"}.get(name, "tokens")


def _write(file: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key}={value}" for key, value in values.items())]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _read(file: Path, inputs: Inputs, kind: str) -> tuple[int, ...]:
    """One number of each entry of ``ge.dynamicDims``: that of the first input whose size is of ``kind``."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(read_text(file, LIMIT))
        shapes, dims = parser[GRAPH][SHAPE], parser[GRAPH][DIMS]
    except configparser.Error as error:
        raise UserError(f"is not a configuration file: {str(error).splitlines()[0]}", file) from None
    except KeyError as error:
        raise UserError(f"has no {str(error.args[0])}: expected {SHAPE} and {DIMS} in [{GRAPH}]", file) from None
    _check_settings(parser, file)
    items = shapes.split(";")
    axes = []
    for item in items:
        name, _, sizes = item.partition(":")
        expected = None if name not in inputs else [size or -1 for size in inputs[name]["shape"]]
        if expected is None or sizes != ",".join(map(str, expected)):
            raise UserError(f"{SHAPE}: {item!r:.60} is not what the graph takes", file)
        axes += [_kind(name) for size in expected if size == -1]
    if len(items) != len(inputs):
        raise UserError(
            f"{SHAPE}: has {len(items)} of the graph's {len(inputs)} inputs: {', '.join(sorted(inputs))}", file
        )
    found = []
    for entry in dims.split(";"):
        try:
            numbers = [int(number) for number in entry.split(",")]
        except ValueError:
            numbers = []
        sizes_of = {axis: {number for own, number in zip(axes, numbers) if own == axis} for axis in axes}
        if len(numbers) != len(axes) or any(len(own) > 1 for own in sizes_of.values()) or min(numbers) < 1:
            raise UserError(f"{DIMS}: {entry!r:.60} is not a shape of {SHAPE}", file)
        found.append(sizes_of[kind].pop())
    return check_buckets(f"{file}: {DIMS}", found, LIMIT)


def _check_settings(parser: configparser.ConfigParser, file: Path) -> None:
    """Refuse sections, keys and values that `write_buckets` does not write, shapes apart.

    Raises:
        UserError: names the first.
    """
    known = {**SECTIONS, GRAPH: {SHAPE: None, DIMS: None, NODE: "1"}}
    for section in parser.sections():
        if section not in known:
            raise UserError(f"unknown section [{section}]; expected {', '.join(f'[{name}]' for name in known)}", file)
        for key, value in parser[section].items():
            if key not in known[section]:
                raise UserError(f"[{section}] {key}: unknown key; expected {', '.join(known[section])}", file)
            if known[section][key] not in (None, value):
                raise UserError(f"[{section}] {key}: found {value!r:.40}, expected {known[section][key]}", file)
