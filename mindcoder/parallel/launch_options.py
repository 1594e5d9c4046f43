"""What the launcher is asked to start, and what each process of it finds in its environment."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindcoder.files import write_text
from mindcoder.parallel.guardian import JOB_VARIABLE
from mindcoder.parallel.launched import DONE_VARIABLE
from mindcoder.parallel.rank_table import Device, RankTable, Server
from mindcoder.parallel.timeouts import collective_timeouts


@dataclass(frozen=True)
class LaunchOptions:
    """What to start and how.

    Attributes:
        command: program and arguments; every worker gets the same.
        table: all servers of the job.
        server: the one of them that this machine is, with the devices to use; rank 0's starts the scheduler.
        table_file: path of the rank table.
        log_dir: gets ``rank_N.log`` of every rank.
        scheduler_host, scheduler_port: where MindSpore's scheduler listens (CPU only); launchers of several servers
            speak on the port after it.
        use_scheduler: whether this device kind needs one; Ascend reads the rank table instead.
        grace_seconds: for saving and ending after Ctrl-C, SIGTERM or SIGHUP.
        early_exit_seconds: how long other ranks may go on after one has ended; 0 for as long as they like.
        join_seconds: how long to wait for other servers' launchers; 0 to start without speaking to them.
        attempt: 0, and one more after each restart.
        shown_rank: whose output goes to the terminal too.
    """

    command: Sequence[str]
    table: RankTable
    server: Server
    table_file: Path
    log_dir: Path
    scheduler_host: str
    scheduler_port: int
    use_scheduler: bool = True
    grace_seconds: float = 60.0
    early_exit_seconds: float = 60.0
    join_seconds: float = 300.0
    attempt: int = 0
    shown_rank: int = 0

    @property
    def starts_scheduler(self) -> bool:
        """Whether MindSpore's scheduler runs here: beside rank 0."""
        return self.use_scheduler and 0 in (device.rank_id for device in self.server.devices)

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
        variables = {**os.environ, "RANK_SIZE": world, "PYTHONUNBUFFERED": "1", JOB_VARIABLE: token}
        variables |= collective_timeouts(not self.use_scheduler, os.environ)
        if self.use_scheduler:
            variables |= {
                "MS_WORKER_NUM": world,
                "MS_SCHED_HOST": self.scheduler_host,
                "MS_SCHED_PORT": str(self.scheduler_port),
                "MS_ROLE": "MS_SCHED" if device is None else "MS_WORKER",
            }
        if device is not None:
            local = [item.rank_id for item in self.server.devices].index(device.rank_id)
            variables |= {
                "RANK_TABLE_FILE": str(self._table_for_ranks()),
                "RANK_ID": str(device.rank_id),
                "DEVICE_ID": str(device.device_id),
                "LOCAL_RANK": str(local),
                "MS_NODE_ID": str(device.rank_id),
                DONE_VARIABLE: str(self.done_file(device.rank_id)),
            }
        return variables

    def _table_for_ranks(self) -> Path:
        """The rank table's file; one beside the logs where HCCL could not read the user's."""
        if not self.table.has_numbers:
            return self.table_file.resolve()
        file = self.log_dir / "rank_table.json"
        write_text(file, json.dumps(self.table.as_dict(), indent=2) + "\n")
        return file.resolve()
