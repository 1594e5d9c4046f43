"""Renders untrusted chat templates in a process of its own, with limited time and memory.

stdin: ``{"template": Jinja text, "conversations": [[message, ...], ...], "variables": {...}}``; stdout: the rendered
texts as JSON, or ``{"error": reason}``. The environment is that of transformers 4.57.1 (utils/chat_template_utils.py,
_compile_jinja_template): jinja2's ImmutableSandboxedEnvironment, which keeps a template from calling or changing what
it should not. The module imports nothing of ours, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import datetime
from typing import Any, NoReturn

SECONDS, MEMORY = 2, 1 << 30  # CPU seconds; bytes of address space
LONGEST = 1 << 20  # characters of a rendered conversation


def main() -> None:
    """Render the request on stdin."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no writing to files
    asked = json.load(sys.stdin)
    answer: Any
    try:
        answer = fill_in(asked["template"], asked["conversations"], asked["variables"])
    except Exception as error:  # a template may fail in any way
        answer = {"error": f"{type(error).__name__}: {error}"[:200]}
    json.dump(answer, sys.stdout)


def fill_in(text: str, conversations: list[list[dict[str, str]]], variables: dict[str, Any]) -> list[str]:
    """Render each conversation with the Jinja template ``text``; without the limits of `main`, so only for our own."""
    template = _compile(text)
    return [_render(template, messages, variables) for messages in conversations]


def _compile(text: str) -> Any:
    import jinja2
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """``{% generation %}``, which marks an assistant's words; its content is rendered unchanged."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

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
    return environment.from_string(text)


def _render(template: Any, messages: list[dict[str, str]], variables: dict[str, Any]) -> str:
    parts, length = [], 0
    for part in template.generate(messages=messages, tools=None, documents=None, **variables):
        length += len(part)
        if length > LONGEST:
            raise ValueError(f"it makes more than {LONGEST} characters of a short conversation")
        parts.append(part)
    return "".join(parts)


if __name__ == "__main__":
    main()
