"""Training checkpoints: folders that are whole or not there.

``<root>/step_00000100/`` holds ``model.safetensors`` (global parameter names), ``optimizer.safetensors``,
``state.json`` (step, data position, loss scale, architecture) and ``manifest.json`` (size and SHA-256 of each). Several
processes write ``model-rank_0003.safetensors`` and so on instead, each what it holds (`mindcoder.checkpoint.parts`);
the manifest binds them, and any layout reads them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.checkpoint.parts import Part, merge_parts, save_parts, whole
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.errors import UserError
from mindcoder.files import no_space_error, require_space

MODEL, OPTIMIZER = "model", "optimizer"  # kinds of tensor files
STATE_FILE, MANIFEST_FILE = "state.json", "manifest.json"
STEP_NAME = re.compile(r"step_(\d{8,})")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Updates done."""
        return int(self.state["step"])

    def files(self, kind: str) -> list[Path]:
        """Those of `MODEL` or `OPTIMIZER`."""
        manifest = json.loads((self.folder / MANIFEST_FILE).read_text())
        return [self.folder / name for name in sorted(manifest["files"]) if name.startswith(kind)]

    def tensors(self, kind: str) -> dict[str, TensorPlan]:
        """Whole tensors of `MODEL` (by global name) or `OPTIMIZER` (by name); nothing is read yet.

        Raises:
            UserError: parts are missing.
        """
        return merge_parts(self.files(kind))


