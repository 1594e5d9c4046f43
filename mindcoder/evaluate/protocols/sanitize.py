"""Extracts code as EvalPlus does: the longest part that parses, reduced to what the function needs.

Follows evalplus/sanitize.py (github.com/evalplus/evalplus, commit 26d6d00), with Python's own syntax tree instead of
tree-sitter's. Its peculiarities are kept: decorated functions, functions without ``return`` and ``from __future__``
imports are dropped, and an assignment is known by its first plain name.
"""

from __future__ import annotations

import ast
import itertools
import re
import warnings
from collections.abc import Iterator

ANSI = re.compile(r"\x1B(?:[@-Z\\-_]|\[[0-?]*[ -/]*[@-~])")
MOST_PARSES = 100_000  # per answer: all parts of 446 lines
Definition = tuple[str | None, ast.stmt]


def sanitize(code: str, entry_point: str | None) -> str:
    """Imports and the definitions that ``entry_point`` reaches; without any, the part that parses."""
    code = longest_code(code)
    return _needed(code, entry_point).strip() or code


def longest_code(text: str) -> str:
    """The consecutive lines, at least two, that parse and contain the most non-blank lines; the first of equals."""
    lines = ANSI.sub("", text).split("\n")
    filled = [index for index, line in enumerate(lines) if line.strip()]
    for first, last in itertools.islice(_spans(lines, filled), MOST_PARSES):
        part = "\n".join(lines[first : last + 1])
        if _parse(part) is not None:
            return part
    return lines[0]


def _spans(lines: list[str], filled: list[int]) -> Iterator[tuple[int, int]]:
    """First and last line of every candidate, those with most non-blank lines first; leading blank lines only."""
    for count in range(len(filled), 0, -1):
        for index in range(len(filled) - count + 1):
            first = filled[index - 1] + 1 if index else 0
            last = filled[index + count - 1]
            if first < last:
                yield first, last
            elif last + 1 < len(lines) and not lines[last + 1].strip():
                yield first, last + 1


def _parse(code: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return None


def _needed(code: str, entry_point: str | None) -> str:
    tree = _parse(code)
    if tree is None:
        return ""
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) and not _is_future(node)]
    found = list(_definitions(tree))
    reached = _reached(entry_point, found) if entry_point else {name for name, _ in found}
    nodes: list[ast.stmt] = [*imports, *(node for name, node in found if name in reached)]
    source = _Source(code)
    return "\n".join(source.of(node) for node in nodes)


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _definitions(tree: ast.Module) -> Iterator[Definition]:
    """Classes, functions with a ``return``, assignments; the first of each name."""
    names: set[str | None] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            is_function = not isinstance(node, ast.ClassDef)
            if node.decorator_list or (is_function and not any(isinstance(n, ast.Return) for n in ast.walk(node))):
                continue
            name: str | None = node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            name = _assigned(node)
        else:
            continue
        if name not in names:
            names.add(name)
            yield name, node


def _assigned(node: ast.Assign | ast.AnnAssign) -> str | None:
    """The first plain name in target and value: ``x`` of ``x = 1``, but ``y`` of ``a.b = y``."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if isinstance(targets[0], ast.Name):
        return targets[0].id
    return node.value.id if len(targets) == 1 and isinstance(node.value, ast.Name) else None


def _reached(entry_point: str, found: list[Definition]) -> set[str | None]:
    """Names that the function needs, directly or indirectly."""
    uses = {name: set(_identifiers(node)) for name, node in found}
    reached: set[str | None] = {entry_point}
    waiting: list[str | None] = [entry_point]
    while waiting:
        fresh = uses.get(waiting.pop(), set()) - reached
        reached |= fresh
        waiting.extend(fresh)
    return reached


def _identifiers(tree: ast.AST) -> Iterator[str]:
    """All names in it, including attributes and parameters."""
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr", "name", "rest"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield from value.split(".")  # `import a.b` counts as both names
        if isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname
        elif isinstance(node, ast.MatchClass):
            yield from node.kwd_attrs


class _Source:
    """Source text of statements, by Python's line numbers and UTF-8 columns."""

    def __init__(self, code: str) -> None:
        self._lines = [line.encode() for line in re.split(r"(?<=\n)|(?<=\r)(?!\n)", code)]

    def of(self, node: ast.stmt) -> str:
        assert node.end_lineno is not None and node.end_col_offset is not None
        lines = self._lines[node.lineno - 1 : node.end_lineno]
        lines[-1] = lines[-1][: node.end_col_offset]
        lines[0] = lines[0][node.col_offset :]
        return b"".join(lines).decode()
