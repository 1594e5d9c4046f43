"""softcann's runtime through ctypes, in a process of its own: addresses, limits, executors, half precision."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from softcann.environment import emulator_environment

pytestmark = pytest.mark.long  # on the emulator, whose build takes minutes

BEGIN = """
import ctypes
from ctypes import byref, c_int64, c_size_t, c_uint64, c_void_p
import numpy as np
from softcann.build import LIBRARIES

L = ctypes.CDLL(str(LIBRARIES / "libascendcl.so"))
for name in ("aclCreateTensor", "aclCreateScalar", "aclCreateTensorList"):
    getattr(L, name).restype = c_void_p
L.aclGetRecentErrMsg.restype = ctypes.c_char_p

def allocate(size):
    address = c_void_p()
    return L.aclrtMalloc(byref(address), c_size_t(size), 0), address

def upload(array):
    code, address = allocate(array.nbytes)
    assert code == 0
    size = c_size_t(array.nbytes)
    assert L.aclrtMemcpy(address, size, array.ctypes.data_as(c_void_p), size, 1) == 0
    return address

def download(address, like):
    out = np.empty_like(like)
    size = c_size_t(out.nbytes)
    assert L.aclrtMemcpy(out.ctypes.data_as(c_void_p), size, address, size, 2) == 0
    return out

def tensor(address, shape, dtype=0, strides=None, offset=0):
    sizes = (c_int64 * len(shape))(*shape)
    steps = (c_int64 * len(shape))(*strides) if strides else None
    return c_void_p(L.aclCreateTensor(sizes, c_uint64(len(shape)), dtype, steps, c_int64(offset), 2, sizes,
                                      c_uint64(len(shape)), address))

one = ctypes.c_float(1)
ONE = c_void_p(L.aclCreateScalar(byref(one), 0))

def prepare_add(a, b, out):
    size, executor = c_uint64(), c_void_p()
    return L.aclnnAddGetWorkspaceSize(a, b, ONE, out, byref(size), byref(executor)), executor

def run_add(executor):
    return L.aclnnAdd(None, c_uint64(0), executor, None)

def said():
    return L.aclGetRecentErrMsg().decode()
"""


def run(program: str, log: Path | None = None, **more: str) -> str:
    """What ``program`` printed."""
    environment = emulator_environment(log, **more)
    finished = subprocess.run(
        [sys.executable, "-c", BEGIN + program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_strided_and_broadcast_operands_equal_numpy() -> None:
    printed = run("""
a = np.arange(12, dtype=np.float32).reshape(3, 4)
b = np.arange(5, dtype=np.float32)
out = upload(np.zeros((4, 3), np.float32))
# a transposed, plus b[2:5] in each row
code, executor = prepare_add(tensor(upload(a), (4, 3), strides=(1, 4)), tensor(upload(b), (3,), strides=(1,), offset=2),
                             tensor(out, (4, 3)))
print(code, run_add(executor), (download(out, np.zeros((4, 3), np.float32)) == a.T + b[2:]).all())
""")
    assert printed == "0 0 True"


@pytest.mark.parametrize("dtype, number", [("float16", 1), ("bfloat16", 27)])
def test_half_precision_rounds_to_nearest_even(dtype: str, number: int) -> None:
    """All 65536 patterns are read exactly; sums of neighbours round as numpy (float16) and PyTorch (bfloat16) do."""
    printed = run(f"""
import torch
bits = np.arange(65536, dtype=np.uint16)
whole = torch.from_numpy(bits.view(np.int16)).view(torch.{dtype})
other = torch.roll(whole, 257)
zero = torch.zeros(65536)
wide = upload(np.zeros(65536, np.float32))
code, executor = prepare_add(tensor(upload(bits), (65536,), {number}), tensor(upload(zero.numpy()), (65536,)),
                             tensor(wide, (65536,)))
assert code == 0 and run_add(executor) == 0
print(np.array_equal(download(wide, zero.numpy()), whole.float().numpy(), equal_nan=True))
out = upload(bits)
code, executor = prepare_add(tensor(upload(bits), (65536,), {number}),
                             tensor(upload(other.view(torch.int16).numpy()), (65536,), {number}),
                             tensor(out, (65536,), {number}))
