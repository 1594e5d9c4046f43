"""Start one process a device of this server, watch them, and end them all when one fails.

MindSpore's msrun notices a killed worker only when its scheduler times out and leaves orphans behind on SIGTERM; this
launcher polls its children ten times a second and ends whole process groups.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mindcoder.parallel.rank_table import Device, RankTable, Server

POLL_SECONDS = 0.1
STOPPED_SECONDS = 20.0  # a process stopped (SIGSTOP) for so long counts as failed
LAST_LINES = 30  # of a failed rank's log, shown on the terminal
PR_SET_PDEATHSIG = 1
NOISE = b"[INFO] DISTRIBUTED("  # MindSpore tells of every connection, whatever GLOG_v says; the log keeps it
RESTART_VARIABLE = "MINDCODER_RESTART"  # tells a run to resume although its command does not say so


@dataclass(frozen=True)
class LaunchOptions:
    """What to start and how.

    Attributes:
        command: program and arguments; every worker gets the same.
        table: all servers of the job.
        server: the one of them that this machine is, with the devices to use; rank 0's starts the scheduler.
        table_file: path of the rank table; Ascend reads it, and scripts that the command starts may.
        log_dir: gets ``rank_N.log`` of every rank.
        scheduler_host, scheduler_port: where MindSpore's scheduler listens (CPU only).
        use_scheduler: whether this device kind needs one; Ascend reads the rank table instead.
        grace_seconds: between asking a worker to end and killing it.
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
    grace_seconds: float = 10.0
    shown_rank: int = 0


@dataclass
class Worker:
    """A running rank (or the scheduler, rank -1)."""

    rank: int
    process: subprocess.Popen
    log_file: Path
    stopped_since: float | None = None
    reader: threading.Thread | None = None

    @property
    def title(self) -> str:
        """For messages."""
        return "the scheduler" if self.rank < 0 else f"rank {self.rank}"

    def is_stopped(self) -> bool:
        """Whether the kernel says the process is stopped (SIGSTOP, a debugger)."""
        try:
            text = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return False
        return text.rsplit(")", 1)[1].split()[0] in ("T", "t")


@dataclass(frozen=True)
class Failure:
    """The first thing that went wrong."""

    worker: Worker
    cause: str
    exit_code: int


