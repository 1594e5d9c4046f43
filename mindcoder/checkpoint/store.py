"""Training checkpoints: folders that are complete or do not exist.

``<root>/step_00000100/`` holds ``model.safetensors`` (global parameter names), ``optimizer.safetensors``,
``state.json`` (step, data position, loss scale, architecture) and ``manifest.json`` (size and SHA-256 of each). With
several processes each writes the shards it holds into ``model-rank_0003.safetensors`` and so on
(`mindcoder.checkpoint.shards`); the manifest lists all of them, and any layout can read them.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.checkpoint.manifest import (
    MANIFEST_FILE,
    MODEL,
    OPTIMIZER,
    STATE_FILE,
    Entry,
    check_contents,
    check_files,
    check_tensors,
    digest,
    is_part,
    read_manifest,
    read_state,
)
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.shards import Shard, merge_shards, save_shards, unsharded
from mindcoder.checkpoint.trained_shapes import trained_shapes
from mindcoder.errors import UserError
from mindcoder.files import no_space_error, require_space
from mindcoder.locations import path_of

ContentCheck = Callable[[Path, Mapping[str, Entry]], None]  # raises UserError
STEP_NAME = re.compile(r"step_(\d{8,})")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return int(self.state["step"])

    def files(self, kind: str) -> list[Path]:
        """The files of kind `MODEL` or `OPTIMIZER`."""
        return [self.folder / name for name in sorted(read_manifest(self.folder)) if is_part(name, kind)]

    def tensors(self, kind: str) -> dict[str, TensorPlan]:
        """Whole tensors of `MODEL` (by global name) or `OPTIMIZER` (by name); nothing is read yet.

        Raises:
            UserError: shards are missing.
        """
        return merge_shards(self.files(kind))


def is_checkpoint(folder: Path) -> bool:
    """Whether ``folder`` looks like one of our checkpoints, complete or not."""
    return (folder / MANIFEST_FILE).is_file() or bool(STEP_NAME.fullmatch(folder.name))


def save_checkpoint(
    root: Path,
    state: Mapping[str, Any],
    model: Mapping[str, np.ndarray],
    optimizer: Mapping[str, np.ndarray],
    keep: int,
) -> Path:
    """Write a checkpoint under a temporary name and rename it to ``root/step_N``; then delete all but the latest
    ``keep``.

    Args:
        root: folder of the run's checkpoints.
        state: JSON-serializable; must contain ``step``.
        model: parameters by global name.
        optimizer: optimizer state by name.
        keep: number of checkpoints to keep.

    Raises:
        NoSpaceError: the disk is full; earlier checkpoints are untouched.
    """
    target = begin_checkpoint(root, state["step"])
    try:
        shards = [{name: unsharded(value) for name, value in values.items()} for values in (model, optimizer)]
        write_shards(target, shards[0], shards[1])
        return finish_checkpoint(target, state, keep)
    except BaseException:
        discard_checkpoint(target)
        raise


def discard_checkpoint(target: Path) -> None:
    """Remove the files of an unfinished checkpoint."""
    shutil.rmtree(_staging(target), ignore_errors=True)


def begin_checkpoint(root: Path, step: int) -> Path:
    """Create the staging folder of ``root/step_N`` and return the target path; removes leftovers of an interrupted
    writer. One process only.
    """
    target = root / f"step_{step:08d}"
    root.mkdir(parents=True, exist_ok=True)
    clear_partial(root)
    _staging(target).mkdir()
    return target


def clear_partial(root: Path) -> None:
    """Remove what interrupted writers left among a run's checkpoints. For the only process that writes there."""
    for left in root.glob(".step_*.partial"):
        shutil.rmtree(left, ignore_errors=True)


