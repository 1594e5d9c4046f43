"""How long ranks wait for each other: long enough for what one rank does alone before the others hear of it.

A rank may hash checkpoints or tokenize a file for minutes before the first collective. The defaults are shorter than
that: 120 s for HCCL's connections (hiascend.com, HCCL_CONNECT_TIMEOUT, range 120 to 7200), 30 s for MCCL. A rank that
has failed is not waited for: the launcher ends the others at once.
"""

from __future__ import annotations

from collections.abc import Mapping

WAIT_SECONDS = "1800"
HCCL_TIMEOUTS = {"HCCL_CONNECT_TIMEOUT": WAIT_SECONDS, "HCCL_EXEC_TIMEOUT": "3600"}  # the second one's default: 1836
MCCL_TIMEOUTS = {"MS_NODE_TIMEOUT": WAIT_SECONDS, "MS_TOPO_TIMEOUT": WAIT_SECONDS}


def collective_timeouts(on_ascend: bool, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for a rank; what the user has set wins.

    Args:
        environment: the launcher's own.
    """
    wanted = MCCL_TIMEOUTS | (HCCL_TIMEOUTS if on_ascend else {})  # the scheduler's are those of MCCL
    return {name: environment.get(name) or seconds for name, seconds in wanted.items()}
