"""Which keys of the configuration the code reads: every ``section.key`` in the package, with the section's class.

Types are followed through annotations of parameters and returns, assignments, loops and attributes. That is enough,
because sections are passed around as annotated parameters.
"""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

import mindcoder
from mindcoder.config.schema import RunConfig
from mindcoder.families.registry import FAMILIES
from mindcoder.sections.section import Section

Classes = frozenset[type[Section]]
NONE: Classes = frozenset()
REPORTS = ("effects.py", "mindformers.py")  # they speak of keys and use none


def section_classes(start: type[Section] = RunConfig) -> dict[str, type[Section]]:
    """The classes of all sections that a file can have, by name."""
    found = {start.__name__: start}
    for field in start.model_fields.values():
        for inner in classes_in(field.annotation):
            if inner.__name__ not in found:
                found.update(section_classes(inner))
    return found


def classes_in(annotation: object) -> Classes:
    """The sections that an annotation names."""
    if inspect.isclass(annotation) and issubclass(annotation, Section):
        return frozenset([annotation])
    return frozenset(one for argument in typing.get_args(annotation) for one in classes_in(argument))


def declared_fields() -> Iterator[tuple[type[Section], str, FieldInfo]]:
    """Class, name and declaration of every key."""
    for one in section_classes().values():
        for name, field in one.model_fields.items():
            yield one, name, field


def reads_of_package() -> set[tuple[type[Section], str]]:
    """Class and key of every read; a class's own properties count as readers."""
    known = section_classes()
    bases = {
        base.__name__: base
        for one in known.values()
        for base in reversed(one.__mro__)
        if issubclass(base, Section) and not base.__module__.endswith(".mindformers")
    }
    root = Path(mindcoder.__file__).parent
    reads: set[tuple[type[Section], str]] = set()
    for path in sorted(root.rglob("*.py")):
        if not (path.parent.name in ("config", "sections") and path.name in REPORTS):
            reads |= Reader(ast.parse(path.read_text(encoding="utf-8")), bases | known).reads
    return reads


class Reader(ast.NodeVisitor):
    """Follows sections through one module."""

    def __init__(self, module: ast.Module, known: dict[str, type[Section]]) -> None:
        self.reads: set[tuple[type[Section], str]] = set()
        self.known = dict(known)
        self.names: dict[str, Classes] = {}
        self.returns: dict[str, Classes] = {}
        self.owner: Classes = NONE
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom):
                for item in node.names:
                    if item.asname and item.name in known and (node.module or "").startswith("mindcoder."):
                        self.known[item.asname] = known[item.name]
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef):
                self.returns[node.name] = self.annotated(node.returns)
        self.visit(module)

    def annotated(self, node: ast.expr | None) -> Classes:
        """Sections that a written annotation names."""
        names = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)} if node is not None else set()
        found = [self.known[name] for name in names if name in self.known]
        if "AnyModelSection" in names:
            found += [family.section for family in FAMILIES.values()]
        return frozenset(found)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        before, self.owner = self.owner, frozenset([self.known[node.name]]) if node.name in self.known else NONE
        self.generic_visit(node)
        self.owner = before

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = dict(self.names)
        self.names["self"] = self.owner
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            if argument.annotation is not None:
                self.names[argument.arg] = self.annotated(argument.annotation)
        self.generic_visit(node)
        self.names = before

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            self.bind(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        if isinstance(node.target, ast.Name):
            self.names[node.target.id] = self.annotated(node.annotation)

    def visit_For(self, node: ast.For) -> None:
        self.bind(node.target, node.iter)
        self.generic_visit(node)

    def comprehension(self, node: ast.expr, generators: list[ast.comprehension]) -> None:
        for generator in generators:
            self.bind(generator.target, generator.iter)
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self.comprehension(node, node.generators)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self.comprehension(node, node.generators)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self.comprehension(node, node.generators)

    def bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = self.type_of(value)
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, its_value in zip(target.elts, value.elts):
                self.bind(one, its_value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.type_of(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        for keyword in node.keywords:  # f(**section.model_dump()) reads all its keys
            value = keyword.value
            if keyword.arg is None and isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
                for one in self.type_of(value.func.value) if value.func.attr == "model_dump" else NONE:
                    self.reads |= {(one, name) for name in one.model_fields}
        self.generic_visit(node)

    def type_of(self, node: ast.expr) -> Classes:
        """The sections that an expression may be, or be a list of; notes what it reads on the way."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, NONE)
        if isinstance(node, ast.Attribute):
            return self.attribute(self.type_of(node.value), node.attr)
        if isinstance(node, (ast.BoolOp, ast.IfExp)):
            parts: Iterable[ast.expr] = node.values if isinstance(node, ast.BoolOp) else (node.body, node.orelse)
            return frozenset(one for part in parts for one in self.type_of(part))
        if isinstance(node, ast.Subscript):
            return self.type_of(node.value)
        if isinstance(node, ast.ListComp):
            self.bind(node.generators[0].target, node.generators[0].iter)
            return self.type_of(node.elt)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            known = self.known.get(node.func.id)
            return frozenset([known]) if known else self.returns.get(node.func.id, NONE)
        return NONE

    def attribute(self, owners: Classes, name: str) -> Classes:
        found: set[type[Section]] = set()
        for owner in owners:
            field = owner.model_fields.get(name)
            if field is not None:
                self.reads.add((owner, name))
                found |= classes_in(field.annotation)
            elif isinstance(vars_of(owner).get(name), property):
                getter = vars_of(owner)[name].fget
                found |= classes_in(typing.get_type_hints(getter).get("return"))
        return frozenset(found)


def vars_of(owner: type) -> dict[str, typing.Any]:
    """Attributes of a class and its bases."""
    return {name: value for one in reversed(owner.__mro__) for name, value in vars(one).items()}
