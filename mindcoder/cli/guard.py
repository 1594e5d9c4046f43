"""The last line of defence: whatever ends a command becomes one line on stderr and an exit code."""

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
from mindcoder.errors import UserError, single_line
from mindcoder.parallel.launched import tell_done

FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130
MINDSPORE_MARKS = ("C++ Call Stack", "Framework Error Message", "The Traceback of Net Construct Code")


class ClosedOutput(Exception):
    """Standard output is not read to its end; what should have been printed is lost."""


def guarded(work: Callable[[], int], debug: bool) -> int:
    """Run ``work`` without MindSpore's own noise; whatever it raises becomes one line on stderr.

    Args:
        work: gives the exit code.
        debug: show the stack trace too.

    Returns:
        What ``work`` gave; 2 when something given is wrong, 1 for a fault of ours, 130 after Ctrl-C.
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
    """Whether Ctrl-C is behind ``error``: an extension module that it stops while loading raises ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


def describe(error: BaseException) -> tuple[str, int]:
    """One line about ``error``, and the exit code that goes with it."""
    known = _known(error)
    if known is not None:
        return f"error: {known}", WRONG_INPUT
    if _is_from_mindspore(error):
        return f"error: MindSpore: {_first_sentence(error)} (--debug shows the stack trace)", WRONG_INPUT
    frame = _innermost(error)
    place = f" at {frame[0].name}:{frame[1]}" if frame else ""
    what = single_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 300)
    return f"internal error: {what}{place}; please report it with what --debug shows", FAILED


def _known(error: BaseException) -> str | None:
    """What an error of the user's, the disk's or the machine's says in one line."""
    if isinstance(error, UserError):
        return single_line(str(error))
    if isinstance(error, ClosedOutput | BrokenPipeError):
        return "standard output was closed before everything was written"
    if isinstance(error, OSError):
        return _operating_system(error)
    if isinstance(error, RecursionError):
        return "something given is nested too deeply to be read (--debug shows where)"
    if isinstance(error, MemoryError):
        wanted = f": {single_line(str(error), 200)}" if str(error) else ""
        return f"not enough memory{wanted}"
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are not {error.encoding}: {error.reason} at byte {error.start} (--debug shows where)"
    if isinstance(error, UnicodeError):
        return f"text that cannot be written: {single_line(str(error), 200)} (--debug shows where)"
    if isinstance(error, ImportError) and error.name and error.name.split(".")[0] != "mindcoder":
        return f"{error.name} cannot be imported: {single_line(str(error), 200)}; is it installed?"
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "no more threads can be started; see ulimit -u"
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a path with a null byte in it"
    return None


def _operating_system(error: OSError) -> str:
    """File and reason; ``strerror`` is missing from errors that libraries make themselves."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.ENOSPC:
        reason = "no space left on the disk"
    names = [os.fsdecode(name) if isinstance(name, bytes) else str(name) for name in (error.filename, error.filename2)
             if name is not None]  # fmt: skip
    return single_line(f"{' -> '.join(names)}: {reason}" if names else reason)


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
    """MindSpore's messages are followed by rulers and call stacks; the first line that says something."""
    for line in str(error).splitlines():
        text = line.strip().lstrip("-# ").strip()
        if text and not any(mark in text for mark in MINDSPORE_MARKS):
            return single_line(text, 300)
    return type(error).__name__


class _PerhapsClosed(io.FileIO):
    """A descriptor that was closed when the command began, and only stands for one that could be written to."""

    def write(self, data: Any, /) -> int:
        """Raise what a pipe without a reader raises."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno == errno.EBADF:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
            raise


def open_standard_streams() -> None:
    """A closed descriptor 0, 1 or 2 would be given to the next file opened, and messages would be written into it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest free number. Output that goes nowhere is an error, as into /dev/full.
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            raw = io.BufferedWriter(_PerhapsClosed(number, "w", closefd=False))
            setattr(sys, name, io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names and answers may hold what the terminal cannot


def _flush_output() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ClosedOutput from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def lost_output(failure: OSError | None) -> str | None:
    """What to say of text that could not be written; None where it was, or where its reader left before its end.

    Args:
        failure: of writing it, if there was one; else it may still be in a buffer.
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
    with contextlib.suppress(OSError, ValueError):  # nobody may be there to read it
        print(f"mindcoder: {message}", file=sys.stderr, flush=True)


def drop_unwritable_output() -> None:
    """Python flushes again as it exits, and prints a traceback of its own where that fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
