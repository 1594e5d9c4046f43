"""Names of a family's parameters in MindFormers' ``.ckpt`` files, mapped to and from our names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindcoder.checkpoint.plan import Build, TensorPlan
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig

TRANSPOSE_BLOCK = 256


@dataclass(frozen=True)
class Naming(ABC):
    """How MindFormers names the parameters of a family, and what else is peculiar to its files.

    ``{layer}`` in the names stands for the layer index.

    Attributes:
        model_type: of the family.
        modules: linear layers, whose ``.weight`` and ``.bias`` are parameters: name in the file -> our name.
        parameters: all other parameters, by full name.
        transposed: suffixes of modules whose weight is stored as ``[in, out]``.
        head: name under which a tied head is stored again.
        unknown_fields: fields of the network's configuration that the file does not state.
        required_fields: those of them that differ between models of the same shapes.
    """

    model_type: str
    modules: Mapping[str, str]
    parameters: Mapping[str, str]
    transposed: tuple[str, ...] = ()
    head: str | None = None
    unknown_fields: frozenset[str] = frozenset()
    required_fields: frozenset[str] = frozenset()

    @abstractmethod
    def recognizes(self, tensors: Mapping[str, StoredTensor]) -> bool:
        """Whether these are the family's names."""

    @abstractmethod
    def config_from_tensors(self, tensors: Mapping[str, StoredTensor], file: Path) -> TransformerConfig:
        """The architecture, as far as the shapes determine it; ``unknown_fields`` are placeholders.

        Raises:
            UserError: a tensor is missing, or the file is of a kind that is not read.
            ValueError: the shapes do not form a network.
        """

    @abstractmethod
    def plans_to_ours(
        self, tensors: Mapping[str, StoredTensor], config: TransformerConfig
    ) -> tuple[dict[str, TensorPlan], list[str]]:
        """Plans of our parameters, without those missing from the file, and the unexpected names."""

    def pairs(self, num_layers: int) -> list[tuple[str, str]]:
        """(name in the file, our name) of every parameter that a network of this family may have."""
        full = dict(self.parameters)
        for theirs, ours in self.modules.items():
            full |= {f"{theirs}.{part}": f"{ours}.{part}" for part in ("weight", "bias")}
        return [
            (theirs.format(layer=layer), ours.format(layer=layer))
            for theirs, ours in full.items()
            for layer in range(num_layers if "{layer}" in theirs else 1)
        ]

    def is_transposed(self, name: str) -> bool:
        """Whether MindFormers stores this weight as ``[in, out]``."""
        return bool(self.transposed) and name.endswith(tuple(f"{module}.weight" for module in self.transposed))

    def plans_from_ours(self, parameters: Mapping[str, TensorPlan], config: TransformerConfig) -> list[TensorPlan]:
        """Plans of the file's tensors from those of our parameters; a rank's file has only some of them."""
        plans = []
        for theirs, ours in self.pairs(config.num_layers):
            if ours not in parameters:
                continue
            plan = parameters[ours]
            if self.is_transposed(theirs):
                plans.append(TensorPlan(theirs, plan.shape[::-1], plan.dtype, plan.sources, _then_transpose(plan)))
            else:
                plans.append(TensorPlan(theirs, plan.shape, plan.dtype, plan.sources, plan.build))
        table = parameters.get("token_embedding.weight")
        if self.head is not None and config.tied_head and table is not None:
            plans.append(TensorPlan(self.head, table.shape, table.dtype, table.sources, table.build))
        return plans

    def unexpected(self, names: Iterable[str], config: TransformerConfig) -> list[str]:
        """Names that do not belong to a parameter of ``config``'s network."""
        expected = config.parameter_shapes()
        known = {theirs for theirs, ours in self.pairs(config.num_layers) if ours in expected}
        return [name for name in names if name not in known and name != self.head]


def transpose(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Transpose block by block, which is twice as fast as numpy because it uses the caches."""
    (values,) = parts
    transposed = np.empty(values.shape[::-1], values.dtype)
    for row in range(0, values.shape[0], TRANSPOSE_BLOCK):
        rows = slice(row, row + TRANSPOSE_BLOCK)
        for column in range(0, values.shape[1], TRANSPOSE_BLOCK):
            columns = slice(column, column + TRANSPOSE_BLOCK)
            transposed[columns, rows] = values[rows, columns].T
    return transposed


def _then_transpose(plan: TensorPlan) -> Build:
    def composed(parts: Sequence[np.ndarray]) -> np.ndarray:
        return transpose([parts[0] if plan.build is None else plan.build(parts)])

    return composed


@dataclass(frozen=True)
class TiedTable(StoredTensor):
    """The embedding table of a file that also stores the head; reading it verifies that the two are equal."""

    table: StoredTensor | None = None
    head: StoredTensor | None = None

    @property
    def is_plain(self) -> bool:
        """Always False: its bytes must not be copied without the check."""
        return False

    def read(self) -> np.ndarray:
        """The table.

        Raises:
            UserError: the head differs.
        """
        assert self.table is not None and self.head is not None
        values, head = self.table.read(), self.head.read()
        if values.dtype != head.dtype or not np.array_equal(values, head, equal_nan=values.dtype.kind == "f"):
            raise UserError(f"{self.head.name} differs from {self.table.name}: the head is tied to it", self.file)
        return values


def tied_table(plan: TensorPlan, head: StoredTensor) -> TensorPlan:
    """Plan of the embedding table that also verifies that the tied head in the same file equals it.

    Raises:
        UserError: their shapes differ.
    """
    (table,) = plan.sources
    if head.shape != table.shape:
        raise UserError(
            f"{head.name} has shape {list(head.shape)}, {table.name} {list(table.shape)}: the head is tied to it",
            head.file,
        )
    checked = TiedTable(table.name, table.file, table.dtype, table.shape, table.extents, table=table, head=head)
    return TensorPlan(plan.name, plan.shape, plan.dtype, (checked,))
