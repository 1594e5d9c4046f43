"""launch: one process per device."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mindcoder.backend.device import ascend_present, check_device, choose_device
from mindcoder.cli.arguments import add_run_flags, config_flags, not_negative, port_number, positive
from mindcoder.cli.launch_table import add_table_flags, choose_table, this_server
from mindcoder.cli.parser import Parser
from mindcoder.config.layout import check_layout, layout_of
from mindcoder.config.load import load_config
from mindcoder.config.schema import RunConfig
from mindcoder.config.source import YamlSource
from mindcoder.errors import UserError
from mindcoder.files import write_text
from mindcoder.launch.elastic import healthy_table, with_fewer_replicas
from mindcoder.launch.launcher import Job
from mindcoder.launch.logs import hold_log_folder, keep_failed_logs, say
from mindcoder.launch.options import RESTART_VARIABLE, LaunchOptions
from mindcoder.launch.rank_table import RankTable, Server, check_device_addresses

DEFAULT_PORT, LAST_PORT = 8118, 65535


def add_launch_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of launch; ``scripts/run_singlenode.sh`` sets them from the original script's four arguments."""
    add_table_flags(parser)
    parser.add_argument("--command", required=True, metavar="TEXT", help="command that every process runs")
    parser.add_argument("--log_dir", default="output/log", metavar="DIR", help="folder for rank_N.log")
    parser.add_argument(
        "--port",
        type=port_number,
        metavar="N",
        help=f"of the scheduler; launchers of several servers meet on the next one; default: free, or {DEFAULT_PORT}",
    )
    parser.add_argument(
        "--max_restarts", type=not_negative, default=0, metavar="N", help="how often to resume after a failure"
    )
    parser.add_argument(
        "--fewer_replicas",
        action="store_true",
        help="restart without the failed device: fewer data-parallel replicas, the same global batch",
    )
    parser.add_argument(
        "--grace_seconds", type=positive, default=60, metavar="N", help="time to save and exit after Ctrl-C or SIGTERM"
    )
    parser.add_argument(
        "--early_exit_seconds",
        type=not_negative,
        default=60,
        metavar="N",
        help="how long other ranks may keep running after one has exited with code 0; 0: no limit",
    )
    parser.add_argument(
        "--join_seconds",
        type=not_negative,
        default=300,
        metavar="N",
        help="how long to wait for the launchers of other servers; 0: do not speak to them",
    )
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def launch_verb(arguments: argparse.Namespace) -> int:
    """Check everything, start the ranks and watch them; returns the exit code of the first rank that failed."""
    try:
        command = shlex.split(arguments.command)
    except ValueError as error:
        raise UserError(f"{str(error).lower()} in {arguments.command!r}", "--command") from None
    if not command:
        raise UserError("the command is empty", "--command")
    found = _configuration(command)
    on_ascend = _computes_on_ascend(found)
    table, table_file = choose_table(arguments, on_ascend)
    server = this_server(table, arguments.device_range, table_file)
    if found is not None:
        _check_run(*found, table.world_size)
    if on_ascend and table_file is not None:
        check_device_addresses(table, table_file)
    host = _scheduler_host(table)
    options = LaunchOptions(
        command,
        table,
        server,
        table_file,
        Path(arguments.log_dir),
        host,
        _scheduler_port(arguments.port, table, server, host),
        on_ascend=on_ascend,
        grace_seconds=arguments.grace_seconds,
        early_exit_seconds=arguments.early_exit_seconds,
        join_seconds=arguments.join_seconds,
        shown_rank=min(device.rank_id for device in server.devices),
    )
    ranks = table.ranks(server)
    with hold_log_folder(options.log_dir, ranks):
        for attempt in range(arguments.max_restarts + 1):
            job = Job(replace(options, attempt=attempt))
            code = job.run()
            if code == 0 or job.interrupted is not None or attempt == arguments.max_restarts:
                return code
            say(f"restart {attempt + 1} of {arguments.max_restarts}; {_keep_logs(options.log_dir, ranks)}")
            os.environ[RESTART_VARIABLE] = "1"
            if arguments.fewer_replicas and job.failed_rank is not None and job.failed_rank >= 0:
                options = _with_fewer_replicas(options, job.failed_rank)
    return code


