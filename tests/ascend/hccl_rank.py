"""One rank of a collective on softcann's HCCL, called through ctypes: ``python hccl_rank.py FOLDER RANK RANKS CASE``.

Prints one line: ``OK``, or what HCCL answered.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from softcann.build import LIBRARIES

LIBRARY = ctypes.CDLL(str(LIBRARIES / "libascendcl.so"))
LIBRARY.aclGetRecentErrMsg.restype = ctypes.c_char_p
TYPES = {"int8": 0, "int16": 1, "int32": 2, "float16": 3, "float32": 4, "int64": 5, "uint8": 7, "float64": 10}
TYPES["bfloat16"] = 11
OPERATIONS = {"sum": 0, "product": 1, "maximum": 2, "minimum": 3}


class HcclError(Exception):
    """HCCL's code and message."""


class Buffer:
    """Device memory that holds a numpy array."""

    def __init__(self, array: np.ndarray):
        self.array = np.array(array)
        self.address = ctypes.c_void_p()
        assert LIBRARY.aclrtMalloc(ctypes.byref(self.address), ctypes.c_size_t(max(self.array.nbytes, 1)), 0) == 0
        self.copy(self.address, self.array.ctypes.data_as(ctypes.c_void_p), 1)

    def copy(self, target: ctypes.c_void_p, source: ctypes.c_void_p, kind: int) -> None:
        size = ctypes.c_size_t(self.array.nbytes)
        assert LIBRARY.aclrtMemcpy(target, size, source, size, kind) == 0

    def read(self) -> np.ndarray:
        self.copy(self.array.ctypes.data_as(ctypes.c_void_p), self.address, 2)
        return self.array


class Rank:
    """A communicator and numpy arrays through it."""

    def __init__(self, folder: Path, rank: int, ranks: int, name: str = "world"):
        self.rank, self.ranks = rank, ranks
        self.group = ctypes.c_void_p()
        info = ctypes.create_string_buffer(4108)
        meeting = folder / f"root_{name}"
        if rank == 0:
            self.check(LIBRARY.HcclGetRootInfo(info))
            (folder / "draft").write_bytes(info.raw)
            (folder / "draft").rename(meeting)
        while not meeting.exists():
            time.sleep(0.01)
        info.raw = meeting.read_bytes()
        self.check(LIBRARY.HcclCommInitRootInfo(ranks, info, rank, ctypes.byref(self.group)))

    def check(self, code: int) -> None:
        if code:
            raise HcclError(f"{code}: {LIBRARY.aclGetRecentErrMsg().decode()}")

    def call(self, function: str, *arguments) -> None:
        """Call ``function`` with Buffers, whole numbers (64 bits for counts, else 32) and this group."""
        given = [argument.address if isinstance(argument, Buffer) else argument for argument in arguments]
        self.check(getattr(LIBRARY, function)(*given, self.group, None))

    def all_reduce(self, array: np.ndarray, operation: str = "sum", dtype: str | None = None) -> np.ndarray:
        send, receive = Buffer(array), Buffer(np.zeros_like(array))
        kind = TYPES[dtype or array.dtype.name]
        self.call("HcclAllReduce", send, receive, ctypes.c_uint64(array.size), kind, OPERATIONS[operation])
        return receive.read()

    def send(self, array: np.ndarray, to: int) -> None:
        self.call("HcclSend", Buffer(array), ctypes.c_uint64(array.size), TYPES[array.dtype.name], to)

    def receive(self, like: np.ndarray, source: int) -> np.ndarray:
        into = Buffer(np.zeros_like(like))
        self.call("HcclRecv", into, ctypes.c_uint64(like.size), TYPES[like.dtype.name], source)
        return into.read()


def data_of(rank: int, size: int, dtype: str = "float32") -> np.ndarray:
    """The same numbers for ``rank`` in every process."""
    random = np.random.default_rng(rank)
    if dtype.startswith("float"):
        return random.standard_normal(size).astype(dtype)
    return random.integers(-3, 4, size).astype(dtype)


def in_order(arrays: list[np.ndarray], operation: str) -> np.ndarray:
    """The reduction over ranks, 0 first, float16 in float32: what softcann promises to the bit."""
    combine = {"sum": np.add, "product": np.multiply, "maximum": np.maximum, "minimum": np.minimum}[operation]
    wide = [array.astype(np.float32) if array.dtype == np.float16 else array for array in arrays]
    result = wide[0]
    for array in wide[1:]:
        result = combine(result, array)
    return result.astype(arrays[0].dtype)


def bfloat16_bits(array: np.ndarray) -> np.ndarray:
    """float32 to bfloat16, nearest and ties to even, as 16-bit integers."""
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def check_reductions(me: Rank) -> None:
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64"):
        for operation in OPERATIONS:
            arrays = [data_of(rank, 1001, dtype) for rank in range(me.ranks)]
            np.testing.assert_array_equal(me.all_reduce(arrays[me.rank], operation), in_order(arrays, operation))
    arrays = [data_of(rank, 1001) for rank in range(me.ranks)]
    bits = [bfloat16_bits(array) for array in arrays]
    exact = in_order([(array.astype(np.uint32) << 16).view(np.float32) for array in bits], "sum")
    np.testing.assert_array_equal(me.all_reduce(bits[me.rank], dtype="bfloat16"), bfloat16_bits(exact))


