"""Plain text: ``text`` (TRL, The Pile), ``content`` (The Stack, bigcode/starcoderdata), or a file."""

from __future__ import annotations

from collections.abc import Callable

from mindcoder.data.readers.fields import Fields
from mindcoder.data.readers.record import Document
from mindcoder.data.readers.single import Origin


def whole_text(name: str) -> Callable[[Fields, Origin], Document]:
    """Reader of a layout whose record is a single text in field ``name``."""

    def read(fields: Fields, origin: Origin) -> Document:
        return Document(*origin, fields.text(name))

    return read
