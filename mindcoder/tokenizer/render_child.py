"""Renders untrusted chat templates in a process of its own, with limited time and memory.

Every line on stdin is a request, ``{"template": Jinja text, "jobs": [{"messages": [...], "tools": [...] or null,
"add_generation_prompt": bool}, ...], "variables": {...}, "marks": bool}``, and is answered by a line on stdout:
``{"texts": [...], "spans": [[[begin, end], ...], ...]}`` or ``{"error": reason}``. Spans are what ``{% generation %}``
encloses, in characters, if ``marks`` asks for them.

The environment is that of transformers 4.57.1 (utils/chat_template_utils.py, _compile_jinja_template): jinja2's
ImmutableSandboxedEnvironment, which keeps a template from calling or changing what it should not. The module imports
nothing of ours, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import json
import resource
import secrets
import signal
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

SECONDS, MEMORY = 2, 1 << 30  # CPU seconds a request; bytes of address space
LONGEST = 1 << 20  # characters that a template may add to the text of its messages
TOO_MUCH = "it takes too much time or memory"
Jobs = list[dict[str, Any]]


def main() -> None:
    """Answer the requests on stdin until it ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no writing to files
    signal.signal(signal.SIGPROF, _stop)
    for line in sys.stdin:
        json.dump(_answer(line), sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()


class TooMuch(Exception):
    """The request has used up its time."""


def _stop(*_: Any) -> NoReturn:
    raise TooMuch


def _answer(line: str) -> dict[str, Any]:
    try:
        # An operation that Python cannot interrupt is ended with the process, by SIGVTALRM.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_VIRTUAL, 2 * SECONDS)
        asked = json.loads(line)
        texts, spans = fill_in(asked["template"], asked["jobs"], asked["variables"], asked["marks"])
        return {"texts": texts, "spans": spans}
    except TooMuch:
        return {"error": TOO_MUCH}
    except MemoryError:
        return {"error": f"MemoryError: {TOO_MUCH}"}
    except Exception as error:  # a template may fail in any way
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def fill_in(
    text: str, jobs: Jobs, variables: dict[str, Any], marks: bool = False
) -> tuple[list[str], list[list[tuple[int, int]]]]:
    """Render each job with the Jinja template ``text``; without the limits of `main`, so only for our own.

    Returns:
        The texts, and of each what ``{% generation %}`` encloses: empty unless ``marks``.
    """
    template = _compile(text)
    mark = secrets.token_hex(16) if marks else ""
    found = [_spans(_render(template, job, variables, mark), mark) for job in jobs]
    return [rendered for rendered, _ in found], [spans for _, spans in found]


@lru_cache(maxsize=8)
def _compile(text: str) -> Any:
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """``{% generation %}``, which encloses an assistant's words; its content is rendered unchanged."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_enclosed"), [], [], body).set_lineno(line)

        def _enclosed(self, caller: Any) -> str:
            mark = self.environment.globals["generation_mark"]
            return f"{mark}{caller()}{mark}"

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None,
               sort_keys: bool = False) -> str:  # fmt: skip
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.globals["generation_mark"] = ""
    return environment.from_string(text)


def _render(template: Any, job: dict[str, Any], variables: dict[str, Any], mark: str) -> str:
    given = len(json.dumps([job["messages"], job.get("tools")]))
    template.environment.globals["generation_mark"] = mark
    parts, length = [], 0
    for part in template.generate(documents=None, **{**variables, "tools": None, **job}):
        length += len(part)
        if length > LONGEST + 8 * given:
            raise ValueError(f"it makes more than {LONGEST} characters of a short conversation")
        parts.append(part)
    return "".join(parts)


def _spans(text: str, mark: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without marks, and the spans between them."""
    if not mark:
        return text, []
    pieces = text.split(mark)
    if len(pieces) % 2 == 0:
        raise ValueError("{% generation %} is used inside another, or cut off")
    spans, end = [], 0
    for number, piece in enumerate(pieces):
        begin, end = end, end + len(piece)
        if number % 2:
            spans.append((begin, end))
    return "".join(pieces), spans


if __name__ == "__main__":
    main()