assert code == 0 and run_add(executor) == 0
found = torch.from_numpy(download(out, bits).view(np.int16)).view(torch.{dtype}).float().numpy()
print(np.array_equal(found, (whole.float() + other.float()).to(torch.{dtype}).float().numpy(), equal_nan=True))
""")
    assert printed.split() == ["True", "True"]


def test_refusals_name_operator_argument_found_and_documented() -> None:
    printed = run("""
x = upload(np.zeros(12, np.float32))
print(prepare_add(tensor(x, (3, 4)), tensor(x, (5,)), tensor(x, (3, 4)))[0], said())
print(prepare_add(tensor(x, (3, 4)), tensor(x, (4,)), tensor(x, (4,)))[0], said())
print(prepare_add(tensor(x, (3, 4), 16), tensor(x, (4,)), tensor(x, (3, 4)))[0], said())
print(prepare_add(None, tensor(x, (4,)), tensor(x, (4,)))[0], said())
print(L.aclnnBincountGetWorkspaceSize(), said())
print(L.aclnnPagedAttentionGetWorkspaceSize(), said())
""").splitlines()
    assert printed[0].startswith("161002 softcann: aclnnAdd: found shapes (3, 4) and (5), which do not broadcast")
    assert printed[1].startswith("161002 softcann: aclnnAdd: out: found shape (4), documented is (3, 4)")
    assert printed[2].startswith("161002 softcann: aclnnAdd: self: found complex64, documented is float32")
    assert printed[3].startswith("161001 softcann: aclnnAdd: self: found null, documented as required")
    assert all("(" in line and "aclnnAdd" in line.rpartition("(")[2] for line in printed[:4])
    assert printed[4].startswith("161002 softcann: softcann has no aclnnBincount; add it in softcann/operators/")
    assert printed[5].startswith("161002 softcann: aclnnPagedAttention: no CANN release documents it")


def test_bad_addresses_are_refused_when_an_operator_runs() -> None:
    printed = run("""
x, y = upload(np.zeros(8, np.float32)), upload(np.zeros(8, np.float32))

def attempt(a, b, out):
    code, executor = prepare_add(a, b, out)
    assert code == 0
    print(run_add(executor) != 0, said())

attempt(tensor(None, (8,)), tensor(x, (8,)), tensor(y, (8,)))
attempt(tensor(x, (9,)), tensor(x, (9,)), tensor(y, (9,)))
attempt(tensor(x, (4,), offset=5), tensor(x, (4,)), tensor(y, (4,)))
attempt(tensor(x, (4,), offset=-1), tensor(x, (4,)), tensor(y, (4,)))
attempt(tensor(x, (4,)), tensor(x, (4,)), tensor(x, (4,), offset=2))
host = np.zeros(8, np.float32)
attempt(tensor(host.ctypes.data_as(c_void_p), (8,)), tensor(x, (8,)), tensor(y, (8,)))
L.aclrtFree(x)
attempt(tensor(x, (8,)), tensor(y, (8,)), tensor(y, (8,)))
""").splitlines()
    expected = [
        "is at a null address",
        "4 beyond the end of the allocation",
        "4 beyond the end of the allocation",
        "which is not device memory",
        "overlaps the input",
        "which is not device memory",
        "of memory that was freed",
    ]
    assert len(printed) == len(expected)
    for line, text in zip(printed, expected):
        assert line.startswith("True softcann: aclnnAdd: ") and text in line


def test_bad_copies_and_frees_are_refused() -> None:
    printed = run("""
x = upload(np.zeros(8, np.float32))
host = np.zeros(64, np.uint8).ctypes.data_as(c_void_p)
big, small = c_size_t(64), c_size_t(8)
print(L.aclrtMemcpy(x, big, host, big, 1), said())
print(L.aclrtMemcpy(x, small, host, big, 1), said())
print(L.aclrtMemcpyAsync(host, big, None, small, 2, None), said())
print(L.aclrtMemset(host, small, 0, small), said())
print(L.aclrtFree(c_void_p(x.value + 4)), said())
print(L.aclrtFree(x), L.aclrtFree(x), said())
""").splitlines()
    assert "aclrtMemcpy: found 64 bytes at 0x" in printed[0] and "32 beyond the end" in printed[0]
    assert "aclrtMemcpy: found 64 bytes into room for 8" in printed[1]
    assert "aclrtMemcpyAsync: found a null source" in printed[2]
    assert "aclrtMemset: found the address 0x" in printed[3] and "not device memory" in printed[3]
    assert "is not the start of a live allocation" in printed[4]
    assert printed[5].startswith("0 107000 ")


def test_memory_is_limited_and_its_peak_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    printed = run(
        """
