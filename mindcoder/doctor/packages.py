"""Python and its packages, against what this version of MindCoder asks for."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Sequence

from mindcoder.doctor.host import Host, said
from mindcoder.doctor.report import Row, Status

PYTHON = (3, 11)
NAMED = ("mindspore", "mindformers", "mindpet", "numpy")  # rows of their own
EXTRAS = {"serve": "mindcoder serve", "test": "make test", "lint": "make lint"}
IMPORT_SECONDS, COMPUTE_SECONDS = 25.0, 45.0
IMPORT = "import numpy, mindspore; print('version', mindspore.__version__)"
COMPUTE = """
from mindcoder.backend.device import setup_device
setup_device("Ascend")
import numpy, mindspore
print("sum", (mindspore.Tensor(numpy.ones(4, numpy.float32)) + 1).asnumpy().sum())
"""

Versions = Callable[[str], str]


def python_row() -> Row:
    """The interpreter."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == PYTHON:
        return Row("Python", "ok", f"{found} ({sys.executable})")
    return Row("Python", "problem", f"{found}, expected 3.11", "make a virtual environment with python3.11")


def package_rows(
    requirements: Sequence[str] | None = None, version_of: Versions = importlib.metadata.version
) -> list[Row]:
    """A row for each of `NAMED`, one for the others, one for each extra.

    Args:
        requirements: as ``setup.py`` has them; by default those that were noted when MindCoder was installed.
        version_of: a package's version.
    """
    if requirements is None:
        try:
            requirements = importlib.metadata.requires("mindcoder") or []
        except Exception as error:  # not installed, or its metadata are damaged
            return [Row("packages", "problem", f"MindCoder is not installed ({said(error)})", "pip install -e .")]
    try:
        from packaging.requirements import Requirement
    except ImportError:
        try:
            from pip._vendor.packaging.requirements import Requirement  # type: ignore[assignment]
        except ImportError:
            return [Row("packages", "problem", "the package packaging is missing", "pip install -e .")]
    needed: dict[str, list[Requirement]] = {"": []}
    for text in requirements:
        one = Requirement(text)
        extra = next((name for name in (*EXTRAS, "bench") if one.marker and one.marker.evaluate({"extra": name})), "")
        if one.marker is None or extra:
            needed.setdefault(extra, []).append(one)
    rows = []
    for one in needed[""]:
        if one.name in NAMED:
            wrong = _wrong(one, version_of)
            advice = f"pip install '{one}'" if wrong else ""
            rows.append(Row(one.name, "problem" if wrong else "ok", wrong or _version(one.name, version_of), advice))
    others = [text for one in needed[""] if one.name not in NAMED and (text := _wrong(one, version_of, named=True))]
    count = sum(one.name not in NAMED for one in needed[""])
    if others:
        rows.append(Row("other packages", "problem", ", ".join(others), "pip install -e ."))
    else:
        rows.append(Row("other packages", "ok", f"all {count}"))
    for extra, use in EXTRAS.items():
        wrong_ones = [text for one in needed.get(extra, []) if (text := _wrong(one, version_of, named=True))]
        if wrong_ones:
            rows.append(
                Row(f"extra {extra}", "note", ", ".join(wrong_ones), f"{use} needs pip install -e '.[{extra}]'")
            )
        else:
            rows.append(Row(f"extra {extra}", "ok", f"all {len(needed.get(extra, []))}"))
    return rows


def _version(name: str, version_of: Versions) -> str:
    """Its version; the packages of a host may have any metadata.

    Raises:
        Exception: it is not installed.
    """
    return str(version_of(name))


def _wrong(one, version_of: Versions, named: bool = False) -> str:
    """What is wrong with a package; empty where it is as it should be."""
    name = f"{one.name} " if named else ""
    try:
        found = _version(one.name, version_of)
        fits = one.specifier.contains(found, prereleases=True)
    except Exception:
        return f"{name}missing" + ("" if named else f", expected {one.specifier}")
    return "" if fits else f"{name}{found}, expected {one.specifier}"


def import_row(host: Host) -> Row:
    """Whether MindSpore can be imported at all: in a process of its own, for it may end it."""
    answer = host.python(IMPORT, IMPORT_SECONDS)
    version = next((line.split()[1] for line in answer.output.splitlines() if line.startswith("version ")), None)
    if answer.code == 0 and version:
        return Row("import mindspore", "ok", version)
    status: Status = "note" if answer.is_late else "problem"  # a slow disk or a busy machine, perhaps
    found = _why(answer.code, answer.output, answer.failure)
    return Row("import mindspore", status, found, "python -c 'import mindspore' says more")


def compute_row(host: Host) -> Row:
    """Whether MindSpore adds two numbers on the card."""
    answer = host.python(COMPUTE, COMPUTE_SECONDS)
    if answer.code == 0 and "sum 8.0" in answer.output:
        return Row("MindSpore on Ascend", "ok", "adds two tensors")
    found = _why(answer.code, answer.output, answer.failure)
    return Row("MindSpore on Ascend", "problem", found, "see the rows on cards, driver and CANN")


def _why(code: int | None, output: str, failure: str) -> str:
    """The last line of a traceback, a signal or a time limit."""
    if failure:
        return failure
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith((" ", "-", "["))]
    errors = [line for line in lines if "Error" in line.split(":")[0]]
    last = (errors or lines or ["it said nothing"])[-1]
    if code is not None and code < 0:
        return f"ended by signal {-code}: {last}"
    return last if code else f"unexpected: {last}"
