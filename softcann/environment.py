"""The environment of a process that runs on softcann, and ways to run one.

    python -m softcann.environment mindcoder finetune … --device_target Ascend
    eval "$(python -m softcann.environment --print)"      # the same for all that this shell starts

With these variables MindSpore itself takes Ascend by default, so they belong in child processes, never in one's own.
"""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softcann.build import BUILD, HOME, LIBRARIES, ROOT, build
from softcann.wheel import BuildError, mindspore_folder

OWN = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH", "MS_SIMULATION_LEVEL", "RANK_TABLE_FILE")
CLUSTER = ("MS_ROLE", "MS_WORKER_NUM", "MS_SCHED_HOST", "MS_SCHED_PORT", "MS_NODE_ID", "RANK_ID", "RANK_SIZE")


@dataclass(frozen=True)
class Finished:
    """How a rank ended; ``output`` is stdout and stderr together."""

    returncode: int
    output: str


def emulator_environment(log: Path | None = None, **more: str) -> dict[str, str]:
    """Builds softcann if it is out of date and gives the environment for a child process.

    Args:
        log: file that gets a JSON line for each operator; a relative one is of the caller's folder.
        more: variables to set besides.
    """
    home = build()
    kernels = mindspore_folder() / "lib/plugin/ascend/ms_kernels_internal"
    environment = {name: value for name, value in os.environ.items() if name not in OWN + CLUSTER}
    inherited = environment.get("LD_LIBRARY_PATH", "")
    search = [LIBRARIES, kernels / "internal_kernel/lib", kernels / "asdops/lib", inherited]
    environment["LD_LIBRARY_PATH"] = ":".join(str(path) for path in search if path)
    python: list[object] = [ROOT / "python", ROOT.parent, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = ":".join(str(path) for path in python if path)
    environment["ASCEND_HOME_PATH"] = str(home)
    environment["ASCEND_OPP_PATH"] = str(home / "opp")
    environment.setdefault("GLOG_v", "3")
    environment.setdefault("PYTHONFAULTHANDLER", "1")  # a crash says where Python was
    if log is not None:
        environment["SOFTCANN_LOG"] = str(log.absolute())
    return environment | more


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_on_emulator(
    what: str | Sequence[str],
    ranks: int = 1,
    timeout: float = 300,
    log: Path | None = None,
    cwd: Path | None = None,
    **more: str,
) -> list[Finished]:
    """Run a Python program on softcann in processes of its own and wait for all of them.

    Args:
        what: source of a Python program, or the arguments after ``python``: a script and its flags.
        ranks: processes; more than one find each other through MindSpore's scheduler, which is started too.
        timeout: seconds, for all of them together; whoever runs longer is killed.
        log, more: see ``emulator_environment``.
        cwd: folder to run in. By default a script runs in the caller's, so that relative paths are as in a shell, and a
            source in a temporary one.

    Returns:
        One ``Finished`` per rank, in order. A killed rank has a negative return code.
    """
    environment = emulator_environment(log, **more)
    with tempfile.TemporaryDirectory() as temporary:
        arguments = [] if isinstance(what, str) else list(what)
        if isinstance(what, str):  # MindSpore compiles graphs from source, so there must be a file
            arguments.append(str(Path(temporary) / "program.py"))
            Path(arguments[0]).write_text(what, encoding="utf-8")
        command = [sys.executable, *arguments]
        folder = cwd or (Path(temporary) if isinstance(what, str) else Path.cwd())
        roles: list[dict[str, str]] = [{}]
        if ranks > 1:
            meet = {"MS_WORKER_NUM": str(ranks), "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": str(free_port())}
            node = [{"MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(i), "RANK_ID": str(i)} | meet for i in range(ranks)]
            roles = [*node, {"MS_ROLE": "MS_SCHED", "MS_NODE_ID": "0"} | meet]
        processes = []
        for index, role in enumerate(roles):
            stream = open(Path(temporary) / f"output_{index}", "w+b")
            process = subprocess.Popen(
                command, env=environment | role, stdout=stream, stderr=subprocess.STDOUT, cwd=folder
            )
            processes.append((process, stream))
        end = time.monotonic() + timeout
        finished = []
        for index, (process, stream) in enumerate(processes):
            left = end - time.monotonic() if index < ranks else 5  # the scheduler ends soon after its workers
            try:
                process.wait(max(left, 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            stream.seek(0)
            finished.append(Finished(process.returncode, stream.read().decode(errors="replace")))
            stream.close()
    return finished[:ranks]


def exports(environment: dict[str, str]) -> str:
    """Lines for a shell that turn its environment into ``environment``; the folder of commands stays its own."""
    changed = {name: value for name, value in environment.items() if os.environ.get(name) != value}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(changed.items())]
    return "\n".join(lines + [f"unset {name}" for name in sorted(os.environ.keys() - environment.keys())])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command on softcann in place of this process, or print the variables; 2 for what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m softcann.environment",
        description="Run a command on softcann, the Ascend in software; MindCoder's also need --device_target Ascend.",
    )
    parser.add_argument("--log", type=Path, help="file that gets a JSON line for each operator (default: none)")
    parser.add_argument("--print", action="store_true", help="print the variables for a shell's eval (default: no)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="a program and its arguments")
    given = parser.parse_args(arguments)
    if bool(given.command) == given.print:
        parser.error("expected a command or --print, and not both")
    try:
        environment = emulator_environment(given.log)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    if given.print:
        print(exports(environment))
        return 0
    # `mindcoder` and `python` are those of this interpreter, also where its environment is not activated.
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', os.defpath)}"
    try:
        os.execvpe(given.command[0], given.command, environment)
    except OSError as error:
        print(f"softcann: {given.command[0]}: {error.strerror}", file=sys.stderr)
        return 2


__all__ = ["BUILD", "HOME", "Finished", "emulator_environment", "exports", "run_on_emulator"]


if __name__ == "__main__":
    sys.exit(main())
