"""launch: one process a device, from a rank table."""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import sys
from pathlib import Path

from mindcoder.backend.device import ascend_present
from mindcoder.cli.arguments import Parser, add_run_flags, config_flags, positive
from mindcoder.config.layout import check_layout
from mindcoder.config.load import load_config
from mindcoder.errors import UserError
from mindcoder.parallel.launch import RESTART_VARIABLE, Job, LaunchOptions
from mindcoder.parallel.rank_table import RankTable, Server, parse_range, read_rank_table

DEFAULT_PORT = 8118


def add_launch_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of launch; ``scripts/run_singlenode.sh`` fills them from the seeds' four arguments."""
    parser.add_argument("--rank_table", required=True, metavar="FILE", help="made by tools/hccl_tools.py")
    parser.add_argument("--device_range", metavar="RANGE", help="ranks of this server: [0,8] and [0,8) are 0 to 7")
    parser.add_argument("--world_size", type=positive, metavar="N", help="processes of the whole job; checked")
    parser.add_argument("--command", required=True, metavar="TEXT", help="what every process runs")
    parser.add_argument("--log_dir", default="output/log", metavar="DIR", help="gets rank_N.log")
    parser.add_argument(
        "--port", type=positive, metavar="N", help=f"of the scheduler; default: free, or {DEFAULT_PORT}"
    )
    parser.add_argument("--max_restarts", type=int, default=0, metavar="N", help="resume so often after a failure")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def launch_verb(arguments: argparse.Namespace) -> int:
    """Check everything, start, watch; gives the exit code of the first rank that failed."""
    table_file = Path(arguments.rank_table)
    table = read_rank_table(table_file)
    if arguments.world_size is not None and arguments.world_size != table.world_size:
        raise UserError(f"holds {table.world_size} ranks, the command line says {arguments.world_size}", table_file)
    server = _this_server(table, arguments.device_range, table_file)
    command = shlex.split(arguments.command)
    if not command:
        raise UserError("the command is empty", "--command")
    _check_run(command, table.world_size)
    on_ascend = ascend_present()
    host = _scheduler_host(table)
    options = LaunchOptions(
        command,
        table,
        server,
        table_file,
        Path(arguments.log_dir),
        host,
        _scheduler_port(arguments.port, table, server, host),
        use_scheduler=not on_ascend,
        shown_rank=min(device.rank_id for device in server.devices),
    )
    for attempt in range(arguments.max_restarts + 1):
        job = Job(options)
        code = job.run()
        if code == 0 or job.interrupted is not None or attempt == arguments.max_restarts:
            return code
        print(f"mindcoder: restart {attempt + 1} of {arguments.max_restarts}", file=sys.stderr)
        os.environ[RESTART_VARIABLE] = "1"
    return code


def _this_server(table: RankTable, device_range: str | None, file: Path) -> Server:
    """The server whose ranks ``device_range`` names, with those devices only."""
    if device_range is None:
        if len(table.servers) > 1:
            raise UserError("lists several servers: say which ranks run here with --device_range", file)
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
            return Server(server.server_id, devices)
    raise UserError(f"no server has the ranks {device_range}", file)


def _check_run(command: list[str], world: int) -> None:
    """Where the command is one of our runs, check its configuration against the table before anything starts.

    Raises:
        UserError: the file is wrong, or its mesh is not the table's.
    """
    if "--config" not in command:
        return
    parser = Parser(prog="launch")
    add_run_flags(parser)
    known, _ = parser.parse_known_args(command[command.index("--config") :])
    config, source = load_config(known.config, known.set, config_flags(known, "finetune"))
    if config.use_parallel:
        check_layout(config, source, world)
    elif world > 1:
        place, line = source.place(("use_parallel",))
        raise UserError(f"use_parallel is False: all {world} processes would do the same work", place, line)


def _scheduler_host(table: RankTable) -> str:
    """The first server's address; this machine's own where there is no other."""
    return "127.0.0.1" if len(table.servers) == 1 else table.servers[0].server_id


def _scheduler_port(port: int | None, table: RankTable, server: Server, host: str) -> int:
    """The port asked for if nobody listens there; a free one where no other server has to know it."""
    starts_it = any(device.rank_id == 0 for device in server.devices)
    if port is None and len(table.servers) == 1:
        with socket.socket() as probe:
            probe.bind((host, 0))
            return probe.getsockname()[1]
    chosen = port or DEFAULT_PORT
    if starts_it:
        with socket.socket() as probe:
            try:
                probe.bind((host, chosen))
            except OSError as error:
                raise UserError(f"cannot listen on {host}:{chosen}: {error.strerror}", "--port") from None
    return chosen
