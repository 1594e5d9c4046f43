"""Training checkpoints: folders that are whole or not there.

``<root>/step_00000100/`` holds ``model.safetensors`` (global parameter names), ``optimizer.safetensors``,
``state.json`` (step, data position, loss scale, architecture) and ``manifest.json`` (size and SHA-256 of each).
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
from safetensors.numpy import load_file, save_file

from mindcoder.errors import UserError
from mindcoder.files import no_space_error, require_space, staging_directory

MODEL_FILE, OPTIMIZER_FILE = "model.safetensors", "optimizer.safetensors"
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

    def model(self) -> dict[str, np.ndarray]:
        """Parameters by global name."""
        return load_file(self.folder / MODEL_FILE)

    def optimizer(self) -> dict[str, np.ndarray]:
        """Optimizer state by name."""
        return load_file(self.folder / OPTIMIZER_FILE)


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
    target = root / f"step_{state['step']:08d}"
    root.mkdir(parents=True, exist_ok=True)
    require_space(target, sum(array.nbytes for part in (model, optimizer) for array in part.values()) + 2**16)
    with staging_directory(target) as staging:
        save_file(dict(model), staging / MODEL_FILE)
        save_file(dict(optimizer), staging / OPTIMIZER_FILE)
        (staging / STATE_FILE).write_text(json.dumps(dict(state), indent=2) + "\n")
        files = {path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for path in staging.iterdir()}
        (staging / MANIFEST_FILE).write_text(json.dumps({"version": 1, "files": files}, indent=2) + "\n")
        for path in staging.iterdir():
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    for old in list_steps(root)[:-keep]:
        shutil.rmtree(old)
    return target


def save_part(root: Path, rank: int, model: Mapping[str, np.ndarray], optimizer: Mapping[str, np.ndarray]) -> None:
    """Write what a rank holds beside the checkpoints, for the first rank to take (`take_part`).

    Raises:
        NoSpaceError: the disk is full.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = _part_file(root, rank)
    tensors = {f"model/{name}": value for name, value in model.items()}
    tensors |= {f"optimizer/{name}": value for name, value in optimizer.items()}
    require_space(path, sum(array.nbytes for array in tensors.values()) + 2**16)
    with no_space_error(path):
        save_file({name: np.asarray(value, order="C") for name, value in tensors.items()}, path)


def take_part(root: Path, rank: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Model and optimizer tensors that a rank has left with `save_part`; the file goes."""
    path = _part_file(root, rank)
    tensors = load_file(path)
    path.unlink()
    found = [
        {name.removeprefix(kind): value for name, value in tensors.items() if name.startswith(kind)}
        for kind in ("model/", "optimizer/")
    ]
    return found[0], found[1]


def _part_file(root: Path, rank: int) -> Path:
    return root / f".part_rank_{rank:04d}.safetensors"


def list_steps(root: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first, whole or not."""
    if not root.is_dir():
        return []
    return sorted(
        (path for path in root.iterdir() if STEP_NAME.fullmatch(path.name)), key=lambda path: int(path.name[5:])
    )


def open_checkpoint(folder: Path) -> Checkpoint:
    """Check a checkpoint against its manifest.

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
            if _digest(path) != expected["sha256"]:
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
    for root in (path, path / "checkpoint"):
        if list_steps(root):
            found = newest_checkpoint(root)
            if found is None:
                raise UserError("all checkpoints here are damaged", root)
            return found
    return None
