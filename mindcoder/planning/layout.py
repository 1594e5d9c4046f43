"""Inputs of a plan beside the layout (the work of one step, the machine), and what a layout puts on each rank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.stage import stage_of
from mindcoder.models.tensor_parallel import shard_axis
from mindcoder.parallel.mesh import AXES, Mesh
from mindcoder.parallel_layout import ParallelLayout, check_divides

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Workload:
    """One step: ``batch`` sequences of ``length`` tokens per micro batch and rank, ``micro_batches`` of them.

    ``adapter`` holds the global shapes of the parameters trained instead of the weights (LoRA), ``prefix`` the number
    of learned positions before every sequence, ``context`` the ranks that share every sequence.
    """

    batch: int
    length: int
    micro_batches: int
    recompute: bool
    adapter: Shapes | None = None
    prefix: int = 0
    context: int = 1

    @property
    def tokens(self) -> int:
        """Tokens per micro batch and rank."""
        return self.batch * self.length // self.context


@dataclass(frozen=True)
class Machine:
    """Capabilities of a device.

    The defaults describe an Atlas 800T A2. Between servers a device has one 200 Gbit/s RoCE port, 25 GB/s. Within a
    server HCCS links the eight devices pairwise; each link carries 224 Gbit/s, 28 GB/s (figures of the dies in
    "Serving Large Language Models on Huawei CloudMatrix384", arXiv 2506.12708; we found no public page that states it
    for the A2), and a group of four uses three links per device, 84 GB/s. ``flops`` is chosen to reproduce the one
    published training rate of these models: WizardCoder 15B, 798.7 tokens/s per device.

    Attributes:
        memory: bytes per device.
        flops: achieved FLOP/s of the matrix products of a training step, not the peak.
        bandwidth: bytes/s that a device sends to others in its server.
        bandwidth_between: bytes/s that a device sends to other servers.
        per_server: devices per server.
        communicator_buffer: bytes of one communicator's buffers: HCCL takes 2 x HCCL_BUFFSIZE, 200 MiB by default
            (CANN environment variables, HCCL_BUFFSIZE).
        pool: bytes that ``context.max_device_memory`` allows for tensors; 0 for all.
    """

    memory: float = 64e9
    flops: float = 150e12
    bandwidth: float = 84e9
    bandwidth_between: float = 25e9
    per_server: int = 8
    communicator_buffer: float = 2 * 200 * 2**20
    pool: float = 0.0

    def reach(self, devices: int, block: int) -> float:
        """Bytes/s within groups that span ``block`` consecutive ranks of ``devices``."""
        in_one_server = devices <= self.per_server or self.per_server % block == 0
        return self.bandwidth if in_one_server else self.bandwidth_between


def stage_shapes(config: TransformerConfig, layout: ParallelLayout, shapes: Shapes | None = None) -> list[Shapes]:
    """Shapes of the parameters on a rank of each stage, by name, as `mindcoder.models.decoder` creates them.

    A tied embedding is on the first and on the last stage.

    Args:
        shapes: global shapes by name; default: those of the network.
    """
    counts = layout.layer_counts(config.num_layers)
    shapes = config.parameter_shapes() if shapes is None else shapes
    held: list[Shapes] = []
    for index in range(layout.pipeline):
        stage = stage_of(counts, index)
        held.append(
            {
                name: tuple(-(-size // layout.tensor) if dim == axis else size for dim, size in enumerate(shape))
                for name, shape in shapes.items()
                if stage.holds(name, config.tied_head)
                for axis in [shard_axis(name, config, layout.tensor, layout.vocabulary)]
            }
        )
    return held


def num_items(shapes: Shapes) -> int:
    """Number of elements in tensors of these shapes."""
    return sum(math.prod(shape) for shape in shapes.values())


def item_bytes(name: str, config: TransformerConfig) -> int:
    """Bytes per element of a parameter; the embedding may have its own dtype."""
    own = config.embedding_dtype if name == "token_embedding.weight" else ""
    return ITEM_BYTES[own or config.param_dtype]


def divides_by(config: TransformerConfig, tensor: int) -> bool:
    """Whether the network's layers can be divided over ``tensor`` ranks."""
    try:
        check_divides(config.num_heads, config.num_kv_heads, config.intermediate_size, tensor)
    except ValueError:
        return False
    return True


def recomputes(layout: ParallelLayout, work: Workload, stage: int) -> bool:
    """Whether a stage recomputes activations: if requested, and in a pipeline on all stages but the last."""
    return work.recompute or stage < layout.pipeline - 1


def num_communicators(layout: ParallelLayout, tied_head: bool) -> int:
    """Process groups that rank 0 is a member of, including the world group; none in a single process."""
    if layout.devices == 1:
        return 0
    everyone = tuple(range(layout.devices))
    mesh = Mesh(layout)
    groups = {everyone, *(getattr(mesh, axis)() for axis in AXES if axis != "end_ranks" or tied_head)}
    return 1 + len([ranks for ranks in groups if len(ranks) > 1])  # 1: the group that init() creates
