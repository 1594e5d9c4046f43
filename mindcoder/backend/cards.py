"""Which Ascend cards this machine offers to a process."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

VISIBLE_CARDS = "ASCEND_RT_VISIBLE_DEVICES"  # logical ids, ascending, with commas and nothing else between them


def device_nodes(root: Path = Path("/")) -> list[int]:
    """Numbers N of the nodes ``/dev/davinciN``, ascending; a container may have those of any cards.

    Args:
        root: stands for ``/``.
    """
    try:
        names = os.listdir(root / "dev")
    except OSError:
        return []
    return sorted(int(name[7:]) for name in names if re.fullmatch(r"davinci[0-9]{1,4}", name))


def visible_cards(environment: Mapping[str, str], root: Path = Path("/")) -> list[int]:
    """Logical ids of the cards that a process may use.

    CANN counts the cards of a machine or container from 0, whatever their nodes are called, and reads
    ASCEND_RT_VISIBLE_DEVICES up to the first entry that is not such an id (hiascend.com, CANN 9.0.0, environment
    variables, ASCEND_RT_VISIBLE_DEVICES).
    """
    count = len(device_nodes(root))
    text = environment.get(VISIBLE_CARDS)
    if text is None:
        return list(range(count))
    chosen: list[int] = []
    for part in text.split(","):
        if not re.fullmatch(r"[0-9]{1,4}", part) or int(part) >= count:
            break
        chosen.append(int(part))
    return chosen
