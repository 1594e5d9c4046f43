"""The commands of the documentation, as they are written there.

A fenced block marked ``bash``, and the lines after ``$ `` of one marked ``console``, are run by `test_walk.py`, page by
page, in one fresh copy of the repository. A comment in the line before the block may say otherwise:

    <!-- not run here: needs eight Ascend devices -->    only its verbs and flags are checked
    <!-- background: 8000 -->                            started, and awaited on that port; ended with the page
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from conftest import REPOSITORY

PAGES = [
    "README.md",
    "README_CN.md",
    *(str(file.relative_to(REPOSITORY)) for file in sorted((REPOSITORY / "docs").glob("*.md"))),
    *(str(file.relative_to(REPOSITORY)) for file in sorted((REPOSITORY / "research").glob("*/*.md"))),
    "datasets/README.md",
    "CONTRIBUTING.md",
]
TRANSLATIONS = {page: page.replace("_CN.md", ".md") for page in PAGES if page.endswith("_CN.md")}
DIRECTIVE = re.compile(r"<!-- (?:not run here: (?P<reason>.+?)|background: (?P<port>\d+)) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block of commands.

    Attributes:
        line: of its fence, counted from 1.
        reason: why the walk does not run it; empty for those that it runs.
        port: of a server that keeps running; 0 for commands that end.
    """

    page: str
    line: int
    text: str
    reason: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command, comments dropped, continued lines joined, assignments before it dropped."""
        found = []
        for statement in _statements(self.text):
            for part in re.split(r"\s(?:&&|\|\||\||;)\s", statement):
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"\w+=.*", words[0]):
                    words = words[1:]
                if words:
                    found.append(words)
        return found


def _statements(text: str) -> list[str]:
    """Lines that belong together: after a backslash, and within quotes."""
    found, pending = [], ""
    for line in text.replace("\\\n", " ").splitlines():
        pending = f"{pending}\n{line}" if pending else line
        try:
            shlex.split(pending, comments=True)
        except ValueError:
            continue  # an open quote
        if pending.strip():
            found.append(pending)
        pending = ""
    if pending:
        raise ValueError(f"a quote is not closed: {pending!r}")
    return found


def blocks(page: str) -> list[Block]:
    """The page's blocks of commands."""
    found = []
    lines = (REPOSITORY / page).read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        if lines[number].strip() in ("```bash", "```console"):
            end = next(index for index in range(number + 1, len(lines)) if lines[index].strip() == "```")
            directive = DIRECTIVE.fullmatch(lines[number - 1].strip()) if number else None
            reason, port = (directive["reason"] or "", int(directive["port"] or 0)) if directive else ("", 0)
            text = lines[number + 1 : end]
            if lines[number].strip() == "```console":
                text = _typed(text)
            found.append(Block(page, number + 1, "\n".join(text), reason, port))
            number = end
        number += 1
    return found


def _typed(lines: list[str]) -> list[str]:
    """What follows ``$ `` in a recorded session, continued lines included; the rest is output."""
    typed, continues = [], False
    for line in lines:
        if continues or line.startswith("$ "):
            typed.append(line if continues else line[2:])
            continues = line.endswith("\\")
    return typed


def unmarked_commands(page: str) -> list[str]:
    """Lines of fenced blocks that look like commands of ours but are not marked ``bash``."""
    found, language = [], None
    for line in (REPOSITORY / page).read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("```"):
            language = None if language is not None else line.strip()[3:]
        elif language == "" and re.match(r"(\$ )?(mindcoder|python|bash|make) [a-z]", line):
            found.append(line)
    return found


def inline_commands(page: str) -> list[str]:
    """``mindcoder verb …`` in running text."""
    text = re.sub(r"^```.*?^```", "", Path(REPOSITORY / page).read_text(encoding="utf-8"), flags=re.S | re.M)
    return re.findall(r"`(mindcoder [a-z][^`\n]*)`", text)


def python_blocks(page: str) -> list[Block]:
    """The page's blocks of Python, in their order."""
    found = []
    lines = (REPOSITORY / page).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.strip() == "```python":
            end = next(index for index in range(number + 1, len(lines)) if lines[index].strip() == "```")
            directive = DIRECTIVE.fullmatch(lines[number - 1].strip()) if number else None
            reason = (directive["reason"] or "") if directive else ""
            found.append(Block(page, number + 1, "\n".join(lines[number + 1 : end]), reason))
    return found
