"""The seam between devices: which one to use, how MindSpore is set up for it, and what it computes in."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mindcoder.backend.cards import device_nodes
from mindcoder.backend.library import argument_table
from mindcoder.backend.threads import VARIABLE, check_thread_count, check_thread_variable
from mindcoder.errors import UserError, single_line


def quiet_environment() -> None:
    """Keep MindSpore's own log lines off the terminal; call before the first import of mindspore.

    A user's own GLOG_v wins.
    """
    os.environ.setdefault("GLOG_v", "3")
    warnings.filterwarnings("ignore", module="mindspore")
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def ascend_present() -> bool:
    """Whether this machine has an Ascend device node."""
    return os.path.exists("/dev/davinci_manager") or bool(device_nodes())


def choose_device(requested: str) -> str:
    """``auto`` becomes ``Ascend`` when there is one, else ``CPU``; other names stay."""
    if requested != "auto":
        return requested
    return "Ascend" if ascend_present() else "CPU"


CANN_LIBRARY = "libge_runner.so"  # MindSpore's Ascend backend cannot be loaded without it


def cann_present() -> bool:
    """Whether the loader can find Huawei's CANN, real or in software."""
    folders = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    home = os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_TOOLKIT_HOME")
    folders += [os.path.join(home, "lib64")] if home else []
    return any(folder and os.path.exists(os.path.join(folder, CANN_LIBRARY)) for folder in folders)


def check_device(device_target: str, file: str | None = None, line: int | None = None) -> None:
    """Refuse an Ascend that is not there, before MindSpore is imported and anything is written.

    Args:
        file, line: where the device was asked for.

    Raises:
        UserError: neither a device nor CANN is here.
    """
    if device_target == "Ascend" and not ascend_present() and not cann_present():
        raise UserError(
            "device_target: found Ascend, and this machine has none (no /dev/davinci_manager, no CANN in "
            "LD_LIBRARY_PATH); expected CPU or auto",
            file,
            line,
        )


def setup_device(
    device_target: str, device_id: int = 0, mode: int = 0, threads: int | None = None, max_call_depth: int = 10000
) -> str:
    """Set MindSpore's context and give the device in use.

    Args:
        device_target: ``auto``, ``CPU`` or ``Ascend``.
        device_id: Ascend card of this process.
        mode: 0 graph, 1 PyNative (for debugging).
        threads: CPU threads; by default as MINDCODER_THREADS says, else all cores.
        max_call_depth: the compiler's recursion limit; loops over layers and parameters are unrolled into calls.

    Raises:
        UserError: Ascend is asked for and is not there or does not start; or the operators for CPU are not there, or
            are those of another version; or no such number of threads.
    """
    check_device(device_target)
    if threads is None:
        check_thread_variable()
    else:
        check_thread_count("threads", threads)
    quiet_environment()
    with signals_held():
        import mindspore as ms

    device = choose_device(device_target)
    ms.set_context(mode=mode)
    ms.set_recursion_limit(max_call_depth)
    if device == "Ascend":
        try:
            ms.set_device("Ascend", device_id)
            # MindSpore takes as many threads as cores allow; with one, it refuses every `if` of a graph.
            ms.runtime.dispatch_threads_num(4)
        except (RuntimeError, ValueError) as error:  # forty lines of it
            reason = single_line(str(error), 200).partition(". ")[0]
            raise UserError(f"device_target: Ascend does not start: {reason}; CPU or auto would") from None
    else:
        argument_table()
        ms.set_device("CPU")
        if threads:
            ms.runtime.set_cpu_affinity(False)
            os.environ["OMP_NUM_THREADS"] = os.environ[VARIABLE] = str(threads)
    return device


def resolve_dtype(name: str):
    """The MindSpore dtype of a device's tensors for ``name``: bfloat16 becomes float32 on CPU.

    `mindcoder.backend.operators.matrix_product` rounds to bfloat16 there.

    Raises:
        ValueError: the name is not one of our float dtypes.
    """
    import mindspore as ms

    if name == "bfloat16":
        return ms.bfloat16 if ms.get_context("device_target") == "Ascend" else ms.float32
    dtypes = {"float32": ms.float32, "float16": ms.float16}
    if name not in dtypes:
        raise ValueError(f"dtype {name!r} is not one of bfloat16, float16, float32")
    return dtypes[name]


