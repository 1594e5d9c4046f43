"""Options of a job, and the environment variables with which each of its processes starts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindcoder.backend.cards import VISIBLE_CARDS
from mindcoder.files import write_text
from mindcoder.launch.guardian import JOB_VARIABLE
from mindcoder.launch.rank_table import Device, RankTable, Server

TABLE_VARIABLE = "RANK_TABLE_FILE"
DONE_VARIABLE = "MINDCODER_DONE_FILE"
RESTART_VARIABLE = "MINDCODER_RESTART"  # set on a restart: the run resumes although its command does not say so

# How long ranks wait for each other. A rank may hash checkpoints or tokenize a file for minutes before the first
# collective, and the defaults are shorter: 120 s for HCCL's connections (hiascend.com, HCCL_CONNECT_TIMEOUT, range 120
# to 7200), 30 s for MCCL. Nobody waits for a rank that has failed: the launcher ends the others at once.
WAIT_SECONDS = "1800"
HCCL_TIMEOUTS = {"HCCL_CONNECT_TIMEOUT": WAIT_SECONDS, "HCCL_EXEC_TIMEOUT": "3600"}  # the second one's default: 1836
MCCL_TIMEOUTS = {"MS_NODE_TIMEOUT": WAIT_SECONDS, "MS_TOPO_TIMEOUT": WAIT_SECONDS}


def collective_timeouts(on_ascend: bool, environment: Mapping[str, str]) -> dict[str, str]:
    """Time-out variables of a rank, in seconds; values that the user has set take precedence.

    Args:
        environment: of the launcher.
    """
    wanted = MCCL_TIMEOUTS | (HCCL_TIMEOUTS if on_ascend else {})  # the scheduler's are those of MCCL
    return {name: environment.get(name) or seconds for name, seconds in wanted.items()}


@dataclass(frozen=True)
class LaunchOptions:
    """Options of a job, as one server's launcher has them.

    The ranks always meet at MindSpore's scheduler, on Ascend too: with a rank table alone, MindSpore 2.9.0 fails with
    "MindSpore does not support ranktable startup" (tests/ascend/test_launch_ascend.py). HCCL reads the table as well.

    Attributes:
        command: program and arguments, the same for every rank.
        table: all servers of the job.
        server: this machine's entry, with the devices to use; the server of rank 0 starts the scheduler.
        table_file: path of the rank table; None if there is no file because the ranks are this machine's cards.
        log_dir: folder for ``rank_N.log``.
        scheduler_host, scheduler_port: address of MindSpore's scheduler; the launchers of several servers use the next
            port.
        on_ascend: whether the ranks compute on Ascend.
        grace_seconds: time to save and exit after Ctrl-C, SIGTERM or SIGHUP.
        early_exit_seconds: how long other ranks may keep running after one has exited; 0: no limit.
        join_seconds: how long to wait for the launchers of other servers; 0: start without contacting them.
        attempt: number of restarts so far.
        shown_rank: rank whose output is also shown on the terminal.
    """

    command: Sequence[str]
    table: RankTable
    server: Server
    table_file: Path | None
    log_dir: Path
    scheduler_host: str
    scheduler_port: int
    on_ascend: bool = False
    grace_seconds: float = 60.0
    early_exit_seconds: float = 60.0
    join_seconds: float = 300.0
    attempt: int = 0
    shown_rank: int = 0

    @property
    def starts_scheduler(self) -> bool:
        """Whether this server runs MindSpore's scheduler: the one that has rank 0."""
        return 0 in (device.rank_id for device in self.server.devices)

    def done_file(self, rank: int) -> Path:
        """File that a rank creates when its work is done."""
        return (self.log_dir / f".rank_{rank}.done").resolve()

    def environment(self, device: Device | None, token: str) -> dict[str, str]:
        """Environment of one process: the launcher's own, with the variables of the job.

        Args:
            device: of the rank; None for the scheduler.
            token: value of `JOB_VARIABLE`.
        """
        world = str(self.table.world_size)
        variables = {name: value for name, value in os.environ.items() if name != TABLE_VARIABLE}
        variables |= {
            "RANK_SIZE": world,
            "PYTHONUNBUFFERED": "1",
            JOB_VARIABLE: token,
            "MS_WORKER_NUM": world,
            "MS_SCHED_HOST": self.scheduler_host,
            "MS_SCHED_PORT": str(self.scheduler_port),
            "MS_ROLE": "MS_SCHED" if device is None else "MS_WORKER",
        }
        variables |= collective_timeouts(self.on_ascend, os.environ)
        if device is not None:
            local = [item.rank_id for item in self.server.devices].index(device.rank_id)
            variables |= {
                "RANK_ID": str(device.rank_id),
                "LOCAL_RANK": str(local),
                "MS_NODE_ID": str(device.rank_id),
                DONE_VARIABLE: str(self.done_file(device.rank_id)),
                **self._card(device, local),
            }
        return variables

    def _card(self, device: Device, local: int) -> dict[str, str]:
        """Variables that select the card of a rank.

        With a rank table MindSpore takes the card that DEVICE_ID names. Without one it takes the card whose index is
        the local rank (CollectiveManager::AssignLocalRank), so CANN must show it the job's cards only.
        """
        if self.table_file is not None:
            return {TABLE_VARIABLE: str(self._table_for_ranks(self.table_file)), "DEVICE_ID": str(device.device_id)}
        cards = [item.device_id for item in self.server.devices]
        if not self.on_ascend or cards == list(range(len(cards))):
            return {"DEVICE_ID": str(local)}
        return {"DEVICE_ID": str(local), VISIBLE_CARDS: ",".join(map(str, cards))}

    def _table_for_ranks(self, file: Path) -> Path:
        """File of the rank table; a rewritten one beside the logs if HCCL could not read the user's."""
        if not self.table.has_numbers:
            return file.resolve()
        file = self.log_dir / "rank_table.json"
        write_text(file, json.dumps(self.table.as_dict(), indent=2) + "\n")
        return file.resolve()


def tell_done() -> None:
    """Report to the launcher that this rank's work is done, so that exiting before the others is not a failure.

    `mindcoder eval` needs this: one rank goes on to run the programs of all. The rank only has to exit after this call,
    and the launcher kills it if it hangs. Without a launcher this does nothing.
    """
    file = os.environ.get(DONE_VARIABLE)
    if file:
        try:
            with open(file, "w", encoding="utf-8") as stream:
                stream.write(str(os.getpid()))
        except OSError:
            pass  # the launcher then warns about this rank, and ends the job a minute later