def _keep_logs(folder: Path, ranks: Sequence[int]) -> str:
    """Move the logs of a failed attempt aside; returns where they are."""
    try:
        return f"the logs of the failed attempt are in {keep_failed_logs(folder, ranks)}"
    except OSError as error:
        return f"the logs of the failed attempt cannot be kept: {error.strerror}"


def _with_fewer_replicas(options: LaunchOptions, failed_rank: int) -> LaunchOptions:
    """The same job on the remaining devices; unchanged if it cannot shrink."""
    found = _configuration(options.command)
    if found is None:
        return options
    config = found[0]
    layout = layout_of(config)
    smaller = with_fewer_replicas(layout, config.runner_config.batch_size)
    if smaller is None:
        say("there is one replica only; all devices are used again")
        return options
    fewer, batch_size = smaller
    try:
        table = healthy_table(options.table, failed_rank, fewer.devices)
    except ValueError as error:
        say(f"{error}; all devices are used again")
        return options
    file = None
    if options.table_file is not None:
        file = options.log_dir / f"rank_table_{table.world_size}p.json"
        write_text(file, json.dumps(table.as_dict(), indent=2) + "\n")
    sets = {"parallel_config.data_parallel": fewer.data, "runner_config.batch_size": batch_size}
    say(
        f"{fewer.data} instead of {layout.data} data-parallel replicas of {batch_size} sequences each, "
        f"without the device of rank {failed_rank}"
    )
    command = [*options.command, *(part for key, value in sets.items() for part in ("--set", f"{key}={value}"))]
    return replace(options, command=command, table=table, table_file=file, server=table.servers[0])


def _configuration(command: Sequence[str]) -> tuple[RunConfig, YamlSource] | None:
    """The configuration from the command's ``--config`` and flags; None if it is not a run of ours.

    Raises:
        UserError: the file is invalid.
    """
    if "--config" not in command:
        return None
    parser = Parser(prog="launch")
    add_run_flags(parser)
    known, _ = parser.parse_known_args(list(command[command.index("--config") :]))
    return load_config(known.config, known.set, config_flags(known, "finetune"))


def _computes_on_ascend(found: tuple[RunConfig, YamlSource] | None) -> bool:
    """Whether the ranks run on Ascend: as configured in a run of ours, else if there is an Ascend device.

    Raises:
        UserError: Ascend is requested but missing.
    """
    if found is None:
        return ascend_present()
    config, source = found
    check_device(config.context.device_target, *source.location(("context", "device_target")))
    return choose_device(config.context.device_target) == "Ascend"


def _check_run(config: RunConfig, source: YamlSource, world: int) -> None:
    """Check the configuration of a run of ours against the number of processes before anything starts.

    Raises:
        UserError: the device mesh does not match.
    """
    if config.use_parallel:
        check_layout(config, source, world)
    elif world > 1:
        file, line = source.location(("use_parallel",))
        raise UserError(f"use_parallel is False: all {world} processes would do the same work", file, line)


def _scheduler_host(table: RankTable) -> str:
    """Address of the first server; this machine's own if there is no other."""
    return "127.0.0.1" if len(table.servers) == 1 else table.servers[0].address


def _scheduler_port(port: int | None, table: RankTable, server: Server, host: str) -> int:
    """The requested port if it is free; otherwise any free one, if no other server has to know it."""
    starts_it = any(device.rank_id == 0 for device in server.devices)
    if port is None and len(table.servers) == 1:
        with socket.socket() as probe:
            probe.bind((host, 0))
            return probe.getsockname()[1]
    chosen = port or DEFAULT_PORT
    if len(table.servers) > 1 and chosen == LAST_PORT:
        raise UserError(f"{chosen} leaves no port after it for the launchers of several servers", "--port")
    if starts_it:
        with socket.socket() as probe:
            try:
                probe.bind((host, chosen))
            except OSError as error:
                raise UserError(f"cannot listen on {host}:{chosen}: {error.strerror}", "--port") from None
    return chosen