def write_shards(
    target: Path, model: Mapping[str, Shard], optimizer: Mapping[str, Shard], rank: int | None = None
) -> None:
    """Write this rank's shards, between `begin_checkpoint` and `finish_checkpoint`; called by all ranks concurrently.

    Args:
        rank: this rank, if there are several.

    Raises:
        NoSpaceError: the disk is full.
    """
    staging = _staging(target)
    suffix = "" if rank is None else f"-rank_{rank:04d}"
    size = sum(shard.values.nbytes for shards in (model, optimizer) for shard in shards.values())
    require_space(target, size + 2**16)
    digests = {}
    with no_space_error(target):
        for kind, shards in ((MODEL, model), (OPTIMIZER, optimizer)):
            if shards or rank is None:
                file = staging / f"{kind}{suffix}.safetensors"
                save_shards(file, shards)
                digests[file.name] = _describe(file)
        # What follows is small; the last process to finish must not run out of space.
        (staging / f".written{suffix}.json").write_text(json.dumps(digests))


def finish_checkpoint(target: Path, state: Mapping[str, Any], keep: int) -> Path:
    """Write the manifest over all ranks' files and rename the folder to ``target``; then delete all but the latest
    ``keep``.

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
    """Size and digest of a file, after fsync."""
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
    return {"bytes": file.stat().st_size, "sha256": digest(file)}


def list_steps(root: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first, complete or not."""
    if not root.is_dir():
        return []
    return sorted(
        (path for path in root.iterdir() if STEP_NAME.fullmatch(path.name)), key=lambda path: int(path.name[5:])
    )


def open_checkpoint(folder: Path, trusted: bool = False, check: ContentCheck = check_contents) -> Checkpoint:
    """Verify a checkpoint against its manifest.

    Args:
        trusted: another process has verified the contents.
        check: verifies the contents; several processes may divide the work.

    Raises:
        UserError: names the missing or damaged file.
    """
    entries = read_manifest(folder)
    check_files(folder, entries)
    if not trusted:
        check(folder, entries)
    checkpoint = Checkpoint(folder, read_state(folder))
    if not trusted:
        model, optimizer = checkpoint.tensors(MODEL), checkpoint.tensors(OPTIMIZER)
        check_tensors(model, optimizer, trained_shapes(checkpoint.state, folder), folder)
    return checkpoint


def newest_checkpoint(root: Path, check: ContentCheck = check_contents) -> Checkpoint | None:
    """The latest intact checkpoint of a run, or None; damaged ones are skipped with a warning.

    Args:
        check: see `open_checkpoint`.

    Raises:
        UserError: all checkpoints are damaged; says how, for each.
    """
    reasons: list[str] = []
    for folder in reversed(list_steps(root)):
        if reasons:
            log.warning("%s; trying the previous one", reasons[-1])
        try:
            return open_checkpoint(folder, check=check)
        except UserError as error:
            reasons.append(str(error))
    if reasons:
        told = "; ".join(reason.removeprefix(f"{root}{os.sep}") for reason in reasons)
        raise UserError(f"every checkpoint here is damaged ({told}); nothing was changed", root)
    return None


def find_checkpoint(location: str | Path, check: ContentCheck = check_contents) -> Checkpoint | None:
    """The checkpoint at ``location``: a step folder, a folder of steps, or a run's output folder.

    Args:
        check: see `open_checkpoint`.

    Returns:
        None if ``location`` is something else.

    Raises:
        UserError: nothing is there, or only damaged checkpoints.
    """
    path = path_of(location)
    if is_checkpoint(path):
        return open_checkpoint(path, check=check)
    for root in _roots(path):
        if list_steps(root):
            return newest_checkpoint(root, check)
    return None


def open_step(location: str | Path, step: int) -> Checkpoint:
    """The checkpoint of ``step`` at a ``location`` as in `find_checkpoint`, verified by another process.

    Raises:
        UserError: it is missing: the processes do not see the same folder.
    """
    return open_checkpoint(step_folder(location, step), trusted=True)


def step_folder(location: str | Path, step: int) -> Path:
    """Folder of the checkpoint of ``step`` that another process has chosen.

    Raises:
        UserError: as `open_step`.
    """
    path = Path(location)
    for folder in (path, *(root / f"step_{step:08d}" for root in _roots(path))):
        if (folder / MANIFEST_FILE).is_file():
            return folder
    raise UserError(f"step {step}, which rank 0 resumes from, is not here; output_dir must be shared", location)


def _roots(path: Path) -> tuple[Path, Path]:
    """Folders that may contain the steps of a run."""
    return path, path / "checkpoint"
