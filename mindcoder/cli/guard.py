"""Last line of defense: whatever ends a command becomes one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindcoder.backend.device import quiet_environment
from mindcoder.errors import UserError, single_line, system_reason
from mindcoder.launch.options import tell_done

FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130
MINDSPORE_MARKS = ("C++ Call Stack", "Framework Error Message", "The Traceback of Net Construct Code")


class ClosedOutput(Exception):
    """Standard output was closed by its reader; the remaining output is lost."""


def guarded(work: Callable[[], int], debug: bool) -> int:
    """Run ``work`` without MindSpore's own log noise; any exception becomes one line on stderr.

    Args:
        work: returns the exit code.
        debug: print the stack trace too.

    Returns:
        The result of ``work``; 2 for invalid input, 1 for a bug of ours, 130 after Ctrl-C.
    """
    open_standard_streams()
    quiet_environment()
    try:
        code = work()
        _flush_output()
        if code == 0:
            tell_done()
        return code
    except KeyboardInterrupt:
        _print_line("interrupted")
        return INTERRUPTED
    except Exception as error:
        if not debug and _comes_of_interruption(error):
            _print_line("interrupted")
            return INTERRUPTED
        message, code = describe(error)
        if debug:
            with contextlib.suppress(OSError, ValueError):
                traceback.print_exc()
        _print_line(message)
        return code
    finally:
        drop_unwritable_output()


def _comes_of_interruption(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused ``error``: an extension module interrupted while loading raises ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


def describe(error: BaseException) -> tuple[str, int]:
    """One line about ``error``, and its exit code."""
    known = _known(error)
    if known is not None:
        return f"error: {known}", WRONG_INPUT
    if _is_from_mindspore(error):
        return f"error: MindSpore: {_first_sentence(error)} (--debug shows the stack trace)", WRONG_INPUT
    frame = _innermost(error)
    where = f" at {frame[0].name}:{frame[1]}" if frame else ""
    what = single_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 300)
    return f"internal error: {what}{where}; please report it with what --debug shows", FAILED


def _known(error: BaseException) -> str | None:
    """One line for errors caused by the user, the disk or the machine; None for others."""
    if isinstance(error, UserError):
        return single_line(str(error))
    if isinstance(error, ClosedOutput | BrokenPipeError):
        return "standard output was closed before everything was written"
    if isinstance(error, ImportError) and error.name and error.name.split(".")[0] != "mindcoder":
        return f"{error.name} cannot be imported: {single_line(str(error), 200)}; is it installed?"
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "no more threads can be started; see ulimit -u"
    return system_reason(error)


def _innermost(error: BaseException) -> tuple[Path, int] | None:
    frames = traceback.extract_tb(error.__traceback__)
    return (Path(frames[-1].filename), frames[-1].lineno or 0) if frames else None


def _is_from_mindspore(error: BaseException) -> bool:
    if type(error).__module__.split(".")[0] == "mindspore":
        return True
    if not isinstance(error, RuntimeError | ValueError | TypeError):
        return False
    if any(mark in str(error) for mark in MINDSPORE_MARKS):
        return True
    frame = _innermost(error)
    return frame is not None and "mindspore" in frame[0].parts


def _first_sentence(error: BaseException) -> str:
    """The first meaningful line: MindSpore's messages are followed by rulers and call stacks."""
    for line in str(error).splitlines():
        text = line.strip().lstrip("-# ").strip()
        if text and not any(mark in text for mark in MINDSPORE_MARKS):
            return single_line(text, 300)
    return type(error).__name__


class _PerhapsClosed(io.FileIO):
    """Stand-in for a stream whose descriptor was closed when the command started."""

    def write(self, data: Any, /) -> int:
        """Raise the error of a pipe without a reader."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno == errno.EBADF:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
            raise


def open_standard_streams() -> None:
    """Reopen closed descriptors 0, 1 and 2: the next file opened would get them, and messages would be written into
    it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # os.open takes the lowest free number. Output that cannot be read is an error, as with /dev/full.
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            raw = io.BufferedWriter(_PerhapsClosed(number, "w", closefd=False))
            setattr(sys, name, io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace"))
        elif hasattr(stream, "reconfigure"):
            # file names and answers may contain characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")


def _flush_output() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ClosedOutput from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def lost_output(failure: OSError | None) -> str | None:
    """The message about output that could not be written; None if it was, or if its reader left early.

    Args:
        failure: error of the write, if there was one; the output may still be in a buffer otherwise.
    """
    try:
        if failure is not None:
            raise OSError(failure.errno, failure.strerror, "standard output")
        _flush_output()
    except (ClosedOutput, BrokenPipeError) as error:
        raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
        return describe(error)[0] if isinstance(raw, _PerhapsClosed) else None
    except OSError as error:
        return describe(error)[0]
    return None


def _print_line(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody may be reading it
        print(f"mindcoder: {message}", file=sys.stderr, flush=True)


def drop_unwritable_output() -> None:
    """Prevent Python's flush at exit, which prints its own traceback if it fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
