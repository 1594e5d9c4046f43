"""Manifest of a training checkpoint: its files, their sizes and digests, and whether it is complete."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.errors import UserError
from mindcoder.files import json_kind, read_json_object

MODEL, OPTIMIZER = "model", "optimizer"  # kinds of tensor files
STATE_FILE, MANIFEST_FILE = "state.json", "manifest.json"
MOMENTS = ("adam_m.", "adam_v.")  # optimizer states that every trained parameter has
LIMIT = 64 << 20  # bytes of a manifest or a state
LARGEST = 1 << 62  # bytes of a file, updates of a run
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """Entry of the manifest for one file."""

    nbytes: int
    sha256: str


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, Entry]:
    """The files of a checkpoint, by name.

    Raises:
        UserError: the manifest is missing, invalid, or does not list a complete checkpoint.
    """
    file = folder / MANIFEST_FILE
    if not file.is_file():
        raise UserError("is not a complete checkpoint: manifest.json is missing", folder)
    values = read_json_object(file, LIMIT)
    if values.get("version") != 1:
        raise UserError(f"version: expected 1, found {values.get('version')!r}", file)
    listed = values.get("files")
    if not isinstance(listed, dict):
        raise UserError(f"files: expected an object, found {json_kind(listed)}", file)
    entries = {name: _entry(name, described, file) for name, described in listed.items()}
    for kind in (MODEL, OPTIMIZER):
        if not any(is_part(name, kind) for name in entries):
            raise UserError(f"damaged checkpoint: lists no {kind}*.safetensors", file)
    if STATE_FILE not in entries:
        raise UserError(f"damaged checkpoint: does not list {STATE_FILE}", file)
    unlisted = [path.name for path in folder.iterdir() if path.suffix == ".safetensors" and path.name not in entries]
    if unlisted:
        raise UserError(f"damaged checkpoint: does not list {', '.join(sorted(unlisted)[:5])}", file)
    return entries


def is_part(name: str, kind: str) -> bool:
    """Whether a file holds tensors of a kind, all of them or one rank's shards."""
    return name == f"{kind}.safetensors" or (name.startswith(f"{kind}-rank_") and name.endswith(".safetensors"))


def read_state(folder: Path) -> dict[str, Any]:
    """``state.json`` of a checkpoint.

    Raises:
        UserError: it is not the state of a run.
    """
    file = folder / STATE_FILE
    state = read_json_object(file, LIMIT)
    step = state.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < LARGEST:
        raise UserError(f"step: expected a whole number of updates, found {str(step)[:30]}", file)
    return state


def check_files(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Compare the names and sizes of a checkpoint's files with its manifest.

    Raises:
        UserError: names the first missing or damaged file.
    """
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            raise UserError("damaged checkpoint: file is missing", path)
        if path.stat().st_size != entry.nbytes:
            raise UserError(f"damaged checkpoint: {path.stat().st_size} bytes instead of {entry.nbytes}", path)


def check_contents(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Compare the contents of a checkpoint's files with its manifest.

    Raises:
        UserError: names the first damaged file.
    """
    for name, entry in entries.items():
        if digest(folder / name) != entry.sha256:
            raise damaged_content(folder / name)


def damaged_content(path: Path) -> UserError:
    """The error for a file whose bytes differ from those that were written."""
    return UserError("damaged checkpoint: content differs from its manifest", path)


def check_tensors(
    model: Mapping[str, TensorPlan],
    optimizer: Mapping[str, TensorPlan],
    expected: Mapping[str, tuple[int, ...]] | None,
    folder: Path,
) -> None:
    """Check that a checkpoint has all tensors once its shards are merged.

    Args:
        expected: names and shapes of the trained parameters; None if the state does not describe the network.

    Raises:
        UserError: names the missing tensors.
    """
    shapes = expected if expected is not None else {name: plan.shape for name, plan in model.items()}
    missing = [name for name in shapes if name not in model]
    wrong = [
        f"{name} {list(model[name].shape)} instead of {list(shape)}"
        for name, shape in shapes.items()
        if name in model and model[name].shape != tuple(shape)
    ]
    if expected is not None:
        states = [f"{moment}{name}" for name in shapes for moment in MOMENTS]
        missing += [name for name in states if name not in optimizer]
    if missing or wrong:
        more = f" … {len(missing) - 5} more" if len(missing) > 5 else ""
        lacks = f"lacks {', '.join(missing[:5])}{more}" if missing else f"holds {', '.join(wrong[:5])}"
        raise UserError(f"damaged checkpoint: {lacks}", folder)


def _entry(name: str, described: Any, file: Path) -> Entry:
    if not PLAIN_NAME.fullmatch(name):
        raise UserError(f"files: {name[:60]!r} is not the name of a file in this folder", file)
    if not isinstance(described, dict):
        raise UserError(f"files.{name}: expected an object, found {json_kind(described)}", file)
    nbytes, sha256 = described.get("bytes"), described.get("sha256")
    if not isinstance(nbytes, int) or isinstance(nbytes, bool) or not 0 <= nbytes < LARGEST:
        raise UserError(f"files.{name}.bytes: expected a number of bytes, found {str(nbytes)[:30]}", file)
    if not isinstance(sha256, str) or not DIGEST.fullmatch(sha256):
        raise UserError(f"files.{name}.sha256: expected 64 hexadecimal digits, found {str(sha256)[:70]!r}", file)
    return Entry(nbytes, sha256)
