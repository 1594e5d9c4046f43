"""Output files of a verb: refuses before the work what must not be replaced."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mindcoder.errors import UserError
from mindcoder.files import output_target

PAGES = (".html", ".htm")


def refuse_as_output(written: Sequence[Path], inputs: Iterable[str | Path | None]) -> None:
    """Refuse outputs that would replace an input, or something that is not a regular file.

    Args:
        written: all files that the verb writes.
        inputs: files that it reads; None and missing files (a prompt instead of its file) are ignored.

    Raises:
        UserError: one would.
    """
    present = [file for file in written if output_target(file).exists()]
    read = [Path(item) for item in inputs if item is not None and os.path.exists(item)]
    for file in present:
        if any(file.samefile(item) for item in read):
            raise UserError("is one of the files to read; it would be overwritten", file)
        folder = next((item for item in read if item.is_dir() and item.resolve() in file.resolve().parents), None)
        if folder is not None:
            raise UserError(f"is a file of {folder}, which is read; it would be overwritten", file)


def file_name(text: str) -> Path:
    """Path of an output file from the command line.

    Raises:
        UserError: it ends in a slash, which names a folder (a `Path` drops the slash).
    """
    if text.endswith(os.sep):
        raise UserError("a file is written here: expected a name that does not end in /", text)
    return Path(text)


def refuse_present(written: Sequence[Path], overwrite: bool) -> None:
    """Refuse to replace existing files without permission.

    MindSpore's FileWriter, and so the original ``wizardcoder_preprocess.py``, refuses it as well.

    Raises:
        UserError: a file exists.
    """
    present = next((file for file in written if file.exists()), None)
    if present is not None and not overwrite:
        raise UserError("exists; add --overwrite to replace it", present)


def refuse_as_page(file: Path, inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuse to write an HTML page over another kind of file; a link is judged by its target.

    Raises:
        UserError: the name does not end in .html, or as `refuse_as_output`.
    """
    if output_target(file).suffix.lower() not in PAGES:
        raise UserError("a page is written: expected a name that ends in .html", file)
    refuse_as_output([file], inputs)
