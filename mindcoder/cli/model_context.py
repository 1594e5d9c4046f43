"""Length flags of the original scripts, checked against the model's context."""

from __future__ import annotations

from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.errors import UserError


def context_of(weights: Weights) -> int | None:
    """Maximum length of prompt and answer together; None if rotary positions set no limit."""
    limit = weights.config.longest_text
    return limit if limit is None or weights.prefix is None else limit - weights.prefix.options.tokens


def fit_length(flag: str, typed: int | None, default: int, limit: int | None, otherwise: str = "") -> int:
    """The length to use: the flag's value or its default, reduced to the model's context with a log line.

    Args:
        flag: name, for the messages.
        typed: value given by the user; None if not given.
        limit: maximum number of tokens; None for no limit.
        otherwise: what else needs room, for the messages, such as ``" beside --max_output_length 20"``.

    Raises:
        UserError: the given length exceeds the limit, or the limit leaves no room at all.
    """
    length = default if typed is None else typed
    if limit is None or length <= limit:
        return length
    if typed is not None or limit < 1:
        raise UserError(f"{flag}: the model has room for {max(limit, 0)} tokens{otherwise}, found {length}")
    print(f"{flag} is {limit} instead of {default}: the model has room for no more{otherwise}")
    return limit
