"""Reading with size limits, and atomic writing."""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from mindcoder.errors import NoSpaceError, UserError
from mindcoder.temporary import clear_abandoned, held_directory, held_file, refuse_second_writer, temporary_beside

TEXT_LIMIT = 64 << 20  # bytes; the largest published tokenizer.json is about half of it
DEPTH_LIMIT = 64  # for JSON; configurations and records need fewer than ten levels
STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # possessive: a single pass over any text
BRACKETS = {"[": 1, "{": 1, "]": -1, "}": -1}


def read_bytes(path: str | Path, limit: int = TEXT_LIMIT) -> bytes:
    """The content of a regular file (or of a pipe such as ``/dev/stdin``).

    Args:
        limit: maximum size in bytes; no more are read.

    Raises:
        UserError: it is missing, unreadable, not a file, or longer.
    """
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UserError("is a folder, a file is expected", path)
        if not stat.S_ISREG(mode) and not str(path).startswith(("/dev/fd/", "/dev/stdin", "/proc/self/fd/")):
            raise UserError("is not a regular file", path)  # a named pipe would block, a device is endless
        with open(path, "rb") as stream:
            data = stream.read(limit + 1)
    except FileNotFoundError:
        raise UserError("no such file", path) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise UserError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path) from None
    if len(data) > limit:
        raise UserError(f"is longer than {_size(limit)}, the most that is read of such a file", path)
    return data


def file_there(path: Path) -> bool:
    """Whether a file exists.

    Raises:
        UserError: it is something else: a folder, or a dangling link.
    """
    try:
        if path.is_file():
            return True
        if path.is_symlink() and not path.exists():
            raise UserError(f"is a link to {path.readlink()}, which does not exist", path)
        if path.is_dir():
            raise UserError("is a folder, a file is expected", path)
        if path.exists():
            raise UserError("is not a regular file", path)
    except OSError as error:
        raise UserError(f"cannot be opened: {error.strerror}", path) from None
    return False


def read_text(path: str | Path, limit: int = TEXT_LIMIT) -> str:
    """Read a UTF-8 file, with or without a byte order mark.

    Raises:
        UserError: as `read_bytes`, or it is not UTF-8; names the line.
    """
    data = read_bytes(path, limit)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError("is UTF-16, expected UTF-8", path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"is not UTF-8 text: {error.reason} (byte {error.start})", path, line) from None


def read_json(path: str | Path, limit: int = TEXT_LIMIT, max_depth: int = DEPTH_LIMIT) -> Any:
    """Read a JSON file; see `parse_json`.

    Raises:
        UserError: as `read_text` and `parse_json`.
    """
    return parse_json(read_text(path, limit), path, max_depth=max_depth)


def read_json_object(path: str | Path, limit: int = TEXT_LIMIT, max_depth: int = DEPTH_LIMIT) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Raises:
        UserError: as `read_json`, or it contains something else.
    """
    value = read_json(path, limit, max_depth)
    if not isinstance(value, dict):
        raise UserError(f"holds {json_kind(value)}, expected an object {{…}}", path)
    return value


def parse_json(
    text: str,
    file: str | Path | None,
    line: int | None = None,
    max_depth: int = DEPTH_LIMIT,
    what: str = "",
    non_finite: bool = False,
) -> Any:
    """Parse strict JSON (RFC 8259): unique keys per object, finite numbers.

    Args:
        file: named in errors.
        line: line of ``file`` that ``text`` is; without it errors name the line within ``text``.
        max_depth: maximum nesting of objects and arrays, checked before parsing.
        what: prefix of messages, such as "record 3".
        non_finite: accept NaN and Infinity.

    Raises:
        UserError: malformed, nested too deeply, a duplicate key, or NaN or Infinity.
    """
    prefix = f"{what}: " if what else ""
    if json_depth(text, max_depth) > max_depth:
        raise UserError(f"{prefix}JSON nested more than {max_depth} deep", file, line)
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_float=None if non_finite else _finite,
            parse_constant=None if non_finite else _finite,
        )
    except json.JSONDecodeError as error:
        column = "" if line is None else f" at column {error.colno}"
        raise UserError(f"{prefix}bad JSON: {error.msg}{column}", file, line or error.lineno) from None
    except RecursionError:
        raise UserError(f"{prefix}JSON nested too deeply", file, line) from None
    except ValueError as error:
        raise UserError(f"{prefix}bad JSON: {_reason(error)}", file, line) from None


def json_depth(text: str, enough: int = 0) -> int:
    """Nesting depth of the brackets in ``text``; if there are fewer than ``enough`` brackets, their number."""
    opening = text.count("[") + text.count("{")
    if opening <= enough:
        return opening
    bare = STRING.sub("", text)
    return max(accumulate(BRACKETS.get(character, 0) for character in bare), default=0)


def json_kind(value: Any) -> str:
    """The JSON type name of a value."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} occurs twice")
    return found


