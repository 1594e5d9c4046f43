"""All objectives, and which one a configuration asks for. MindSpore is imported only when one is built."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mindcoder.config.schema import RunConfig
from mindcoder.errors import UserError

if TYPE_CHECKING:
    from mindcoder.data.loader import Loader
    from mindcoder.parallel.mesh import Mesh
    from mindcoder.train.objectives.base import Objective


@dataclass(frozen=True)
class Entry:
    """An objective.

    Attributes:
        module: of `mindcoder.train.objectives`; its ``OBJECTIVE`` is the class.
        section: key of the configuration that asks for it; empty for the default.
        takes_pairs: whether the rows of its training data are pairs of answers.
        needs_base: whether a run depends on its start weights to the end, as a reference.
    """

    module: str
    section: str = ""
    takes_pairs: bool = False
    needs_base: bool = False

    def load(self) -> type[Objective]:
        """The class; imports MindSpore."""
        return importlib.import_module(f"mindcoder.train.objectives.{self.module}").OBJECTIVE


DEFAULT = Entry("causal_lm")
OBJECTIVES = (
    DEFAULT,
    Entry("preference", "preference", takes_pairs=True, needs_base=True),
)


def objective_entry(config: RunConfig) -> Entry:
    """The objective whose section the configuration has."""
    asked = (entry for entry in OBJECTIVES if entry.section and getattr(config, entry.section) is not None)
    return next(asked, DEFAULT)


def objective_keys(config: RunConfig) -> dict[str, Any]:
    """The sections of all objectives, None for those that are not there."""
    sections = {entry.section: getattr(config, entry.section) for entry in OBJECTIVES if entry.section}
    return {name: section and section.model_dump(mode="json") for name, section in sections.items()}


def build_objective(config: RunConfig, loader: Loader, mesh: Mesh) -> Objective:
    """The objective of a run.

    Args:
        loader: this rank's training data.
        mesh: the layout of the run.

    Raises:
        UserError: it does not work with these data, this layout or this start.
    """
    entry = objective_entry(config)
    if loader.holds_pairs and not entry.takes_pairs:
        raise UserError("the dataset holds pairs of answers: add a preference section (type: dpo)")
    return entry.load().build(config, loader, mesh)


def default_objective() -> Objective:
    """Next-token prediction with the head computed for all tokens."""
    return DEFAULT.load()()
