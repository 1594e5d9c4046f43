"""Files that a verb is asked to write: what must not be replaced is refused before the work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mindcoder.errors import UserError
from mindcoder.files import output_place

PAGES = (".html", ".htm")


def refuse_as_output(written: Sequence[Path], inputs: Iterable[str | Path | None]) -> None:
    """Refuse outputs that would take the place of an input, or of something that is no regular file.

    Args:
        written: all files that the verb writes.
        inputs: what it reads; None and what is not there (a prompt instead of its file) count for nothing.

    Raises:
        UserError: one would.
    """
    present = [file for file in written if output_place(file).exists()]
    read = [Path(item) for item in inputs if item is not None and os.path.exists(item)]
    for file in present:
        if any(file.samefile(item) for item in read):
            raise UserError("is one of the files to read; it would be overwritten", file)
        folder = next((item for item in read if item.is_dir() and item.resolve() in file.resolve().parents), None)
        if folder is not None:
            raise UserError(f"is a file of {folder}, which is read; it would be overwritten", file)


def file_name(text: str) -> Path:
    """The path of a file that is written, from the command line.

    Raises:
        UserError: it ends in a slash, which names a folder (a `Path` forgets the slash).
    """
    if text.endswith(os.sep):
        raise UserError("a file is written here: expected a name that does not end in /", text)
    return Path(text)


def refuse_present(written: Sequence[Path], overwrite: bool) -> None:
    """Refuse to replace what is there, unless asked to.

    MindSpore's FileWriter, and so the original ``wizardcoder_preprocess.py``, refuses it as well.

    Raises:
        UserError: something is there.
    """
    present = next((file for file in written if file.exists()), None)
    if present is not None and not overwrite:
        raise UserError("exists; add --overwrite to replace it", present)


def refuse_as_page(file: Path, inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuse to write an HTML page where another kind of file may be; a link is judged by what it points to.

    Raises:
        UserError: the name does not end in .html, or as `refuse_as_output`.
    """
    if output_place(file).suffix.lower() not in PAGES:
        raise UserError("a page is written: expected a name that ends in .html", file)
    refuse_as_output([file], inputs)
