"""What the launcher is asked to start, and what each process of it finds in its environment."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindcoder.backend.cards import VISIBLE_CARDS
from mindcoder.files import write_text
from mindcoder.parallel.guardian import JOB_VARIABLE
from mindcoder.parallel.launched import DONE_VARIABLE
from mindcoder.parallel.rank_table import Device, RankTable, Server
from mindcoder.parallel.timeouts import collective_timeouts

TABLE_VARIABLE = "RANK_TABLE_FILE"


@dataclass(frozen=True)
class LaunchOptions:
    """What to start and how.

    The ranks always meet at MindSpore's scheduler, on Ascend too: with a rank table alone, MindSpore 2.9.0 ends with
    "MindSpore does not support ranktable startup" (tests/ascend/test_launch_ascend.py). HCCL reads the table besides.

    Attributes:
        command: program and arguments; every worker gets the same.
        table: all servers of the job.
        server: the one of them that this machine is, with the devices to use; rank 0's starts the scheduler.
        table_file: path of the rank table; None where the processes are this machine's cards and nobody wrote one.
        log_dir: gets ``rank_N.log`` of every rank.
        scheduler_host, scheduler_port: where MindSpore's scheduler listens; launchers of several servers speak on the
            port after it.
        on_ascend: whether the ranks compute on Ascend.
        grace_seconds: for saving and ending after Ctrl-C, SIGTERM or SIGHUP.
        early_exit_seconds: how long other ranks may go on after one has ended; 0 for as long as they like.
        join_seconds: how long to wait for other servers' launchers; 0 to start without speaking to them.
        attempt: 0, and one more after each restart.
        shown_rank: whose output goes to the terminal too.
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
        """Whether MindSpore's scheduler runs here: beside rank 0."""
        return 0 in (device.rank_id for device in self.server.devices)

    def done_file(self, rank: int) -> Path:
        """What a rank makes when its work is done."""
        return (self.log_dir / f".rank_{rank}.done").resolve()

    def environment(self, device: Device | None, token: str) -> dict[str, str]:
        """The variables of one process; a child of the launcher gets its other ones too.

        Args:
            device: of the rank; None for the scheduler.
            token: the job's mark.
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
        """Which card the rank takes.

        With a rank table MindSpore takes the card that DEVICE_ID names. Without one it takes the card whose index is
        the rank's among those of its machine (CollectiveManager::AssignLocalRank), so that CANN shows it no others.
        """
        if self.table_file is not None:
            return {TABLE_VARIABLE: str(self._table_for_ranks(self.table_file)), "DEVICE_ID": str(device.device_id)}
        cards = [item.device_id for item in self.server.devices]
        if not self.on_ascend or cards == list(range(len(cards))):
            return {"DEVICE_ID": str(local)}
        return {"DEVICE_ID": str(local), VISIBLE_CARDS: ",".join(map(str, cards))}

    def _table_for_ranks(self, file: Path) -> Path:
        """The rank table's file; one beside the logs where HCCL could not read the user's."""
        if not self.table.has_numbers:
            return file.resolve()
        file = self.log_dir / "rank_table.json"
        write_text(file, json.dumps(self.table.as_dict(), indent=2) + "\n")
        return file.resolve()
