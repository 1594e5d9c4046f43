"""What the installed MindSpore needs from CANN: read from its libraries with nm, readelf and a search for names."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

VERSION = "2.9.0"  # what softcann was written for; symbols and signatures differ between versions
LIBC = ("stdc++.so.6", "m.so.6", "c.so.6", "gcc_s.so.1", "gomp.so.1", "dl.so.2", "rt.so.1", "pthread.so.0")
# Looked up by MindSpore at run time, from libraries whose names nothing else mentions.
LOADED_BY_NAME = {"libopapi.so", "libacl_op_compiler.so", "libacl_tdt_queue.so", "libacl_tdt_channel.so", "libhccl.so"}
LOADED_BY_NAME |= {"libnnopbase.so", "libascendcl.so", "libatb.so"}
# Patterns begin with a literal, which makes the search through 100 MB of library fast.
ACL = rb"\0(acl(?:rt|tdt|mdl|op|prof|Gen|Set|Get|Create|Destroy|Update)[A-Z][A-Za-z0-9]+)(?=\0)"
HCCL = rb"\0(Hc(?:cl|om)[A-Z][A-Za-z0-9]+)(?=\0)"
OPERATOR = rb"aclnn[A-Z][A-Za-z0-9]*(?=\0)"
NOT_FUNCTIONS = ("Ptr", "Symbol", "Error", "Kernel", "Info_", "Inner")


class BuildError(RuntimeError):
    """The emulator cannot be built here; the message says why in one line."""


@dataclass(frozen=True)
class Needs:
    """What softcann has to give: see ``generate.source`` for the first three, ``libraries`` are file names."""

    undefined: set[str]
    looked_up: set[str]
    operators: set[str]
    libraries: set[str]


def mindspore_folder() -> Path:
    """The folder of the installed MindSpore.

    Raises:
        BuildError: it is not installed, or is another version than ``VERSION``.
    """
    spec = importlib.util.find_spec("mindspore")
    if spec is None or spec.origin is None:
        raise BuildError(f"softcann: mindspore is not installed; expected {VERSION}")
    found = importlib.metadata.version("mindspore")
    if found != VERSION:
        raise BuildError(f"softcann: found mindspore {found}; expected {VERSION} (softcann/wheel.py says why)")
    return Path(spec.origin).parent


def symbols(library: Path, defined: bool) -> set[str]:
    """Dynamic symbols that ``library`` defines, or that it needs and must find (weak ones are not needed)."""
    which = "--defined-only" if defined else "--undefined-only"
    listing = subprocess.run(["nm", "-D", which, str(library)], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    return {row[-1].split("@")[0] for row in rows if len(row) > 1 and (defined or row[-2] == "U")}


def needed(library: Path) -> list[str]:
    """File names of the libraries that ``library`` is linked with."""
    listing = subprocess.run(["readelf", "-d", str(library)], capture_output=True, text=True, check=True).stdout
    return re.findall(r"NEEDED.*\[(.*)\]", listing)


def system_libraries() -> dict[str, Path]:
    """The loader's libraries of this system, by file name."""
    listing = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^\s*(\S+) \(.*x86-64.*\) => (\S+)$", listing, re.MULTILINE)
    return {name: Path(path) for name, path in found}


def ascend_libraries(folder: Path) -> list[Path]:
    """MindSpore's libraries that are linked with CANN."""
    plugin = folder / "lib" / "plugin"
    found = [plugin / "libmindspore_ascend.so.2", plugin / "libmindspore_ops_ascend.so", *plugin.glob("ascend/*.so")]
    found += plugin.glob("ascend/ms_kernels_internal/*/lib/*.so")
    found += plugin.glob("ascend/ms_kernels_symmetric_memory/**/lib/*.so")
    found += plugin.glob("ascend/custom_a*/**/*.so")
    return [path for path in found if not re.search("cpu_kernels|so_kernels|dvpp", str(path))]


def names_in(libraries: list[Path]) -> tuple[set[str], set[str]]:
    """Names of C functions and of aclnn operators among the strings of ``libraries``."""
    functions: set[str] = set()
    operators: set[str] = set()
    for library in libraries:
        content = library.read_bytes()
        functions |= {name.decode() for pattern in (ACL, HCCL) for name in re.findall(pattern, content)}
        operators |= {name.decode() for name in re.findall(OPERATOR, content)}
    functions = {name for name in functions if not name.endswith(NOT_FUNCTIONS)}
    own = ("GetWorkspaceSize", "Ascend", "Customize")  # the last two are kernels that MindSpore brings itself
    operators = {name for name in operators if not name.endswith(own)} - {"aclnnInit", "aclnnFinalize"}
    return functions, operators


def needs(folder: Path) -> Needs:
    """Everything that the libraries in MindSpore's ``folder`` want from CANN."""
    library_folder = folder / "lib"
    ascend = ascend_libraries(folder)
    others = [*library_folder.glob("*.so*"), *folder.glob("*.so"), library_folder / "plugin/libmindspore_ops_cpu.so"]
    system = system_libraries()
    defined: set[str] = set()
    libraries = [*others, *ascend, *(system[f"lib{name}"] for name in LIBC if f"lib{name}" in system)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for names in pool.map(functools.partial(symbols, defined=True), libraries):
            defined |= names
    defined |= {"__tls_get_addr"}
    here = {path.name for path in [*ascend, *others, *(library_folder / "plugin").glob("*.so*")]} | set(system)
    undefined: set[str] = set()
    missing = set(LOADED_BY_NAME)
    for library in ascend:
        undefined |= {name for name in symbols(library, defined=False) - defined if not name.startswith(("Py", "_Py"))}
        missing |= {name for name in needed(library) if name not in here and not name.startswith(("ld-linux", "libz"))}
    functions, operators = names_in([path for path in ascend if re.search("mindspore", path.name)])
    return Needs(undefined, functions, operators, missing)
