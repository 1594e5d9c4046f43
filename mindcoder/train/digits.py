"""Formats numbers: the usual number of decimals, but significant digits where those would be zeros."""

from __future__ import annotations

import math

FEWEST = 3  # significant digits of a nonzero number


def decimals(value: float, places: int) -> str:
    """``value`` with ``places`` decimals; smaller ones with `FEWEST` significant digits instead of 0.0000.

    >>> decimals(2.5, 4), decimals(0.0000123, 4), decimals(0.0, 4)
    ('2.5000', '1.23e-05', '0.0000')
    """
    if value == 0 or not math.isfinite(value) or abs(value) >= 10.0 ** (FEWEST - 1 - places):
        return f"{value:.{places}f}"
    return f"{value:.{FEWEST}g}"
