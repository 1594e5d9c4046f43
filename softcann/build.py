"""Build softcann for the installed MindSpore: ``python -m softcann.build``. Writes only below ``softcann/build/``."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from softcann.generate import source
from softcann.operator_table import defined, rows
from softcann.wheel import BuildError, Needs, mindspore_folder, needs

ROOT = Path(__file__).resolve().parent
BUILD = ROOT / "build"
HOME = BUILD / "Ascend/latest"  # stands for an installed CANN; MindSpore looks for a folder of this name
LIBRARIES = HOME / "lib64"
SOURCES = ("runtime", "operators", "hccl", "aclop", "graph")
# MindSpore is built with the C++ library's old strings, and std::string crosses the border in the graph engine.
FLAGS = ["-std=c++17", "-O2", "-fPIC", "-fopenmp-simd", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-attributes"]
FLAGS += ["-Wno-psabi", "-D_GLIBCXX_USE_CXX11_ABI=0", "-Iinclude", "-Iruntime"]
VERSION_OF_CANN = "Version=9.0.0\n"  # MindSpore reads it from two files and accepts this


def compiler() -> str:
    name = os.environ.get("CXX", "g++")
    for tool in (name, "gcc", "nm", "readelf", "c++filt"):
        if shutil.which(tool) is None:
            raise BuildError(f"softcann: {tool} is not there; expected a C++ compiler and binutils")
    return name


def run(command: list[str]) -> None:
    """Run a compiler in softcann's folder.

    Raises:
        BuildError: it fails; with what it said.
    """
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if result.returncode != 0:
        raise BuildError(f"softcann: {' '.join(command)}\n{result.stderr.strip()}")
    if result.stderr.strip():
        print(result.stderr.strip(), file=sys.stderr)


def from_root(file: Path) -> Path:
    """A file as commands and stamps name it: below softcann's folder without it, so that a copy compiles nothing."""
    return file.relative_to(ROOT) if file.is_relative_to(ROOT) else file


def digest(*texts: str, files: list[Path]) -> str:
    """Of texts and of the files' names and contents; a file that is not there counts as empty."""
    hashed = hashlib.sha256("\0".join(texts).encode())
    for file in files:
        hashed.update(f"\0{from_root(file)}\0".encode())
        hashed.update((ROOT / file).read_bytes() if (ROOT / file).is_file() else b"")
    return hashed.hexdigest()


def read_dependencies(rule: str) -> list[Path]:
    """Files that an object is made from, of the make rule that the compiler wrote (``-MMD``: no system headers)."""
    names = rule.replace("\\\n", " ").partition(": ")[2]
    return [ROOT / name.replace("\\ ", " ") for name in re.findall(r"(?:\\ |\S)+", names)]


def compile_one(command: list[str], file: Path, object_file: Path, parsed: Path | None = None) -> bool:
    """Compile ``file``; not again while the command and all that it was made from are the same.

    Args:
        parsed: a precompiled header that the command includes.

    Returns:
        Whether it was compiled.

    Raises:
        BuildError: an error in ``file``, as the compiler says it.
    """
    stamp, rule = object_file.with_suffix(".stamp"), object_file.with_suffix(".d")
    extra = [] if parsed is None else [parsed.with_suffix(".stamp")]
    if object_file.exists() and stamp.exists() and rule.exists():
        state = digest(*command, files=[*read_dependencies(rule.read_text()), *extra])
        if stamp.read_text() == state:
            return False
    object_file.parent.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)  # whoever is interrupted here starts over
    run([*command, "-MMD", "-MF", str(rule), "-c", str(from_root(file)), "-o", str(object_file)])
    stamp.write_text(digest(*command, files=[*read_dependencies(rule.read_text()), *extra]))
    return True


