"""Writes safetensors beside the ``.bin`` files of a Hugging Face folder, as ATB-Models' convert_weights.py does."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.errors import UserError


def add_safetensors(folder: Path) -> list[Path]:
    """Write the weights of ``folder`` again as safetensors; its other files are unchanged.

    Returns:
        The new files: shards first, their index last.

    Raises:
        UserError: there are no ``.bin`` weights, or safetensors already exist.
    """
    there = sorted(folder.glob("*.safetensors"))
    if there:
        raise UserError("already exists: the folder needs no conversion", there[0])
    if not any(folder.glob("*.bin")):
        raise UserError("holds no .bin weights", folder)
    with tempfile.TemporaryDirectory(prefix=".safetensors-", dir=folder) as staging:
        target = Path(staging) / "converted"
        convert(ConvertRequest(str(folder), target, to="huggingface"))
        made = [*sorted(target.glob("*.safetensors")), *target.glob("*.safetensors.index.json")]
        return [file.rename(folder / file.name) for file in made]
