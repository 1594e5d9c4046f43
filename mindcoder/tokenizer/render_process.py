"""The process in which chat templates of strangers are rendered (`mindcoder.tokenizer.render_child`)."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mindcoder.errors import UserError, single_line
from mindcoder.tokenizer import render_child

LARGEST = 1 << 18  # characters of a template; the longest published ones have some 20,000
SECONDS = 60.0  # of waiting for an answer; the child ends itself after `render_child.SECONDS` of computing
CHUNK = 1 << 16


class CannotRender(UserError):
    """One-line reason why a template could not be rendered."""


@dataclass(frozen=True)
class Rendered:
    """A text, and what ``{% generation %}`` encloses in it: (begin, end) in characters."""

    text: str
    spans: tuple[tuple[int, int], ...] = ()


class RenderProcess:
    """Renders templates, one request at a time; threads may share it, and a forked process starts one of its own.

    The process starts with the first request, and again after one that ended it: a template that takes too much harms
    no other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def render(
        self, text: str, jobs: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], marks: bool = False
    ) -> list[Rendered]:
        """Render ``jobs`` (messages, tools, add_generation_prompt) with the template ``text``.

        Raises:
            CannotRender: it fails, takes too long or too much memory.
        """
        if len(text) > LARGEST:
            raise CannotRender(f"it has more than {LARGEST} characters")
        request = {"template": text, "jobs": list(jobs), "variables": dict(variables), "marks": marks}
        with self._lock_of_this_process():
            answer = self._ask(json.dumps(request).encode() + b"\n")
        if "error" in answer:
            raise CannotRender(single_line(str(answer["error"]), 160))
        return [
            Rendered(rendered, tuple((begin, end) for begin, end in spans))
            for rendered, spans in zip(answer["texts"], answer["spans"])
        ]

    def _lock_of_this_process(self) -> threading.Lock:
        if self._owner != os.getpid():  # forked: the pipes and, possibly, a taken lock are the parent's
            self._lock, self._process, self._owner = threading.Lock(), None, os.getpid()
        return self._lock

    def _ask(self, request: bytes) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(render_child.__file__)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            weakref.finalize(self, _end, self._process, os.getpid())
        process = self._process
        try:
            return json.loads(_exchange(process, request))
        except TimeoutError:
            _end(process, self._owner)
            raise CannotRender(f"it takes more than {SECONDS:.0f} s") from None
        except (OSError, ValueError):  # it has ended
            _end(process, self._owner)
            raise CannotRender(render_child.TOO_MUCH) from None


def _exchange(process: subprocess.Popen[bytes], request: bytes) -> bytes:
    """Write a line, read a line.

    Raises:
        TimeoutError: no answer within `SECONDS`.
        OSError: the process has ended.
    """
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(request)
    process.stdin.flush()
    deadline, answer = time.monotonic() + SECONDS, b""
    while not answer.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            raise TimeoutError
        part = os.read(process.stdout.fileno(), CHUNK)
        if not part:
            raise BrokenPipeError
        answer += part
    return answer


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """End the child, if it is this process's."""
    if os.getpid() != owner:
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was not written yet
                pass