code, half = allocate(1 << 29)
print(code, allocate((1 << 29) + 1)[0], said())
L.aclrtFree(half)
free, total = c_size_t(), c_size_t()
L.aclrtGetMemInfo(0, byref(free), byref(total))
print(free.value, total.value)
""",
        log,
        SOFTCANN_MEMORY_GIB="1",
    ).splitlines()
    assert printed[0] == (
        "0 207001 softcann: device memory: asked for 536870913 bytes, 536870912 of 1073741824 are in use "
        "(SOFTCANN_MEMORY_GIB)"
    )
    assert printed[1] == "1073741824 1073741824"
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["event"], last["peak_bytes"], last["limit_bytes"]) == ("memory", 1 << 29, 1 << 30)
    assert (last["in_use_bytes"], last["allocations"]) == (0, 0)


def test_what_is_never_freed_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run("allocate(1000), allocate(24)", log)
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["in_use_bytes"], last["allocations"]) == (1024, 2)


def test_mapped_memory_keeps_its_content_and_is_checked() -> None:
    printed = run("""
size = 1 << 21
where, handle = c_void_p(), c_void_p()
assert L.aclrtReserveMemAddress(byref(where), c_size_t(2 * size), c_size_t(0), None, c_uint64(0)) == 0
assert L.aclrtMallocPhysical(byref(handle), c_size_t(size), None, c_uint64(0)) == 0
second = c_void_p(where.value + size)
assert L.aclrtMapMem(where, c_size_t(size), c_size_t(0), handle, c_uint64(0)) == 0
assert L.aclrtMemset(where, c_size_t(size), 7, c_size_t(size)) == 0
print(L.aclrtMemset(second, c_size_t(4), 7, c_size_t(4)) != 0)
assert L.aclrtUnmapMem(where) == 0
print(L.aclrtMemset(where, c_size_t(4), 7, c_size_t(4)) != 0, "freed" in said())
assert L.aclrtMapMem(second, c_size_t(size), c_size_t(0), handle, c_uint64(0)) == 0
print((download(second, np.zeros(size, np.uint8)) == 7).all())
""")
    assert printed.split() == ["True", "True", "True", "True"]


def test_an_executor_keeps_its_tensors_and_takes_new_addresses(tmp_path: Path) -> None:
    log = tmp_path / "log"
    printed = run(
        """
x, y = upload(np.full(4, 1, np.float32)), upload(np.full(4, 10, np.float32))
out = upload(np.zeros(4, np.float32))
a, b, c = tensor(x, (4,)), tensor(y, (4,)), tensor(out, (4,))
code, executor = prepare_add(a, b, c)
assert L.aclSetAclOpExecutorRepeatable(executor) == 0
for one in (a, b, c):
    assert L.aclDestroyTensor(one) == 0
print(L.aclDestroyTensor(a) != 0)
print(run_add(executor), download(out, np.zeros(4, np.float32))[0])
assert L.aclSetTensorAddr(executor, c_size_t(0), a, y) == 0
print(run_add(executor), download(out, np.zeros(4, np.float32))[0])
print(L.aclDestroyAclOpExecutor(executor))
""",
        log,
    )
    assert printed.split() == ["True", "0", "11.0", "0", "20.0", "0"]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    adds = [line for line in lines if line["event"] == "aclnn"]
    assert [line["name"] for line in adds] == ["aclnnAdd"] * 2
    assert adds[0]["arguments"][0] == {"dtype": "float32", "shape": [4]}


def test_outputs_that_share_memory_are_refused() -> None:
    """In place is element for element; slices of one tensor may lie between each other."""
    printed = run("""
x, y = upload(np.arange(32, dtype=np.float32)), upload(np.arange(32, dtype=np.float32))

def attempt(a, b, out):
    code, executor = prepare_add(a, b, out)
    print(code or run_add(executor), said())

