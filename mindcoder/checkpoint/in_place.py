"""Safetensors beside the ``.bin`` files of a Hugging Face folder, as ATB-Models' convert_weights.py leaves them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.errors import UserError


def add_safetensors(folder: Path) -> list[Path]:
    """Write the weights of ``folder`` once more, as safetensors; its other files stay as they are.

    Returns:
        The files that are new: shards first, their index last.

    Raises:
        UserError: no ``.bin`` weights there, or safetensors already.
    """
    there = sorted(folder.glob("*.safetensors"))
    if there:
        raise UserError("is there already: the folder needs no conversion", there[0])
    if not any(folder.glob("*.bin")):
        raise UserError("holds no .bin weights", folder)
    with tempfile.TemporaryDirectory(prefix=".safetensors-", dir=folder) as beside:
        target = Path(beside) / "converted"
        convert(ConvertRequest(str(folder), target, to="huggingface"))
        made = [*sorted(target.glob("*.safetensors")), *target.glob("*.safetensors.index.json")]
        return [file.rename(folder / file.name) for file in made]