def compile_ahead(cell: Any, *inputs: Any) -> None:
    """Compile ``cell`` for ``inputs`` without running it, and give the compiler's freed memory back first.

    Otherwise the compiler's garbage is still resident when the first run's activations come on top: 0.4 GB of the
    peak of a 20-layer model.
    """
    cell.compile(*inputs)
    release_heap()


def release_heap() -> None:
    """Give freed heap pages back to the system (glibc keeps them otherwise); a no-op elsewhere."""
    gc.collect()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):
            pass  # another C library: nothing to give back


@contextmanager
def signals_held() -> Iterator[None]:
    """Within, Ctrl-C waits for the end, and so does a SIGTERM that has a handler; a second one ends the process.

    For imports: an exception amid an extension module's initialization leaves it half made, which shows as an
    ImportError or aborts the interpreter as it exits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: object) -> None:
        if held:
            os.write(2, b"mindcoder: interrupted\n")
            os._exit(128 + number)
        held.append(number)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in before:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C is a KeyboardInterrupt of the main thread also while a graph runs.

    MindSpore has a handler of its own there that sends the process SIGTERM, so that is one too.
    """
    if threading.current_thread() is not threading.main_thread():
        with _terminating_interrupts():
            yield
        return
    with _handled_by(signal.default_int_handler):
        yield


@contextmanager
def interruptible_while_waiting() -> Iterator[None]:
    """As `interruptible`, for the main thread while others compute; nothing in those.

    MindSpore's handler may run late in the main thread, when the step of the other that it was set for has ended.
    """
    if threading.current_thread() is threading.main_thread():
        with _handled_by(signal.default_int_handler):
            yield
    else:
        yield


@contextmanager
def interrupted_afterwards() -> Iterator[None]:
    """As `interruptible`, but Ctrl-C waits for the end; a second one does not.

    For work whose results belong to several threads: an exception amid it would take the others' too.
    """
    if threading.current_thread() is not threading.main_thread():
        with _terminating_interrupts():
            yield
        return
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    try:
        with _handled_by(note):
            yield
    finally:
        if noted:
            raise KeyboardInterrupt


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """A handler of SIGINT and SIGTERM for a while; only the main thread may set one."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def _terminating_interrupts() -> Iterator[None]:
    """Within, SIGTERM is Ctrl-C, unless it has a handler or Ctrl-C is ignored.

    For another thread than the main one, which may not set Python's handlers: C's is set to Python's own function for
    an interruption from anywhere.
    """
    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL or not callable(signal.getsignal(signal.SIGINT)):
        yield
        return
    set_handler = ctypes.CDLL(None).signal
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
    ours = ctypes.cast(ctypes.pythonapi.PyErr_SetInterrupt, ctypes.c_void_p).value
    before = set_handler(signal.SIGTERM, ours)
    signal.siginterrupt(signal.SIGTERM, True)  # so that the main thread wakes up if it waits
    try:
        yield
    finally:
        found = set_handler(signal.SIGTERM, before)
        if found != ours:  # the main thread has set one meanwhile
            set_handler(signal.SIGTERM, found)


HUGE_PAGE = 1 << 21
MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25  # linux/mman.h


def prefer_huge_pages(address: int, size: int) -> None:
    """Ask Linux to back memory with pages of 2 MiB: reading all weights once a token is 5 % faster. Only a hint."""
    begin, end = -(-address // HUGE_PAGE) * HUGE_PAGE, (address + size) // HUGE_PAGE * HUGE_PAGE
    if sys.platform != "linux" or end <= begin:
        return
    try:
        madvise = ctypes.CDLL("libc.so.6").madvise
    except (OSError, AttributeError):
        return
    for advice in (MADV_HUGEPAGE, MADV_COLLAPSE):
        madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), advice)


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