def _finite(text: str) -> float:
    value = float(text.replace("Infinity", "inf"))
    if not math.isfinite(value):
        raise ValueError(f"{text[:30]} is not a finite number")
    return value


def _reason(error: ValueError) -> str:
    """A reason for users: Python's own message about long numbers is for programmers."""
    return "a number of more than 4300 digits" if "integer string conversion" in str(error) else str(error)


def _size(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"


def output_target(path: Path) -> Path:
    """The path where a file named ``path`` is written, with links to files resolved, so that they are kept.

    Raises:
        UserError: it is not a regular file (a device, a pipe, a folder), or a dangling link.
    """
    return path.resolve() if file_there(path) and path.is_symlink() else path


def put_in_place(finished: Path, path: Path) -> None:
    """Move a finished file from the folder of ``path`` to that name.

    Raises:
        UserError: as `output_target`.
    """
    if output_target(path) == path:
        os.replace(finished, path)
        return
    with open(finished, "rb") as source, replacing(path) as stream:  # a link may point to another file system
        shutil.copyfileobj(source, stream)


def write_text(path: Path, text: str) -> None:
    """Write to a temporary file and rename it."""
    with replacing(path) as stream:
        stream.write(text.encode())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside ``path`` for writing, renamed to it at the end; on an error nothing changes.

    Raises:
        UserError: as `output_target`, or nothing can be written there.
    """
    path = output_target(path)
    temporary = temporary_beside(path)
    with no_space_error(path):
        clear_abandoned(path.parent, path.name)
        try:
            with held_file(temporary) as descriptor, open(descriptor, "wb", closefd=False) as stream:
                yield stream
                stream.flush()
                os.fsync(descriptor)
                os.replace(temporary, path)
        except OSError as error:
            if error.filename not in (temporary, str(temporary)):
                raise
            raise UserError(f"cannot be written: {error.strerror}", path) from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Raises:
        UserError: a file is in its place or above it, or it may not be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), folder)
        raise UserError("is a file, not a folder", file) from None
    except OSError as error:
        raise UserError(f"cannot be made: {error.strerror}", folder) from None


@contextlib.contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """A folder to write files into; if it was made here and an error leaves it empty, it is removed again.

    Raises:
        UserError: as `make_folder`.
        NoSpaceError: the disk is full.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        make_folder(folder)
        with no_space_error(folder):
            yield folder
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


@contextlib.contextmanager
def staging_directory(target: Path) -> Iterator[Path]:
    """An empty directory beside ``target`` to write into; removed at the end with whatever is left in it.

    Raises:
        UserError: another process is writing ``target``.
    """
    make_folder(target.parent)
    staging = temporary_beside(target)
    try:
        with no_space_error(target), held_directory(staging):
            refuse_second_writer(target, staging)
            yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def honour_umask(path: Path) -> None:
    """Give a file, or every file below a directory, the default permissions of `open`.

    safetensors and MindRecord create their files readable by the owner only (0600).
    """
    files = [item for item in path.rglob("*") if item.is_file()] if path.is_dir() else [path]
    for file in files:
        file.chmod(0o666 & ~_umask())


def _umask() -> int:
    """The umask of this process; on Linux read without changing it for other threads."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


# Messages of Python and safetensors, MindSpore's MindRecord writer and SQLite.
DISK_FULL = ("No space left", "not enough disk space", "File too large", "No free disk", "disk is full")
NEARLY_NOTHING = 1 << 20  # bytes


@contextlib.contextmanager
def no_space_error(target: Path) -> Iterator[None]:
    """Turn libraries' various "disk full" errors into one `NoSpaceError` that names ``target``."""
    try:
        yield
    except NoSpaceError:
        raise
    except Exception as error:
        free, text = shutil.disk_usage(target.parent).free, str(error)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        full |= "Failed to write" in text and free < NEARLY_NOTHING  # from MindSpore, which does not state the reason
        if full or any(words in text for words in DISK_FULL):
            raise NoSpaceError(
                f"no disk space left to write it ({free / 1e6:.0f} MB free); nothing was changed", target
            ) from None
        raise


def require_space(target: Path, needed: int) -> None:
    """Refuse to write if ``needed`` bytes will not fit.

    Raises:
        NoSpaceError: with both numbers.
    """
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise NoSpaceError(f"no disk space: {needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free", target)
