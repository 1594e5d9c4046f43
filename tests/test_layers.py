"""No room imports from a room downstream; the order is CONTRIBUTING.md's."""

from __future__ import annotations

import ast
import re

from conftest import REPOSITORY

PACKAGE = REPOSITORY / "mindcoder"


def layers() -> list[set[str]]:
    """The rooms as CONTRIBUTING.md orders them; several between two arrows do not import each other."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    order = re.search(r"```\n(errors .*?)```", text, re.S)
    assert order
    return [set(part.split()) for part in order[1].split("→")]


def imported(file) -> set[str]:
    """Rooms, and files beside them, from which a module imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("mindcoder.")}


def test_rooms_import_only_from_rooms_to_their_left():
    order = layers()
    position = {room: index for index, rooms in enumerate(order) for room in rooms}
    folders = {file.parent.name for file in PACKAGE.glob("*/*.py") if file.name != "__init__.py"}
    position["__init__"] = len(order)
    assert set(position) == folders | {"errors", "files", "__init__"}
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for source in imported(file) & folders - {room}:
            assert room in position, f"{file.name} is beside the rooms but imports from {source}"
            assert position[source] < position[room], f"{file.relative_to(REPOSITORY)} imports from {source}"
