"""Checks that a path of weights exists, and explains what is missing."""

from __future__ import annotations

import re
from pathlib import Path

from mindcoder.errors import UserError

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

EXPORTED = "mindir.json"  # marks a folder that ``export`` has written
RUN_MARKS = ("run.lock", "run.json", "curves")  # in the output_dir of a run from its start


def path_of(location: str | Path, what: str = "checkpoint") -> Path:
    """The path, if it exists.

    Args:
        what: is being looked for, for the message.

    Raises:
        UserError: it does not exist, is a dangling link, or a name on the Hugging Face hub.
    """
    path = Path(location)
    try:
        if path.exists():
            return path
        if path.is_symlink():
            raise UserError(f"is a link to {path.readlink()}, which does not exist", location)
    except OSError as error:
        raise UserError(f"cannot be opened: {error.strerror}", location) from None
    raise UserError(f"no such {what}{hub_hint(location)}", location)


def is_exported(path: Path) -> bool:
    """Whether ``export`` has written a folder."""
    return (path / EXPORTED).is_file()


def hub_hint(location: str | Path) -> str:
    """How to download what may be a name on the Hugging Face hub; empty for other names."""
    name = str(location)
    if not HUB_NAME.fullmatch(name) or Path(name).parent.is_dir():
        return ""
    return (
        "; models of the Hugging Face hub are not downloaded by name: "
        f"hf download {name} --local-dir {Path(name).name} (or huggingface-cli download), then give that folder"
    )


def refuse_what_holds_no_weights(path: Path) -> None:
    """Explain what a file or a folder is if it is not weights.

    Raises:
        UserError: a file of another kind, an exported model, or a run that has no checkpoint yet.
    """
    if path.is_file() and not path.name.endswith((".safetensors", ".bin", ".pt", ".pth", ".index.json")):
        raise UserError(
            "is not a file of weights: expected .safetensors, .bin, .pt, .pth, .ckpt or .gguf, or a folder", path
        )
    if is_exported(path):
        raise UserError(
            "is an exported model, whose graphs only answer: name the model that it was exported from", path
        )
    if path.is_dir() and not (path / "config.json").exists() and any((path / name).exists() for name in RUN_MARKS):
        raise UserError(
            "is a run without a checkpoint: the first one comes after save_checkpoint_steps updates, or at its end",
            path,
        )
