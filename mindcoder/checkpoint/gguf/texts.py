"""Tokenizer and text format of a GGUF file without opening its weights."""

from __future__ import annotations

from pathlib import Path

from mindcoder.checkpoint.gguf.header import read_header
from mindcoder.checkpoint.gguf.location import gguf_files
from mindcoder.checkpoint.gguf.text_input import text_files, text_format
from mindcoder.data.text_format import UNKNOWN, TextFormat


def gguf_text_files(location: Path) -> dict[str, Path]:
    """Tokenizer and settings of the only GGUF file at a location, by file name; nothing if there is none.

    Raises:
        UserError: it is damaged.
    """
    files = gguf_files(location)
    return text_files(read_header(files[0]).metadata, files[0]) if len(files) == 1 else {}


def gguf_text_format(location: Path) -> TextFormat:
    """What the only GGUF file at a location records of the texts that its model was trained with.

    Raises:
        UserError: it is damaged.
    """
    files = gguf_files(location)
    return text_format(read_header(files[0]).metadata, files[0]) if len(files) == 1 else UNKNOWN