@dataclass
class Job:
    """The processes of this server."""

    options: LaunchOptions
    workers: list[Worker] = field(default_factory=list)
    interrupted: int | None = None
    failed_rank: int | None = None

    def run(self) -> int:
        """Start, watch, end; gives the exit code of the first rank that failed, or 0."""
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.options.log_dir.mkdir(parents=True, exist_ok=True)
            self._start()
            failure = self._watch()
            if failure is not None:
                self.failed_rank = failure.worker.rank
                self._explain(failure)
            if self.interrupted is not None:
                return 128 + self.interrupted
            return 0 if failure is None else failure.exit_code
        finally:
            self._end_all()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        """Pass the first Ctrl-C or SIGTERM on, so that ranks save and end; a second one ends them at once."""
        if self.interrupted is not None:
            self._kill(signal.SIGKILL)
        self.interrupted = number
        self._kill(signal.SIGTERM)

    def _start(self) -> None:
        if self.options.use_scheduler and 0 in (device.rank_id for device in self.options.server.devices):
            command = [sys.executable, "-m", "mindcoder.parallel.scheduler"]
            self.workers.append(self._spawn(-1, command, self._environment(None), "scheduler.log"))
        for device in self.options.server.devices:
            environment = self._environment(device)
            name = f"rank_{device.rank_id}.log"
            self.workers.append(self._spawn(device.rank_id, self.options.command, environment, name))

    def _environment(self, device: Device | None) -> dict[str, str]:
        """Variables of one process; ``device`` is None for the scheduler."""
        options = self.options
        world = str(options.table.world_size)
        variables = {"RANK_SIZE": world, "PYTHONUNBUFFERED": "1"}
        if options.use_scheduler:
            variables |= {
                "MS_WORKER_NUM": world,
                "MS_SCHED_HOST": options.scheduler_host,
                "MS_SCHED_PORT": str(options.scheduler_port),
                "MS_ROLE": "MS_SCHED" if device is None else "MS_WORKER",
                "MS_NODE_TIMEOUT": os.environ.get("MS_NODE_TIMEOUT", "300"),
                "MS_TOPO_TIMEOUT": os.environ.get("MS_TOPO_TIMEOUT", "300"),
            }
        if device is not None:
            variables["RANK_TABLE_FILE"] = str(options.table_file.resolve())
            local = [item.rank_id for item in options.server.devices].index(device.rank_id)
            variables |= {
                "RANK_ID": str(device.rank_id),
                "DEVICE_ID": str(device.device_id),
                "LOCAL_RANK": str(local),
                "MS_NODE_ID": str(device.rank_id),
            }
        return variables

    def _spawn(self, rank: int, command: Sequence[str], variables: Mapping[str, str], log_name: str) -> Worker:
        log_file = self.options.log_dir / log_name
        shown = rank == self.options.shown_rank
        with open(log_file, "wb") as stream:
            process = subprocess.Popen(
                list(command),
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if shown else stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        worker = Worker(rank, process, log_file)
        if shown:
            assert process.stdout is not None
            worker.reader = threading.Thread(target=_copy_output, args=(process.stdout, log_file), daemon=True)
            worker.reader.start()
        return worker

    def _watch(self) -> Failure | None:
        """Wait until all ranks are done or one has failed."""
        while True:
            running = 0
            for worker in self.workers:
                code = worker.process.poll()
                if code is None:
                    running += worker.rank >= 0
                    failure = self._stopped_too_long(worker)
                    if failure is not None:
                        return failure
                elif code != 0:
                    return _failure(worker, code)
            if not running:
                return None
            time.sleep(POLL_SECONDS)

    def _stopped_too_long(self, worker: Worker) -> Failure | None:
        if not worker.is_stopped():
            worker.stopped_since = None
            return None
        now = time.monotonic()
        worker.stopped_since = worker.stopped_since or now
        if now - worker.stopped_since < STOPPED_SECONDS:
            return None
        return Failure(worker, f"hangs: it has been stopped (SIGSTOP) for {STOPPED_SECONDS:.0f} s", 1)

    def _explain(self, failure: Failure) -> None:
        """Name the rank and the cause, with the end of its log."""
        worker = failure.worker
        if worker.reader is not None:
            worker.reader.join(2.0)
        lines = worker.log_file.read_text(errors="replace").splitlines()[-LAST_LINES:]
        prefix = f"[{worker.title}] "
        shown = worker.rank == self.options.shown_rank
        text = "" if shown else "".join(f"{prefix}{line}\n" for line in lines)
        print(f"{text}mindcoder: {worker.title} {failure.cause}; its log: {worker.log_file}", file=sys.stderr)

    def _kill(self, number: int) -> None:
        """Send a signal to the process group of every worker that runs; the scheduler ends by itself."""
        for worker in self.workers:
            if worker.process.poll() is None and (worker.rank >= 0 or number == signal.SIGKILL):
                _signal_group(worker.process.pid, number)

    def _end_all(self) -> None:
        """Ask, wait for the grace time, then kill; nothing is left behind."""
        self._kill(signal.SIGTERM)
        limit = time.monotonic() + self.options.grace_seconds
        while time.monotonic() < limit and any(item.process.poll() is None for item in self.workers if item.rank >= 0):
            if any(worker.is_stopped() for worker in self.workers):
                break  # a stopped process does not hear SIGTERM
            time.sleep(POLL_SECONDS)
        for worker in self.workers:
            _signal_group(worker.process.pid, signal.SIGKILL)  # also what a worker that has ended left behind
        for worker in self.workers:
            worker.process.wait()
            if worker.reader is not None:
                worker.reader.join(2.0)


def _failure(worker: Worker, code: int) -> Failure:
    if code < 0:
        return Failure(worker, f"was killed by {signal.Signals(-code).name}", 128 - code)
    return Failure(worker, f"ended with exit code {code}", code)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


def _die_with_parent() -> None:
    """In the child: be killed when the launcher is (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _copy_output(source: IO[bytes], log_file: Path) -> None:
    """Write a rank's output to its log and to the terminal as it comes."""
    with open(log_file, "ab", buffering=0) as log:
        while chunk := os.read(source.fileno(), 65536):
            log.write(chunk)
            shown = [line for line in chunk.splitlines(keepends=True) if not line.startswith(NOISE)]
            sys.stdout.buffer.write(b"".join(shown))
            sys.stdout.flush()