attempt(tensor(x, (4, 4)), tensor(y, (4, 4)), tensor(x, (4, 4)))
attempt(tensor(x, (8,), strides=(2,)), tensor(y, (8,)), tensor(x, (8,), strides=(2,), offset=1))
attempt(tensor(x, (4, 4), strides=(1, 4)), tensor(y, (4, 4)), tensor(x, (4, 4)))
attempt(tensor(x, (2, 3), strides=(4, 1)), tensor(y, (2, 3)), tensor(x, (2, 3), strides=(4, 1), offset=1))
attempt(tensor(x, (8,)), tensor(x, (8,)), tensor(y, (8,), strides=(0,)))
attempt(tensor(x, (8,), 1), tensor(y, (8,)), tensor(x, (8,)))
attempt(tensor(x, (2,), strides=(1 << 62,)), tensor(y, (2,)), tensor(y, (2,)))
attempt(tensor(x, (-4,)), tensor(y, (-4,)), tensor(y, (-4,)))

def other(function, *arguments):
    size, executor = c_uint64(), c_void_p()
    code = getattr(L, function + "GetWorkspaceSize")(*arguments, byref(size), byref(executor))
    print(code or getattr(L, function)(None, size, executor, None), said())

L.aclCreateIntArray.restype = c_void_p
axes = c_void_p(L.aclCreateIntArray((c_int64 * 2)(1, 0), c_uint64(2)))
other("aclnnPermute", tensor(x, (4, 4)), axes, tensor(x, (4, 4)))
numbers = c_int64(2), c_int64(0), True, True
other("aclnnTopk", tensor(x, (4,)), *numbers, tensor(y, (2,)), tensor(y, (2,), 9))
""").splitlines()
    assert [line.split()[0] for line in printed[:2]] == ["0", "0"]
    expected = ["overlaps the input"] * 2 + ["elements at one address (stride 0)", "overlaps the input"]
    expected += ["reaches beyond all memory", "sizes of 0 or more", "overlaps the input", "overlaps the output"]
    for line, text in zip(printed[2:], expected, strict=True):
        assert text in line and "softcann: aclnn" in line


def test_what_is_gone_is_refused_with_a_message() -> None:
    """Executors, tensors, streams and memory, used or destroyed a second time."""
    printed = run("""
x, y = upload(np.zeros(8, np.float32)), upload(np.zeros(8, np.float32))
a, b, out = tensor(x, (8,)), tensor(x, (8,)), tensor(y, (8,))
one = prepare_add(a, b, out)[1]
print(run_add(one), run_add(one), said())
one = prepare_add(a, b, out)[1]
print(L.aclDestroyAclOpExecutor(one), L.aclDestroyAclOpExecutor(one), said())
print(L.aclDestroyTensor(a), prepare_add(a, b, out)[0], said())
host = c_void_p()
L.aclrtMallocHost(byref(host), c_size_t(64))
print(L.aclrtFreeHost(host), L.aclrtFreeHost(host), said())
stream, event, size = c_void_p(), c_void_p(), c_size_t(8)
L.aclrtCreateStream(byref(stream)), L.aclrtCreateEvent(byref(event))
print(0, L.aclrtStreamWaitEvent(stream, event), said())
print(0, L.aclrtEventElapsedTime(byref(ctypes.c_float()), event, event), said())
print(L.aclrtRecordEvent(event, stream), L.aclrtRecordEvent(stream, stream), said())
print(L.aclrtStreamWaitEvent(stream, event), L.aclrtDestroyEvent(stream), said())
print(L.aclrtDestroyStream(stream), L.aclrtMemsetAsync(x, size, 0, size, stream), said())
one = prepare_add(b, b, out)[1]
print(0, L.aclnnAdd(None, c_uint64(0), one, stream), said())
""").splitlines()
    expected = [
        "161002 softcann: aclnnAdd: the executor was destroyed, or run before",
        "161002 softcann: aclDestroyAclOpExecutor: the executor was destroyed, or run before",
        "161002 softcann: aclnnAdd: found an argument that was destroyed, or never made",
        "107000 softcann: aclrtFreeHost: 0x",
        "107003 softcann: aclrtStreamWaitEvent: found an event that was never recorded",
        "107003 softcann: aclrtEventElapsedTime: found an event that was never recorded",
        "107003 softcann: aclrtRecordEvent: found the handle of a stream, expected an event",
        "107003 softcann: aclrtDestroyEvent: found the handle of a stream, expected an event",
        "107003 softcann: aclrtMemsetAsync: found a stream that was destroyed, or never made",
        "107003 softcann: aclnnAdd: found a stream that was destroyed, or never made",
    ]
    for line, text in zip(printed, expected, strict=True):
        assert line.startswith(f"0 {text}")


def test_the_kind_of_a_copy_is_checked_on_both_sides() -> None:
    printed = run("""
