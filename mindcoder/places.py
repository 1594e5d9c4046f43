"""Whether there is anything where a path of weights points, and what to say where there is not."""

from __future__ import annotations

import re
from pathlib import Path

from mindcoder.errors import UserError

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

RUN_MARKS = ("run.lock", "run.json", "curves")  # in the output_dir of a run, from its start on


def place_of(location: str | Path, what: str = "checkpoint") -> Path:
    """The path, if something is there.

    Args:
        what: is looked for, for the message.

    Raises:
        UserError: nothing there, a link to nothing, or a name of the Hugging Face hub.
    """
    path = Path(location)
    try:
        if path.exists():
            return path
        if path.is_symlink():
            raise UserError(f"is a link to {path.readlink()}, which is not there", location)
    except OSError as error:
        raise UserError(f"cannot be opened: {error.strerror}", location) from None
    raise UserError(f"no such {what}{hub_hint(location)}", location)


def hub_hint(location: str | Path) -> str:
    """How to get the folder, for what may be a name of the Hugging Face hub; empty for other names."""
    name = str(location)
    if not HUB_NAME.fullmatch(name) or Path(name).parent.is_dir():
        return ""
    return (
        "; models of the Hugging Face hub are not downloaded by name: "
        f"hf download {name} --local-dir {Path(name).name} (or huggingface-cli download), then give that folder"
    )


def refuse_what_holds_no_weights(path: Path) -> None:
    """Say what a file or a folder is that somebody took for weights.

    Raises:
        UserError: a file of another kind, or a run that has no checkpoint yet.
    """
    if path.is_file() and not path.name.endswith((".safetensors", ".bin", ".pt", ".pth", ".index.json")):
        raise UserError("is not a file of weights: expected .safetensors, .bin, .pt, .pth or .ckpt, or a folder", path)
    if path.is_dir() and not (path / "config.json").exists() and any((path / name).exists() for name in RUN_MARKS):
        raise UserError(
            "is a run without a checkpoint: the first one comes after save_checkpoint_steps updates, or at its end",
            path,
        )
