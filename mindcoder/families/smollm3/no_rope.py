"""Which layers of SmolLM3 have no rotary positions."""

from __future__ import annotations

from collections.abc import Sequence


def skipped_layers(flags: Sequence[int] | None, interval: int, layers: int) -> tuple[int, ...]:
    """Indices of the layers without rotary positions, ascending.

    Args:
        flags: 0 for each of them, 1 for the others; None: the last of every ``interval`` layers.

    Raises:
        ValueError: there is not one 0 or 1 for each layer.
    """
    if flags is None:
        return tuple(range(interval - 1, layers, interval))
    if len(flags) != layers or any(type(flag) is not int or flag not in (0, 1) for flag in flags):
        raise ValueError(f"no_rope_layers: expected 0 or 1 for each of {layers} layers, found {str(flags):.60}")
    return tuple(layer for layer, flag in enumerate(flags) if flag == 0)
