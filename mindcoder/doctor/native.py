"""The processor, the C++ compiler, and the operators for CPU that it made."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mindcoder.backend.library import LIBRARY
from mindcoder.backend.shared_object import what_is_wrong
from mindcoder.doctor.host import Host
from mindcoder.doctor.report import Row

SWITCH = "MINDCODER_NATIVE"
SETS = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "amx_tile": "AMX",
    "asimd": "NEON", "sve": "SVE", "bf16": "BF16", "i8mm": "I8MM",
}  # fmt: skip
COMPILER_SECONDS, LOAD_SECONDS = 5.0, 8.0
# In a process of its own: a library made for another processor ends it with SIGILL.
LOAD = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.MindCoderStep
try:
    kind, _ = library.MindCoderKind, library.MindCoderArguments
except AttributeError:
    print("old")
else:
    kind.restype = ctypes.c_char_p
    print("kind", kind().decode())
"""
REBUILD = "pip install -e ."


def processor_row(host: Host) -> Row:
    """Its name and those of its instruction sets that matter."""
    text = host.read_system("/proc/cpuinfo")
    names = re.findall(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = set(" ".join(re.findall(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)[:1]).split())
    sets = [shown for flag, shown in SETS.items() if flag in flags]
    name = names[0].strip() if names else os.uname().machine
    found = f"{name}, {os.cpu_count() or 1} cores" + (f" ({', '.join(sets)})" if sets else "")
    if sets:
        return Row("processor", "ok", found)
    return Row("processor", "note", f"{found}, without AVX2 or NEON", "the C++ operators will be slow")


def compiler_row(host: Host) -> Row:
    """The C++ compiler that an installation would call."""
    wanted = (host.environment.get("CXX") or "").split()[:1]
    names = wanted or ["g++", "c++", "clang++"]
    found = next(((name, path) for name in names if (path := host.program(name))), None)
    advice = "install g++ 11 or newer, then pip install -e . builds the C++ operators"
    if found is None:
        fetched = "pip install -e . fetches one to build with (ziglang)"
        return Row("C++ compiler", "note", f"no {' or '.join(names)}", fetched)
    answer = host.run([found[1], "--version"], COMPILER_SECONDS)
    if answer.code != 0:
        said = answer.failure or f"exit code {answer.code}"
        return Row("C++ compiler", "note", f"{found[1]} --version: {said}", advice)
    return Row("C++ compiler", "ok", (answer.output.strip().splitlines() or [found[1]])[0])


def library_row(host: Host, library: Path = LIBRARY) -> Row:
    """Whether the C++ operators are built and can be loaded, and for which instructions."""
    name = "C++ operators"
    if not os.path.isfile(library):
        return Row(name, "note", "not built: nothing can be computed on CPU", REBUILD)
    problem = what_is_wrong(library)
    if problem is not None:
        return Row(name, "problem", f"{library.name} {problem}", REBUILD)
    answer = host.python(LOAD, LOAD_SECONDS, str(library))
    if answer.code != 0:
        if answer.code == -4:
            why = "made for another processor (SIGILL)"
        else:
            why = answer.failure or (answer.output.strip().splitlines() or [f"exit code {answer.code}"])[-1]
        return Row(name, "problem", f"{library.name} cannot be loaded: {why}", REBUILD)
    if host.environment.get(SWITCH) == "0":
        return Row(name, "note", f"switched off by {SWITCH}=0", f"unset {SWITCH}")
    if "kind " not in answer.output:
        return Row(name, "note", "loadable, built by an earlier version of MindCoder", REBUILD)
    return Row(name, "ok", f"loadable, {answer.output.split('kind ', 1)[1].strip()}")