def write_if_other(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


def needs_of_wheel(folder: Path) -> Needs:
    """``needs``, remembered in the build folder: reading the wheel takes longer than compiling."""
    kept = BUILD / "needs.json"
    state = digest(str(folder), files=[ROOT / "wheel.py"])
    with contextlib.suppress(OSError, ValueError):  # not there, or half written
        content = json.loads(kept.read_text())
        if content["state"] == state:
            return Needs(**{key: set(value) for key, value in content["needs"].items()})
    found = needs(folder)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"state": state, "needs": {key: sorted(value) for key, value in vars(found).items()}}))
    return found


def build(tell: Callable[[str], None] | None = None) -> Path:
    """Build what is out of date and give the folder that stands for an installed CANN; one process at a time.

    Args:
        tell: gets a line for each file that was compiled.

    Raises:
        BuildError: another MindSpore, no compiler, or an error in a source file.
    """
    BUILD.mkdir(exist_ok=True)
    with open(BUILD / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build_alone(tell)


def build_alone(tell: Callable[[str], None] | None = None) -> Path:
    """``build`` for whoever holds the lock."""
    command = [compiler(), *FLAGS, "-march=native"]
    wanted = needs_of_wheel(mindspore_folder())
    objects = BUILD / "objects"
    generated = BUILD / "missing.c"
    write_if_other(generated, source(wanted.undefined, wanted.looked_up, wanted.operators))
    files = [path for name in SOURCES for path in sorted(ROOT.glob(f"{name}/*.cc"))]
    # Every operator file includes aclnn.h, so it is parsed once, for all. -O1 because most of an operator's time is one
    # conversion an element, and it builds in half the time.
    quick = [*command, "-O1"]
    header = BUILD / "parsed/every.h"
    write_if_other(header, '#include "softcann/aclnn.h"\n')
    parsed = header.with_suffix(".h.gch")
    compile_one([*quick, "-x", "c++-header"], header, parsed)
    quick += ["-include", str(from_root(header))]
    jobs: list[tuple[list[str], Path, Path, Path | None]] = []
    for path in files:
        operator = path.parent.name == "operators"
        target = objects / path.parent.name / (path.stem + ".o")
        jobs.append((quick if operator else command, path, target, parsed if operator else None))
    jobs.append((["gcc", "-O1", "-fPIC", "-w"], generated, objects / "missing.o", None))
    done, lock = [0], threading.Lock()

    def compile_and_tell(job: tuple[list[str], Path, Path, Path | None]) -> None:
        compiled = compile_one(*job)
        with lock:
            done[0] += 1
            if compiled and tell is not None:
                tell(f"compiled {job[1].name} ({done[0]} of {len(jobs)} files)")

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_and_tell, jobs))
    main = LIBRARIES / "libascendcl.so"
    names = sorted(wanted.libraries - {main.name})
    linked = [str(job[2]) for job in jobs]
    stamp = BUILD / "linked"
    state = json.dumps([[job[2].with_suffix(".stamp").read_text() for job in jobs], names])
    if stamp.exists() and stamp.read_text() == state:
        return HOME
    shutil.rmtree(HOME.parent, ignore_errors=True)
    for place in (LIBRARIES, HOME / "compiler", HOME / "opp/built-in/op_impl/ai_core/tbe"):
        place.mkdir(parents=True)
    for place in (HOME, HOME / "compiler"):
        (place / "version.info").write_text(VERSION_OF_CANN)
    run([command[0], "-shared", *linked, "-o", str(main), "-Wl,-soname,libascendcl.so", "-lrt", "-pthread"])
    link = ["gcc", "-shared", "-x", "c", "/dev/null", "-Wl,--no-as-needed", f"-L{LIBRARIES}", "-lascendcl"]
    for name in names:
        run([*link, f"-Wl,-soname,{name}", "-o", str(LIBRARIES / name)])
    stamp.write_text(state)
    return HOME


def main() -> int:
    try:
        print(build(lambda line: print(line, file=sys.stderr, flush=True)))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    for function in sorted(defined() - {row.function for row in rows()}):
        print(f"softcann: {function} has no row in softcann/operators/constraints.cc: its calls fail", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