def check_large(me: Rank) -> None:
    """More than a slice of the shared memory, and no whole number of slices."""
    size = 700_001
    arrays = [data_of(rank, size) for rank in range(me.ranks)]
    np.testing.assert_array_equal(me.all_reduce(arrays[me.rank]), in_order(arrays, "sum"))
    whole = Buffer(np.zeros(size * me.ranks, np.float32))
    me.call("HcclAllGather", Buffer(arrays[me.rank]), whole, ctypes.c_uint64(size), TYPES["float32"])
    np.testing.assert_array_equal(whole.read(), np.concatenate(arrays))
    part = Buffer(np.zeros(size, np.float32))
    tall = [data_of(rank + 10, size * me.ranks) for rank in range(me.ranks)]
    me.call("HcclReduceScatter", Buffer(tall[me.rank]), part, ctypes.c_uint64(size), TYPES["float32"], 0)
    mine = slice(size * me.rank, size * (me.rank + 1))
    np.testing.assert_array_equal(part.read(), in_order([array[mine] for array in tall], "sum"))


def check_rooted(me: Rank) -> None:
    size, root = 400_000, me.ranks - 1
    count, kind = ctypes.c_uint64(size), TYPES["float32"]
    arrays = [data_of(rank, size) for rank in range(me.ranks)]
    buffer = Buffer(arrays[me.rank])
    me.call("HcclBroadcast", buffer, count, kind, root)
    np.testing.assert_array_equal(buffer.read(), arrays[root])
    reduced = Buffer(np.zeros(size, np.float32))
    me.call("HcclReduce", Buffer(arrays[me.rank]), reduced, count, kind, OPERATIONS["maximum"], root)
    np.testing.assert_array_equal(reduced.read(), in_order(arrays, "maximum") if me.rank == root else 0)
    whole = np.concatenate(arrays)
    part = Buffer(np.zeros(size, np.float32))
    me.call("HcclScatter", Buffer(whole), part, count, kind, root)
    np.testing.assert_array_equal(part.read(), arrays[me.rank])
    me.call("HcclBarrier")


def check_exchange(me: Rank) -> None:
    size = 300_000
    count, kind = ctypes.c_uint64(size), TYPES["int32"]
    tall = [data_of(rank, size * me.ranks, "int32").reshape(me.ranks, size) for rank in range(me.ranks)]
    received = Buffer(np.zeros(size * me.ranks, np.int32))
    me.call("HcclAlltoAll", Buffer(tall[me.rank]), count, kind, received, count, kind)
    np.testing.assert_array_equal(received.read().reshape(me.ranks, size), [array[me.rank] for array in tall])
    # Rank a sends a + 2 b elements to rank b, which puts them one apart; the last rank gets them first.
    counts = [[a + 2 * b for b in range(me.ranks)] for a in range(me.ranks)]
    sends, receives = counts[me.rank], [row[me.rank] for row in counts]
    send_places = [sum(sends[:b]) for b in range(me.ranks)]
    receive_places = [sum(receives[a + 1 :]) + me.ranks - a for a in range(me.ranks)]
    send = np.arange(sum(sends), dtype=np.int64) + 1000 * me.rank
    into = Buffer(np.full(sum(receives) + 2 * me.ranks, -1, np.int64))
    lists = [(ctypes.c_uint64 * me.ranks)(*values) for values in (sends, send_places, receives, receive_places)]
    me.call("HcclAlltoAllV", Buffer(send), *lists[:2], TYPES["int64"], into, *lists[2:], TYPES["int64"])
    expected = np.full_like(into.array, -1)
    for a in range(me.ranks):
        start = sum(counts[a][: me.rank])
        expected[receive_places[a] : receive_places[a] + receives[a]] = np.arange(start, start + receives[a]) + 1000 * a
    np.testing.assert_array_equal(into.read(), expected)


def check_pipeline(me: Rank) -> None:
    """All send before any receives, more often than letters fit: no rank waits for its receiver."""
    after, before = (me.rank + 1) % me.ranks, (me.rank - 1) % me.ranks
    for step in range(20):
        me.send(data_of(me.rank * 100 + step, 50_000 + step), after)
    for step in range(20):
        expected = data_of(before * 100 + step, 50_000 + step)
        np.testing.assert_array_equal(me.receive(expected, before), expected)


