"""The device mesh: which ranks share data, a pipeline and a layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mesh:
    """Axes pipeline (slowest), data, tensor (fastest), as in MindFormers and Megatron-LM.

    Rank ``(stage * data + data_index) * tensor + tensor_index``: the ranks of a tensor group, which speak most, are
    neighbours on one server.

    Attributes:
        data, pipeline, tensor: sizes of the axes.
        rank: of this process.

    Raises:
        ValueError: the rank is not on the mesh.
    """

    data: int = 1
    pipeline: int = 1
    tensor: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        if min(self.data, self.pipeline, self.tensor) < 1 or not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} is not on a mesh of {self.data} x {self.pipeline} x {self.tensor}")

    @property
    def size(self) -> int:
        """Processes."""
        return self.data * self.pipeline * self.tensor

    @property
    def tensor_index(self) -> int:
        """Coordinate on the tensor axis."""
        return self.rank % self.tensor

    @property
    def data_index(self) -> int:
        """Coordinate on the data axis."""
        return self.rank // self.tensor % self.data

    @property
    def stage(self) -> int:
        """Coordinate on the pipeline axis."""
        return self.rank // (self.tensor * self.data)

    def rank_at(self, stage: int, data_index: int, tensor_index: int) -> int:
        """The rank at these coordinates."""
        return (stage * self.data + data_index) * self.tensor + tensor_index

    def data_ranks(self) -> tuple[int, ...]:
        """Ranks with this one's stage and shards, and other data."""
        return tuple(self.rank_at(self.stage, index, self.tensor_index) for index in range(self.data))

    def tensor_ranks(self) -> tuple[int, ...]:
        """Ranks that hold the other shards of this one's layers."""
        return tuple(self.rank_at(self.stage, self.data_index, index) for index in range(self.tensor))

    def pipeline_ranks(self) -> tuple[int, ...]:
        """Ranks through which this one's data flow, first stage first."""
        return tuple(self.rank_at(stage, self.data_index, self.tensor_index) for stage in range(self.pipeline))

    def end_ranks(self) -> tuple[int, ...]:
        """First and last of `pipeline_ranks`: the two that hold the table of a tied head."""
        ranks = self.pipeline_ranks()
        return ranks if len(ranks) < 3 else (ranks[0], ranks[-1])

    def all_groups(self) -> list[tuple[int, ...]]:
        """Every data, tensor and pipeline group of more than one rank, the same list in the same order on all ranks."""
        groups: dict[tuple[int, ...], None] = {}
        for axis in ("data_ranks", "tensor_ranks", "pipeline_ranks", "end_ranks"):
            for rank in range(self.size):
                ranks = getattr(Mesh(self.data, self.pipeline, self.tensor, rank), axis)()
                if len(ranks) > 1:
                    groups[ranks] = None
        return list(groups)


SINGLE = Mesh()
