"""How many CPU threads are asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping

from mindcoder.errors import UserError, single_line

VARIABLE = "MINDCODER_THREADS"
FOR_EACH_CORE, SMALLEST_LIMIT = 4, 16


def largest_thread_count() -> int:
    """More threads than this only wait for one another; a thousand on two cores end no step in a minute."""
    return max(SMALLEST_LIMIT, FOR_EACH_CORE * (os.cpu_count() or 1))


def check_thread_count(name: str, value: object) -> None:
    """Refuse what is not a number of threads.

    Args:
        name: of the argument or variable, for the message.
        value: a number.

    Raises:
        UserError: no whole number, or out of bounds.
    """
    limit = largest_thread_count()
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
        found = single_line(repr(value), 60)
        raise UserError(f"{name}: expected a whole number of threads from 1 to {limit}, found {found}")


def check_thread_variable(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a MINDCODER_THREADS that the C++ operators would read as another number, or not survive.

    Raises:
        UserError: it is set, and not to a number of threads.
    """
    text = environment.get(VARIABLE)
    if text:
        digits = text.strip()
        is_number = digits.isascii() and digits.isdecimal() and len(digits) < 10
        check_thread_count(VARIABLE, int(digits) if is_number else text)
