"""Ports, and what the environment says to HCCL and to MindSpore's cluster. Nothing leaves this machine.

Ranges: hiascend.com, CANN 8.5.0 and 9.0.0, environment variables (HCCL_CONNECT_TIMEOUT, HCCL_EXEC_TIMEOUT,
HCCL_IF_BASE_PORT, ASCEND_RT_VISIBLE_DEVICES).
"""

from __future__ import annotations

import errno
import re
import socket
from ipaddress import ip_address

from mindcoder.backend.cards import VISIBLE_CARDS
from mindcoder.doctor.host import Host
from mindcoder.doctor.report import Row
from mindcoder.errors import UserError, single_line
from mindcoder.launch.options import HCCL_TIMEOUTS
from mindcoder.launch.rank_table import check_device_addresses, find_table, read_rank_table

PORTS = {8000: "mindcoder serve", 8118: "launch's scheduler", 8119: "launchers of several servers"}  # defaults
WHOLE_NUMBERS = {
    "HCCL_CONNECT_TIMEOUT": (120, 7200),  # seconds
    "HCCL_EXEC_TIMEOUT": (0, 2147483647),  # seconds; 0 never ends
    "HCCL_IF_BASE_PORT": (1024, 65520),
    "HCCL_BUFFSIZE": (1, 10**6),  # MB; the page has no largest
}
LEFT_OVER = ("MS_ROLE", "MS_SCHED_HOST", "MS_WORKER_NUM", "MS_SIMULATION_LEVEL", "RANK_ID", "RANK_SIZE", "DEVICE_ID")


def ports_row() -> Row:
    """Whether the default ports are free on this machine's loopback address."""
    taken = [f"{port} ({use})" for port, use in PORTS.items() if _is_taken(port)]
    if taken:
        return Row("ports", "note", f"in use: {', '.join(taken)}", "give --port")
    return Row("ports", "ok", f"free: {', '.join(f'{port} ({use})' for port, use in PORTS.items())}")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno in (errno.EADDRINUSE, errno.EACCES)
    return False


def hccl_row(host: Host) -> Row:
    """HCCL's variables and the visible cards, where they are set."""
    wrong, known = [], []
    for name, (low, high) in WHOLE_NUMBERS.items():
        text = host.environment.get(name)
        if text is None:
            continue
        if re.fullmatch(r"[0-9]{1,10}", text) and low <= int(text) <= high:
            known.append(f"{name}={text}")
        else:
            wrong.append(f"{name}={_shown(text)}, expected a whole number from {low} to {high}")
    address = host.environment.get("HCCL_IF_IP")
    if address is not None:
        try:
            known.append(f"HCCL_IF_IP={ip_address(address)}")
        except ValueError:
            wrong.append(f"HCCL_IF_IP={_shown(address)}, expected an IP address")
    cards = host.environment.get(VISIBLE_CARDS)
    if cards is not None:
        ids = [int(part) for part in cards.split(",") if re.fullmatch(r"[0-9]{1,4}", part)]
        if len(ids) != cards.count(",") + 1 or ids != sorted(set(ids)):
            wrong.append(f"{VISIBLE_CARDS}={_shown(cards)}, expected ascending numbers with commas, without spaces")
        else:
            known.append(f"{VISIBLE_CARDS}={cards}")
    if wrong:
        return Row("HCCL variables", "problem", "; ".join(wrong), "unset them: the launcher sets what is needed")
    if known:
        return Row("HCCL variables", "ok", ", ".join(known))
    return Row("HCCL variables", "ok", f"none set; launch waits {HCCL_TIMEOUTS['HCCL_CONNECT_TIMEOUT']} s for ranks")


def table_row(host: Host) -> Row:
    """RANK_TABLE_FILE, read as the launcher reads it."""
    given = host.environment.get("RANK_TABLE_FILE")
    if not given:
        return Row("rank table", "ok", "none: launch takes the cards of this machine")
    try:
        file = find_table(given)
        table = read_rank_table(file)
        check_device_addresses(table, file)
    except UserError as error:
        return Row("rank table", "problem", str(error), "mend RANK_TABLE_FILE, or unset it")
    except OSError as error:
        return Row("rank table", "problem", f"{given}: {error.strerror}", "mend RANK_TABLE_FILE, or unset it")
    servers = len(table.servers)
    found = f"{given}: {table.world_size} ranks on {servers} server{'s' if servers > 1 else ''}"
    return Row("rank table", "ok", found)


def cluster_row(host: Host) -> Row:
    """What a launcher sets for its ranks, and what makes a single run wait for others where a shell has it."""
    left = [f"{name}={_shown(host.environment[name])}" for name in LEFT_OVER if host.environment.get(name)]
    if left:
        return Row(
            "cluster variables", "note", f"set: {', '.join(left)}", "unset them: a single run may wait for others"
        )
    return Row("cluster variables", "ok", "none set")


def _shown(text: str) -> str:
    return repr(single_line(text, 40))
