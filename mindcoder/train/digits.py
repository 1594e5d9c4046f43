"""Numbers for people: as many decimals as usual, and digits that mean something where those would be zeros."""

from __future__ import annotations

import math

FEWEST = 3  # digits of a number that is not 0


def decimals(value: float, places: int) -> str:
    """``value`` with ``places`` decimals; a smaller one with `FEWEST` significant digits instead of 0.0000.

    >>> decimals(2.5, 4), decimals(0.0000123, 4), decimals(0.0, 4)
    ('2.5000', '1.23e-05', '0.0000')
    """
    if value == 0 or not math.isfinite(value) or abs(value) >= 10.0 ** (FEWEST - 1 - places):
        return f"{value:.{places}f}"
    return f"{value:.{FEWEST}g}"
