"""Tokens with which a family's models were trained to fill gaps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InfillTokens:
    """Fill-in-the-middle tokens in prefix-suffix-middle order; ``stop`` ends the middle if it is not eos."""

    prefix: str
    suffix: str
    middle: str
    stop: str | None = None
