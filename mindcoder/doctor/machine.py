"""Folders, memory, cores, and the sandbox of eval-code."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from mindcoder.backend.threads import VARIABLE, check_thread_variable
from mindcoder.doctor.host import Host, said, size
from mindcoder.doctor.report import Row
from mindcoder.errors import UserError

FULL, NEARLY_FULL = 1e8, 2e10  # bytes free; a training checkpoint has 12 bytes a parameter
LITTLE_MEMORY = 4e9  # bytes; MindSpore and its compiler take one or two
DISPATCH_THREADS = 4  # what mindcoder.backend.device asks MindSpore for
THREAD_VARIABLES = (VARIABLE, "OMP_NUM_THREADS")
SANDBOX_SECONDS = 12.0
SANDBOX = """
import sys
from mindcoder.evaluate.sandbox import Sandbox, SandboxOptions
try:
    Sandbox(SandboxOptions(seconds=5)).check()
except Exception as error:
    sys.exit(str(error))
"""


def folder_row() -> Row:
    """The working folder: `output` is made in it."""
    try:
        folder = os.getcwd()
    except OSError as error:
        return Row("working folder", "problem", f"is gone: {error.strerror}", "cd to one that exists")
    return _space("working folder", folder, "give --output_dir and --log_dir elsewhere")


def temporary_row() -> Row:
    """Where temporary files go: TMPDIR, else /tmp."""
    try:
        folder = tempfile.gettempdir()
    except OSError as error:
        return Row("temporary files", "problem", said(error), "set TMPDIR to a folder that may be written to")
    given = os.environ.get("TMPDIR")
    if given and os.path.abspath(given) != os.path.abspath(folder):
        return Row("temporary files", "note", f"TMPDIR={given} cannot be written to; {folder} is used", "set TMPDIR")
    return _space("temporary files", folder, "set TMPDIR")


def home_row(host: Host) -> Row:
    """HOME: CANN and MindSpore keep logs and compiled kernels below it."""
    home = host.environment.get("HOME")
    if not home:
        return Row("home folder", "note", "HOME is not set", "CANN writes its logs below it (~/ascend/log): set HOME")
    if not os.access(home, os.W_OK | os.X_OK):
        return Row("home folder", "note", f"{home} may not be written to", "CANN writes its logs there (~/ascend/log)")
    return Row("home folder", "ok", home)


def _space(check: str, folder: str, elsewhere: str) -> Row:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Row(check, "problem", f"{folder}: {error.strerror}", elsewhere)
    found = f"{folder}: {size(free)} free"
    if not os.access(folder, os.W_OK | os.X_OK):
        return Row(check, "note", f"{found}, may not be written to", elsewhere)
    if free < FULL:
        return Row(check, "problem", found, f"make room, or {elsewhere}")
    if free < NEARLY_FULL:
        return Row(check, "note", found, "a checkpoint of a training run has 12 bytes a parameter")
    return Row(check, "ok", found)


def memory_row(host: Host) -> Row:
    """Of the machine, and the limit of the control groups that this process is in."""
    text = host.read_system("/proc/meminfo")
    values = {key: int(value) * 1024 for key, value in re.findall(r"^(\w+):\s+(\d{1,15}) kB$", text, re.MULTILINE)}
    if "MemTotal" not in values:
        return Row("memory", "note", "/proc/meminfo does not say")
    total, free = values["MemTotal"], values.get("MemAvailable", values["MemTotal"])
    found, limit = f"{size(total)}, {size(free)} available", memory_limit(host)
    if limit is not None and limit < total:
        found += f"; the control group allows {size(limit)}"
        free = min(free, limit)
    if free < LITTLE_MEMORY:
        return Row("memory", "note", found, "MindSpore and its compiler alone take one or two GB")
    return Row("memory", "ok", found)


def memory_limit(host: Host) -> int | None:
    """Bytes that the control groups leave this process, versions 1 and 2; None without a limit."""
    limits = []
    for line in host.read_system("/proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            base, name = Path("/sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            base, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        inner = Path(path.lstrip("/"))
        for folder in (inner, *inner.parents):
            text = host.read_system(str(base / folder / name)).strip()
            if re.fullmatch(r"\d{1,18}", text):
                limits.append(int(text))
    return min(limits, default=None)


def cores_row(host: Host) -> Row:
    """How many cores this process may use, and whether threads are bound or limited."""
    count = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    set_here = [f"{name}={host.environment[name]}" for name in THREAD_VARIABLES if host.environment.get(name)]
    found = f"{usable} of {count} usable" + "".join(f", {text}" for text in set_here)
    try:
        check_thread_variable(host.environment)
    except UserError as error:
        return Row("cores", "problem", str(error), f"unset {VARIABLE}: all cores are used")
    quota = _cpu_quota(host)
    if quota is not None and quota < usable:
        found += f", the control group allows {quota:.3g}"
    if usable < count:
        return Row("cores", "note", f"{found}: bound", "taskset, numactl or the job system has bound this process")
    return Row("cores", "ok", f"{found}, not bound")


def _cpu_quota(host: Host) -> float | None:
    """Cores' worth of time that the own control group (version 2) allows; None without a limit."""
    own = [line[3:] for line in host.read_system("/proc/self/cgroup").splitlines() if line.startswith("0::")]
    for path in own:
        text = host.read_system(f"/sys/fs/cgroup/{path.lstrip('/')}/cpu.max").split()
        if len(text) == 2 and all(re.fullmatch(r"\d{1,12}", part) for part in text) and int(text[1]):
            return int(text[0]) / int(text[1])
    return None


def dispatch_row(host: Host) -> Row:
    """Threads that launch operators on a card; MindSpore takes few on hosts with few cores."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = DISPATCH_THREADS * max(1, len(host.cards()))
    if usable < wanted:
        found = f"{DISPATCH_THREADS} for each of {len(host.cards()) or 1} processes, {usable} cores"
        return Row("dispatch threads", "note", found, "use fewer cards, or give the container more cores")
    return Row("dispatch threads", "ok", f"{DISPATCH_THREADS} for each process (MindCoder asks for them)")


def sandbox_row(host: Host) -> Row:
    """Whether generated code can be shut in, as `mindcoder eval-code` does by default."""
    answer = host.python(SANDBOX, SANDBOX_SECONDS)
    if answer.code == 0:
        return Row("sandbox", "ok", "user namespaces: eval-code shuts generated code in")
    why = answer.failure or (answer.output.strip().splitlines() or [f"exit code {answer.code}"])[-1]
    reason = re.sub(r"; it needs user namespaces.*", "", why)
    return Row("sandbox", "note", reason, "eval-code needs user namespaces, or --sandbox limits")
