"""Target of a conversion: checks in advance what may be replaced, and moves the result into place afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from mindcoder.checkpoint.mindcoder_weights import ARCHITECTURE_FILE
from mindcoder.checkpoint.mindformers.rank_tree import LAYOUT_FILE
from mindcoder.errors import UserError

# each of these marks a folder as a model that may be replaced
MODEL_FILES = ("config.json", ARCHITECTURE_FILE, LAYOUT_FILE)


def prepare_target(named: Path, is_file: bool, overwrite: bool, sources: Iterable[Path]) -> Path:
    """The path to write to, with links resolved and its parent folder created.

    Args:
        named: by the user; a link is kept and its destination is written.
        is_file: whether a file is to be written, else a folder.
        overwrite: whether an existing model may be replaced.
        sources: files and folders that are read.

    Raises:
        UserError: something is there that must not, or cannot, be replaced.
    """
    try:
        target = named.resolve()
        _check_parents(target, named)
        sources = {source.resolve() for source in sources}
        if target in sources:
            raise UserError("is both source and target", named)
        for source in sources:
            if target in source.parents:
                raise UserError(f"holds {source}, which is read: give another folder", named)
        _check_present(target, named, is_file, overwrite)
        _make_parent(target, named)
    except (OSError, RuntimeError) as error:  # RuntimeError: cyclic links
        raise UserError(f"cannot be written: {getattr(error, 'strerror', None) or error}", named) from None
    return target


def _check_present(target: Path, named: Path, is_file: bool, overwrite: bool) -> None:
    if not target.exists() or (not is_file and target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise UserError("exists; add --overwrite to replace it", named)
    if target.is_dir() and is_file:
        raise UserError("is a folder; a file is to be written", named)
    if not target.is_dir() and not is_file:
        raise UserError("is a file; a folder is to be written", named)
    if is_file and not target.is_file():
        raise UserError("is no regular file; it is not replaced", named)
    if target.is_dir() and not any((target / name).is_file() for name in MODEL_FILES):
        raise UserError("holds something else than a model; it is not replaced", named)


def _check_parents(target: Path, named: Path) -> None:
    parent = next((parent for parent in target.parents if parent.is_file()), None)
    if parent is not None:
        raise UserError(f"cannot be written: {parent} is a file, not a folder", named)


def _make_parent(target: Path, named: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UserError("cannot be written: no write permission for its folder", named)


def put_in_place(finished: Path, target: Path) -> None:
    """Replace ``target`` by a finished file or folder; the old folder is removed last."""
    if finished.is_file() or not target.exists():
        finished.replace(target)
        return
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    try:
        finished.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
