"""The processes of ``mindcoder launch``: from a rank table, or one per card of this machine."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mindcoder.backend.cards import visible_cards
from mindcoder.cli.arguments import positive
from mindcoder.errors import UserError
from mindcoder.files import write_text
from mindcoder.launch.logs import say
from mindcoder.launch.options import TABLE_VARIABLE
from mindcoder.launch.rank_table import (
    MOST_DEVICES,
    RankTable,
    Server,
    choose_devices,
    find_table,
    make_table,
    parse_range,
    read_rank_table,
)

OWN_HOST = "127.0.0.1"


def add_table_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select the processes."""
    parser.add_argument(
        "--rank_table",
        metavar="FILE",
        help=f"made by tools/hccl_tools.py; default: {TABLE_VARIABLE}, and without it processes of this machine only",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--device_range", metavar="RANGE", help="ranks of this server: [0,8] and [0,8) are 0 to 7")
    which.add_argument(
        "--devices",
        metavar="RANGE",
        help="cards of the only server, ranks counted from 0: [4,8] is cards 4 to 7; default: all",
    )
    parser.add_argument(
        "--world_size",
        type=positive,
        metavar="N",
        help="processes of the whole job; checked against a rank table; default without one: one per card",
    )


def choose_table(
    arguments: argparse.Namespace, on_ascend: bool, environment: Mapping[str, str] = os.environ, root: Path = Path("/")
) -> tuple[RankTable, Path | None]:
    """All processes of the job, and the rank table file; no file if they are this machine's cards.

    Args:
        on_ascend: whether the processes run on Ascend; on CPU there may be any number of them.
        root: replaces ``/``.

    Raises:
        UserError: an unreadable table, missing cards, or an unknown number of processes.
    """
    given = arguments.rank_table
    if given is None and environment.get(TABLE_VARIABLE):
        given = environment[TABLE_VARIABLE]
        say(f"rank table: {given} ({TABLE_VARIABLE})")
    if given is None:
        return _table_of_this_machine(arguments, on_ascend, environment, root), None
    file = find_table(given)
    table = read_rank_table(file)
    if arguments.devices is not None:
        table, file = _on_devices(table, arguments.devices, file, Path(arguments.log_dir))
    if arguments.world_size is not None and arguments.world_size != table.world_size:
        raise UserError(f"holds {table.world_size} ranks, the command line says {arguments.world_size}", file)
    return table, file


def _table_of_this_machine(
    arguments: argparse.Namespace, on_ascend: bool, environment: Mapping[str, str], root: Path
) -> RankTable:
    """One process per card, or as many as requested."""
    if arguments.device_range is not None:
        raise UserError("needs a --rank_table, whose ranks it selects; --devices selects cards", "--device_range")
    wanted, cards = arguments.world_size, visible_cards(environment, root) if on_ascend else []
    asked = range(wanted or 0) if arguments.devices is None else parse_range(arguments.devices)
    if len(asked) > MOST_DEVICES:
        flag = "--world_size" if arguments.devices is None else "--devices"
        raise UserError(f"found {len(asked)} processes, at most {MOST_DEVICES} are expected on one machine", flag)
    if arguments.devices is not None:
        chosen = list(asked)
        if wanted not in (None, len(chosen)):
            raise UserError(f"holds {len(chosen)} cards, --world_size says {wanted}", "--devices")
    elif wanted is not None:
        chosen = cards[:wanted] if len(cards) >= wanted else list(range(wanted))
    elif cards:
        chosen = cards
    else:
        raise UserError("unknown number of processes: give --world_size N or a --rank_table", "launch")
    missing = [card for card in chosen if card not in cards] if cards else []
    if missing:
        raise UserError(
            f"found {_listed(chosen)}, and this machine has the cards {_listed(cards)}",
            "--devices" if arguments.devices is not None else "--world_size",
        )
    what = f"cards {_listed(chosen)}" if on_ascend else f"{len(chosen)} processes on this machine"
    say(f"no rank table: {what}, coordinated by MindSpore's scheduler")
    return make_table(OWN_HOST, chosen, [""] * len(chosen))


def _listed(numbers: list[int]) -> str:
    """Format as ``0 to 7``, or individually if there is a gap."""
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def _on_devices(table: RankTable, devices: str, file: Path, log_dir: Path) -> tuple[RankTable, Path]:
    """The table restricted to the cards ``devices``, and its file: ``file`` itself if it lists no others."""
    try:
        chosen = choose_devices(table, parse_range(devices))
    except ValueError as error:
        raise UserError(f"{error} ({devices})", file) from None
    if chosen == table:
        return table, file
    file = log_dir / f"rank_table_{chosen.world_size}p.json"
    log_dir.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(chosen.as_dict(), indent=2) + "\n")
    return chosen, file


def this_server(table: RankTable, device_range: str | None, file: Path | None) -> Server:
    """The server whose ranks ``device_range`` selects, with those devices only."""
    if device_range is None:
        if len(table.servers) > 1:
            raise UserError("lists several servers: select the ranks of this one with --device_range", file)
        return table.servers[0]
    ranks = parse_range(device_range)
    for server in table.servers:
        devices = tuple(device for device in server.devices if device.rank_id in ranks)
        if devices:
            missing = sorted(set(ranks) - {device.rank_id for device in devices})
            if missing:
                raise UserError(
                    f"server {server.server_id} has ranks {table.ranks(server)}, not {missing} of {device_range}", file
                )
            return replace(server, devices=devices)
    raise UserError(f"no server has the ranks {device_range}", file)
