"""Finds the prompt template and tokenizer that weights were trained with, without opening the weights."""

from __future__ import annotations

from pathlib import Path

from mindcoder.checkpoint.gguf.texts import gguf_text_format
from mindcoder.checkpoint.manifest import STATE_FILE, read_state
from mindcoder.checkpoint.store import list_steps
from mindcoder.data.text_format import STATE_KEY, TextFormat, read_text_format, text_format_of


def trained_format(location: str | Path) -> TextFormat:
    """Text format of a run, a checkpoint, a folder of weights or a GGUF file; empty if not recorded.

    Raises:
        UserError: the file that records it is corrupt.
    """
    path = Path(location)
    if path.is_file():
        found = gguf_text_format(path)
        if found:
            return found
        path = path.parent
    steps = list_steps(path) or list_steps(path / "checkpoint")
    for folder in (path, *reversed(steps)):
        if (folder / STATE_FILE).is_file():
            found = text_format_of(read_state(folder).get(STATE_KEY) or {}, folder / STATE_FILE)
            if found:
                return found
    for folder in (path, path / "tokenizer", path.parent / "tokenizer", path.parent.parent / "tokenizer"):
        found = read_text_format(folder)
        if found:
            return found
    return gguf_text_format(path)