def _digest(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_checkpoint(folder: Path) -> bool:
    """Whether ``folder`` looks like one of ours (whole or not)."""
    return (folder / MANIFEST_FILE).is_file() or bool(STEP_NAME.fullmatch(folder.name))


def save_checkpoint(
    root: Path,
    state: Mapping[str, Any],
    model: Mapping[str, np.ndarray],
    optimizer: Mapping[str, np.ndarray],
    keep: int,
) -> Path:
    """Write ``root/step_N`` beside and rename it; then delete all but the newest ``keep``.

    Args:
        root: folder of the run's checkpoints.
        state: JSON-able; must hold ``step``.
        model: parameters by global name.
        optimizer: optimizer state by name.
        keep: how many checkpoints stay.

    Raises:
        NoSpaceError: the disk is full; earlier checkpoints are untouched.
    """
    target = begin_checkpoint(root, state["step"])
    try:
        parts = [{name: whole(value) for name, value in values.items()} for values in (model, optimizer)]
        write_parts(target, parts[0], parts[1])
        return finish_checkpoint(target, state, keep)
    except BaseException:
        discard_checkpoint(target)
        raise


def discard_checkpoint(target: Path) -> None:
    """Remove what has been written of a checkpoint that is not finished."""
    shutil.rmtree(_staging(target), ignore_errors=True)


def begin_checkpoint(root: Path, step: int) -> Path:
    """Make room beside ``root/step_N``, which is given; what an interrupted writer left goes. For one process."""
    target = root / f"step_{step:08d}"
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(".step_*.partial"):
        shutil.rmtree(left, ignore_errors=True)
    _staging(target).mkdir()
    return target


def write_parts(
    target: Path, model: Mapping[str, Part], optimizer: Mapping[str, Part], rank: int | None = None
) -> None:
    """Write what this process holds, between `begin_checkpoint` and `finish_checkpoint`; all processes at a time.

    Args:
        rank: of several processes.

    Raises:
        NoSpaceError: the disk is full.
    """
    staging = _staging(target)
    suffix = "" if rank is None else f"-rank_{rank:04d}"
    require_space(target, sum(part.values.nbytes for parts in (model, optimizer) for part in parts.values()) + 2**16)
    digests = {}
    with no_space_error(target):
        for kind, parts in ((MODEL, model), (OPTIMIZER, optimizer)):
            if parts or rank is None:
                file = staging / f"{kind}{suffix}.safetensors"
                save_parts(file, parts)
                digests[file.name] = _describe(file)
        # What follows is small; the last process to finish must not find out that it does not fit.
        (staging / f".written{suffix}.json").write_text(json.dumps(digests))


def finish_checkpoint(target: Path, state: Mapping[str, Any], keep: int) -> Path:
    """Bind what all processes have written and rename it to ``target``; then delete all but the newest ``keep``.

    Raises:
        NoSpaceError: the disk is full; earlier checkpoints are untouched.
    """
    staging = _staging(target)
    with no_space_error(target):
        files: dict[str, Any] = {}
        for written in sorted(staging.glob(".written*.json")):
            files |= json.loads(written.read_text())
            written.unlink()
        (staging / STATE_FILE).write_text(json.dumps(dict(state), indent=2) + "\n")
        files[STATE_FILE] = _describe(staging / STATE_FILE)
        manifest = staging / MANIFEST_FILE
        manifest.write_text(json.dumps({"version": 1, "files": files}, indent=2) + "\n")
        _describe(manifest)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    for old in list_steps(target.parent)[:-keep]:
        shutil.rmtree(old)
    return target


def _staging(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def _describe(file: Path) -> dict[str, Any]:
    """Size and digest of a file that is safely on the disk."""
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
    return {"bytes": file.stat().st_size, "sha256": _digest(file)}


def list_steps(root: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first, whole or not."""
    if not root.is_dir():
        return []
    return sorted(
        (path for path in root.iterdir() if STEP_NAME.fullmatch(path.name)), key=lambda path: int(path.name[5:])
    )


def open_checkpoint(folder: Path, trusted: bool = False) -> Checkpoint:
    """Check a checkpoint against its manifest.

    Args:
        trusted: another process has compared the files' content to the manifest.

    Raises:
        UserError: names the file that is missing or damaged.
    """
    manifest_file = folder / MANIFEST_FILE
    if not manifest_file.is_file():
        raise UserError("is no whole checkpoint: manifest.json is missing", folder)
    try:
        files = json.loads(manifest_file.read_text())["files"]
        for name, expected in files.items():
            path = folder / name
            if not path.is_file():
                raise UserError("damaged checkpoint: file is missing", path)
            if path.stat().st_size != expected["bytes"]:
                raise UserError(f"damaged checkpoint: {path.stat().st_size} bytes instead of {expected['bytes']}", path)
            if not trusted and _digest(path) != expected["sha256"]:
                raise UserError("damaged checkpoint: content differs from its manifest", path)
        return Checkpoint(folder, json.loads((folder / STATE_FILE).read_text()))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"is broken: {error}", manifest_file) from None


def newest_checkpoint(root: Path) -> Checkpoint | None:
    """The newest whole checkpoint of a run; damaged ones are passed over with a warning."""
    for folder in reversed(list_steps(root)):
        try:
            return open_checkpoint(folder)
        except UserError as error:
            log.warning("%s; trying the one before", error)
    return None


def find_checkpoint(location: str | Path) -> Checkpoint | None:
    """The checkpoint at ``location``: a step folder, a folder of steps, or a run's output folder.

    Returns:
        None when ``location`` is something else.

    Raises:
        UserError: nothing there, or only damaged checkpoints.
    """
    path = Path(location)
    if not path.exists():
        raise UserError("no such checkpoint", location)
    if is_checkpoint(path):
        return open_checkpoint(path)
    for root in _roots(path):
        if list_steps(root):
            found = newest_checkpoint(root)
            if found is None:
                raise UserError("all checkpoints here are damaged", root)
            return found
    return None


def open_step(location: str | Path, step: int) -> Checkpoint:
    """The checkpoint of ``step`` at a ``location`` as in `find_checkpoint`, which another process has checked.

    Raises:
        UserError: it is not there: the processes do not see the same folder.
    """
    path = Path(location)
    for folder in (path, *(root / f"step_{step:08d}" for root in _roots(path))):
        if (folder / MANIFEST_FILE).is_file():
            return open_checkpoint(folder, trusted=True)
    raise UserError(f"step {step}, which rank 0 resumes from, is not here; output_dir must be shared", location)


def _roots(path: Path) -> tuple[Path, Path]:
    """Where the steps of a run may lie."""
    return path, path / "checkpoint"
