"""The filter of system calls, run here instruction by instruction as the kernel does it."""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path

import pytest

from mindcoder.evaluate import sandbox

sys.path.insert(0, str(Path(sandbox.__file__).parent))
import sandbox_filter  # noqa: E402

sys.path.pop(0)
MACHINES = tuple(sandbox_filter.MACHINES)
HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}


def verdict(machine: str, number: int, argument: int = 0, architecture: int | None = None) -> int:
    """What the kernel's interpreter of classic BPF gives."""
    data = {0: number, 4: sandbox_filter.MACHINES[machine] if architecture is None else architecture, 16: argument}
    program, at, held = sandbox_filter.instructions(machine), 0, 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x20:
            held = data[value]
        elif code == 0x06:
            return value
        else:
            holds = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
            at += if_true if holds else if_false


def failed(number: int) -> int:
    return 0x00050000 | number


@pytest.mark.parametrize("machine", MACHINES)
def test_every_listed_call_is_refused(machine):
    at = MACHINES.index(machine)
    for name, numbers in sandbox_filter.DENIED.items():
        assert verdict(machine, numbers[at]) == failed(errno.EPERM), name
    for name in ("clone3", "memfd_create", "memfd_secret"):
        assert verdict(machine, sandbox_filter.CALLS[name][at]) == failed(errno.ENOSYS), name


@pytest.mark.parametrize("machine", MACHINES)
def test_some_calls_depend_on_what_they_ask_for(machine):
    at, calls = MACHINES.index(machine), sandbox_filter.CALLS
    assert verdict(machine, calls["clone"][at], 0x01200011) == 0x7FFF0000  # fork
    assert verdict(machine, calls["clone"][at], 0x003D0F00) == 0x7FFF0000  # a thread
    for bit in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, calls["clone"][at], bit | 17) == failed(errno.EPERM)
    for name in ("socket", "socketpair"):
        for family in range(46):
            expected = 0x7FFF0000 if family in (1, 2, 10) else failed(errno.EAFNOSUPPORT)
            assert verdict(machine, calls[name][at], family) == expected, family
    assert verdict(machine, calls["prlimit64"][at], 0) == 0x7FFF0000
    assert verdict(machine, calls["prlimit64"][at], 1) == failed(errno.EPERM)


@pytest.mark.parametrize("machine", MACHINES)
def test_all_other_calls_pass_and_foreign_ones_do_not(machine):
    at = MACHINES.index(machine)
    known = {numbers[at] for numbers in (*sandbox_filter.DENIED.values(), *sandbox_filter.CALLS.values())}
    assert all(verdict(machine, number) == 0x7FFF0000 for number in set(range(470)) - known)
    assert verdict(machine, 0, architecture=0x40000003) == 0x80000000  # 32 bits
    if machine == "x86_64":
        assert verdict(machine, 0x40000000 | 59) == failed(errno.ENOSYS)


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_the_kernel_s(machine):
    file = next((Path(name) for name in HEADERS[machine] if Path(name).is_file()), None)
    if file is None:
        pytest.skip("no kernel headers here")
    found = dict(re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$", file.read_text(), re.MULTILINE))
    at = MACHINES.index(machine)
    for name, numbers in (sandbox_filter.DENIED | sandbox_filter.CALLS).items():
        assert int(found.get(name, numbers[at])) == numbers[at], name
    assert len(found) > 200
