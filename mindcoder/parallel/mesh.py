"""The device mesh: which ranks share data, a pipeline and a layer, and where this rank is."""

from __future__ import annotations

from dataclasses import dataclass

from mindcoder.parallel_layout import ParallelLayout

# Methods of `Mesh` that name a group.
AXES = ("data_ranks", "tensor_ranks", "pipeline_ranks", "end_ranks", "context_ranks", "gradient_ranks")


@dataclass(frozen=True)
class Mesh:
    """A rank's position in a layout, with the order of axes of MindFormers and Megatron-LM.

    Pipeline is the slowest axis, tensor the fastest: rank ``((stage * data + data_index) * context + context_index) *
    tensor + tensor_index``. So the ranks of a tensor-parallel group, which communicate most, are neighbours on one
    server, and those of a context-parallel group are as near as can be.

    Attributes:
        layout: sizes of the axes.
        rank: of this process.

    Raises:
        ValueError: the rank is not on the mesh.
    """

    layout: ParallelLayout = ParallelLayout()
    rank: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} is not on a mesh of {self.layout.sizes}")

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self.layout.devices

    @property
    def data(self) -> int:
        """Size of the data axis."""
        return self.layout.data

    @property
    def tensor(self) -> int:
        """Size of the tensor axis."""
        return self.layout.tensor

    @property
    def pipeline(self) -> int:
        """Size of the pipeline axis."""
        return self.layout.pipeline

    @property
    def context(self) -> int:
        """Size of the context axis."""
        return self.layout.context

    @property
    def tensor_index(self) -> int:
        """Coordinate on the tensor axis."""
        return self.rank % self.tensor

    @property
    def context_index(self) -> int:
        """Coordinate on the context axis."""
        return self.rank // self.tensor % self.context

    @property
    def data_index(self) -> int:
        """Coordinate on the data axis."""
        return self.rank // (self.tensor * self.context) % self.data

    @property
    def stage(self) -> int:
        """Coordinate on the pipeline axis."""
        return self.rank // (self.tensor * self.context * self.data)

    def rank_at(self, stage: int, data_index: int, tensor_index: int, context_index: int = 0) -> int:
        """The rank at these coordinates."""
        return ((stage * self.data + data_index) * self.context + context_index) * self.tensor + tensor_index

    def data_ranks(self) -> tuple[int, ...]:
        """Ranks with this one's stage and shards, and other data."""
        here = self.stage, self.tensor_index, self.context_index
        return tuple(self.rank_at(here[0], index, *here[1:]) for index in range(self.data))

    def tensor_ranks(self) -> tuple[int, ...]:
        """Ranks that hold the other shards of this one's layers."""
        return tuple(
            self.rank_at(self.stage, self.data_index, index, self.context_index) for index in range(self.tensor)
        )

    def context_ranks(self) -> tuple[int, ...]:
        """Ranks with the other tokens of this one's rows, in their order."""
        here = self.stage, self.data_index, self.tensor_index
        return tuple(self.rank_at(*here, index) for index in range(self.context))

    def gradient_ranks(self) -> tuple[int, ...]:
        """Ranks with this one's parameters and other tokens: `data_ranks` and `context_ranks` together."""
        return tuple(
            self.rank_at(self.stage, data, self.tensor_index, context)
            for data in range(self.data)
            for context in range(self.context)
        )

    def pipeline_ranks(self) -> tuple[int, ...]:
        """Ranks through which this one's data flow, first stage first."""
        here = self.data_index, self.tensor_index, self.context_index
        return tuple(self.rank_at(stage, *here) for stage in range(self.pipeline))

    def end_ranks(self) -> tuple[int, ...]:
        """First and last of `pipeline_ranks`: the two that hold the table of a tied head."""
        ranks = self.pipeline_ranks()
        return ranks if len(ranks) < 3 else (ranks[0], ranks[-1])

    def all_groups(self) -> list[tuple[int, ...]]:
        """Every group of more than one rank, the same list in the same order on all ranks."""
        groups: dict[tuple[int, ...], None] = {}
        for axis in AXES:
            for rank in range(self.size):
                ranks = getattr(Mesh(self.layout, rank), axis)()
                if len(ranks) > 1:
                    groups[ranks] = None
        return list(groups)


SINGLE = Mesh()
