"""Sizes as people write and read them."""

from __future__ import annotations

import re

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def parse_bytes(text: str) -> int:
    """Parse ``5GB``, ``500MB``, or a number of bytes with at least five digits: ``64`` is a forgotten unit.

    Raises:
        ValueError: it is not a size.
    """
    match = re.fullmatch(r"(\d+)\s*([KMG]?)(B?)", text.upper())
    if match is None or int(match[1]) == 0 or not (match[2] or match[3] or len(match[1]) > 4):
        raise ValueError(f"expected a size such as 5GB or 500MB, found {text!r}")
    return int(match[1]) * UNITS[match[2]]


def quantity(number: float, prefixes: str = "kMB") -> str:
    """Three significant digits with an SI prefix: ``15.5 B``, ``861 k``, ``0.5``.

    Args:
        prefixes: of 10^3, 10^6, 10^9 …; ``kMB`` for parameters, ``kMGT`` for bytes.
    """
    for power in range(len(prefixes), 0, -1):
        if number >= 0.9995 * 1000**power:
            return f"{_three_digits(number / 1000**power)} {prefixes[power - 1]}"
    return f"{_three_digits(number)} "


def _three_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 99.95 or number == int(number) else f"{number:.3g}"