x, y = upload(np.zeros(8, np.float32)), upload(np.zeros(8, np.float32))
host = np.zeros(32, np.uint8).ctypes.data_as(c_void_p)
size = c_size_t(32)
print([L.aclrtMemcpy(*pair, kind) for pair, kind in [
    ((host, size, host, size), 0), ((x, size, host, size), 1), ((host, size, x, size), 2), ((x, size, y, size), 3),
    ((x, size, host, size), 4), ((host, size, x, size), 4), ((x, size, y, size), 4), ((x, size, host, size), 5),
    ((x, size, y, size), 6), ((x, size, y, size), 7)]])
for target, source, kind in [(x, y, 1), (x, y, 2), (host, x, 0), (host, host, 3), (x, host, 99)]:
    print(L.aclrtMemcpy(target, size, source, size, kind), said())
huge = c_size_t(2**64 - 4096)
print(L.aclrtMemcpy(x, c_size_t(2**64 - 1), host, huge, 1), said())
print(L.aclrtMemset(x, c_size_t(2**64 - 1), 0, huge), said())
L.aclrtFree(y)
print(L.aclrtMemcpy(x, size, y, size, 1), said())
""").splitlines()
    assert printed[0] == str([0] * 10)
    host, beyond = "where the kind of copy says host as ", "beyond the end of all memory"
    expected = [host + "source", host + "destination", host + "source", "not device memory as destination"]
    expected += ["kind 99, documented is 0 to 7", beyond + " as destination", beyond, host + "source"]
    for line, text in zip(printed[1:], expected, strict=True):
        assert line.startswith("107000 softcann: aclrtMem") and text in line


def test_mapped_and_allocated_memory_are_not_mixed_up() -> None:
    printed = run("""
zero, size = c_uint64(0), c_size_t(4096)
where, handle = c_void_p(), c_void_p()
L.aclrtReserveMemAddress(byref(where), size, c_size_t(0), None, zero)
L.aclrtMallocPhysical(byref(handle), size, None, zero)
assert L.aclrtMapMem(where, size, c_size_t(0), handle, zero) == 0
print(L.aclrtFree(where), said())
print(L.aclrtMapMem(where, size, c_size_t(0), handle, zero), said())
print(L.aclrtReleaseMemAddress(where), said())
x = allocate(64)[1]
print(L.aclrtUnmapMem(x), said())
L.aclrtFree(x)
assert L.aclrtUnmapMem(where) == L.aclrtFreePhysical(handle) == L.aclrtReleaseMemAddress(where) == 0
print(L.aclrtFreePhysical(handle), said())
free, total = c_size_t(), c_size_t()
L.aclrtGetMemInfo(0, byref(free), byref(total))
print(total.value - free.value)
""").splitlines()
    expected = ["was mapped with aclrtMapMem", "call aclrtUnmapMem first", "call aclrtUnmapMem first"]
    expected += ["was allocated with aclrtMalloc", "freed before, or never allocated"]
    for line, text in zip(printed[:-1], expected, strict=True):
        assert line.startswith("107000 ") and text in line
    assert printed[-1] == "0"


def test_ninety_thousand_allocations_with_freed_ones_between() -> None:
    """The kernel counts the ranges of a process (vm.max_map_count, 65530): small freed ranges must not split others."""
    printed = run("""
for i in range(90000):
    code, address = allocate(64)
    assert code == 0, said()
    if i % 2:
        L.aclrtFree(address)
print(L.aclrtMemset(address, c_size_t(4), 0, c_size_t(4)), "freed" in said())
print(sum(1 for _ in open("/proc/self/maps")) < 5000)
""")
    assert printed.split() == ["107000", "True", "True"]
