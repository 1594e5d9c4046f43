"""A shared library, looked at before it is loaded: the loader maps a truncated one and ends in a bus error."""

from __future__ import annotations

import struct
from pathlib import Path

MAGIC, SIXTY_FOUR_BITS = b"\x7fELF", 2
HEADER = struct.Struct("<40xQ10xHHH")  # of elf.h's Elf64_Ehdr: e_shoff; e_shentsize, e_shnum, e_shstrndx


def what_is_wrong(library: Path) -> str | None:
    """Why a file is not a whole shared library (ELF, 64 bits, little-endian), in a few words; None if it is one.

    Its table of sections is the last thing that the linker writes.
    """
    try:
        size = library.stat().st_size
        with open(library, "rb") as stream:
            header = stream.read(HEADER.size)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not size:
        return "is empty"
    if not header.startswith(MAGIC):
        return "is not a shared library (ELF)"
    if len(header) == HEADER.size and header[4] == SIXTY_FOUR_BITS:
        at, entry, count, _ = HEADER.unpack(header)
        if size >= at + entry * count:
            return None
    return f"is truncated ({size} bytes)"