def check_table(me: Rank) -> None:
    """A group from a rank table, and groups of its even and odd ranks."""
    folder = Path(sys.argv[1])
    table = folder / "table.json"
    draft = folder / f"table_{me.rank}"
    draft.write_text(json.dumps({"server_list": [{"device": [{"rank_id": str(rank)} for rank in range(me.ranks)]}]}))
    draft.rename(table)
    whole = ctypes.c_void_p()
    me.check(LIBRARY.HcclCommInitClusterInfo(str(table).encode(), me.rank, ctypes.byref(whole)))
    arrays = [data_of(rank, 100) for rank in range(me.ranks)]
    parity = me.rank % 2
    members = [rank for rank in range(me.ranks) if rank % 2 == parity]
    numbers = (ctypes.c_uint32 * len(members))(*members)
    me.group, place = ctypes.c_void_p(), members.index(me.rank)
    given = (len(members), numbers, ctypes.c_uint64(7 + parity), place, None, ctypes.byref(me.group))
    me.check(LIBRARY.HcclCreateSubCommConfig(ctypes.byref(whole), *given))
    found, size = ctypes.c_uint32(), ctypes.c_uint32()
    me.check(LIBRARY.HcclGetRankId(me.group, ctypes.byref(found)))
    me.check(LIBRARY.HcclGetRankSize(me.group, ctypes.byref(size)))
    assert (found.value, size.value) == (place, len(members))
    right = in_order([arrays[rank] for rank in members], "sum")
    np.testing.assert_array_equal(me.all_reduce(arrays[me.rank]), right)
    me.check(LIBRARY.HcclCommDestroy(me.group))
    me.group = whole
    np.testing.assert_array_equal(me.all_reduce(arrays[me.rank]), in_order(arrays, "sum"))


def killed_at_the_meeting(me: Rank) -> None:
    """Rank 0 is killed while it waits for the other at the same rank table."""
    if me.rank == 0:
        signal.setitimer(signal.ITIMER_REAL, 1)  # SIGALRM ends a process that has no handler
        check_table(me)


def mismatch_order(me: Rank) -> None:
    me.all_reduce(data_of(me.rank, 8))
    if me.rank == 1:
        me.call("HcclBarrier")
    else:
        me.all_reduce(data_of(me.rank, 8))


def mismatch_count(me: Rank) -> None:
    me.all_reduce(data_of(me.rank, 8 + me.rank))


def mismatch_dtype(me: Rank) -> None:
    me.all_reduce(data_of(me.rank, 8, "float16" if me.rank else "float32"))


def mismatch_operation(me: Rank) -> None:
    me.all_reduce(data_of(me.rank, 8), "maximum" if me.rank else "sum")


def mismatch_root(me: Rank) -> None:
    me.call("HcclBroadcast", Buffer(data_of(me.rank, 8)), ctypes.c_uint64(8), TYPES["float32"], me.rank)


def mismatch_letter(me: Rank) -> None:
    if me.rank == 0:
        me.send(data_of(0, 5), 1)
    elif me.rank == 1:
        me.receive(data_of(0, 6), 0)


def killed(me: Rank) -> None:
    me.all_reduce(data_of(me.rank, 8))
    if me.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    me.all_reduce(data_of(me.rank, 8))


def late(me: Rank) -> None:
    """Two groups, taken in another order: a hang on a card."""
    other = Rank(Path(sys.argv[1]), me.rank, me.ranks, "other")
    first, second = (me, other) if me.rank == 0 else (other, me)
    first.call("HcclBarrier")
    second.call("HcclBarrier")


def check_in_place(me: Rank) -> None:
    """The same buffer, or this rank's part of the longer one."""
    arrays = [data_of(rank, 8) for rank in range(me.ranks)]
    count, kind, whole = ctypes.c_uint64(8), TYPES["float32"], Buffer(np.tile(arrays[me.rank], me.ranks))
    mine = ctypes.c_void_p(whole.address.value + 32 * me.rank)
    me.call("HcclAllGather", mine, whole, count, kind)
    np.testing.assert_array_equal(whole.read(), np.concatenate(arrays))
    me.call("HcclReduceScatter", whole, mine, count, kind, 0)
    same = Buffer(arrays[me.rank])
    me.call("HcclAllReduce", same, same, count, kind, 0)
    np.testing.assert_array_equal(same.read(), in_order(arrays, "sum"))


def overlapping(me: Rank) -> None:
    buffer = Buffer(data_of(me.rank, 9))
    after = ctypes.c_void_p(buffer.address.value + 4)
    me.call("HcclAllReduce", buffer, after, ctypes.c_uint64(8), TYPES["float32"], 0)


def freed_buffer(me: Rank) -> None:
    buffer = Buffer(data_of(me.rank, 8))
    LIBRARY.aclrtFree(buffer.address)
    me.call("HcclBroadcast", buffer, ctypes.c_uint64(8), TYPES["float32"], 0)


def main() -> None:
    folder, rank, ranks, case = sys.argv[1:]
    try:
        me = Rank(Path(folder), int(rank), int(ranks))
        globals()[case](me)
        me.check(LIBRARY.HcclCommDestroy(me.group))
        print("OK")
    except HcclError as error:
        print(error)


if __name__ == "__main__":
    main()
