"""What is planned: how the network is divided, what one step computes, and on which machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mindcoder.config.layout import check_divides, spread_layers
from mindcoder.models.slices import cut_axis
from mindcoder.models.stage import stage_of
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.parallel.mesh import Mesh

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """Sizes of the mesh's axes, and what else is divided.

    Attributes:
        shard_optimizer: optimizer states over the data axis (ZeRO-1).
        sequence: hidden states between the tensor-parallel blocks over the tensor axis (``use_seq_parallel``).
        vocabulary: token tables over the tensor axis (``vocab_emb_dp: False``).
        offsets: MindFormers' ``offset``, see `mindcoder.config.layout.spread_layers`.
    """

    data: int
    tensor: int
    pipeline: int
    shard_optimizer: bool
    sequence: bool = False
    vocabulary: bool = False
    offsets: tuple[int, ...] | None = None

    @property
    def devices(self) -> int:
        """Ranks."""
        return self.data * self.tensor * self.pipeline

    def layer_counts(self, layers: int) -> list[int]:
        """Layers of each pipeline stage."""
        return spread_layers(layers, self.pipeline, self.offsets)

    def num_communicators(self, tied_head: bool) -> int:
        """Process groups that rank 0 is a member of, the world group included; none in a single process."""
        if self.devices == 1:
            return 0
        everyone = tuple(range(self.devices))
        mesh = Mesh(self.data, self.pipeline, self.tensor)
        groups = {mesh.data_ranks(), mesh.tensor_ranks(), mesh.pipeline_ranks(), everyone}
        if tied_head:
            groups.add(mesh.end_ranks())
        return 1 + len([ranks for ranks in groups if len(ranks) > 1])  # 1: the group that init() makes

    def __str__(self) -> str:
        divided = {
            "optimizer": self.shard_optimizer and self.data > 1,
            "sequence": self.sequence and self.tensor > 1,
            "vocabulary": self.vocabulary and self.tensor > 1,
        }
        names = [name for name, is_divided in divided.items() if is_divided]
        also = f", {', '.join(names)} divided" if names else ""
        return f"data {self.data} x tensor {self.tensor} x pipeline {self.pipeline}{also}"


@dataclass(frozen=True)
class Workload:
    """One step: ``batch`` sequences of ``length`` tokens per micro batch and rank, ``micro_batches`` of them.

    ``adapter`` holds the global shapes of what is trained in place of the weights (LoRA).
    """

    batch: int
    length: int
    micro_batches: int
    recompute: bool
    adapter: Shapes | None = None

    @property
    def tokens(self) -> int:
        """Of a micro batch."""
        return self.batch * self.length


@dataclass(frozen=True)
class Machine:
    """What a device can do.

    The defaults describe an Atlas 800T A2. Between servers a device has one 200 Gbit/s RoCE port, 25 GB/s. Within a
    server HCCS links the eight devices pairwise; each link carries 224 Gbit/s, 28 GB/s (figures of the dies in
    "Serving Large Language Models on Huawei CloudMatrix384", arXiv 2506.12708; we found no public page that says it
    of the A2), and a group of four uses three links per device, 84 GB/s. ``flops`` is chosen so that the one training
    rate that is published for these models comes out: WizardCoder 15B, 798.7 tokens/s per device.

    Attributes:
        memory: bytes of a device.
        flops: FLOP/s that the matrix products of a training step reach, not the peak.
        bandwidth: bytes/s that a device sends to others of its server.
        bandwidth_between: bytes/s that a device sends to other servers.
        per_server: devices of a server.
        communicator_buffer: bytes of one communicator's buffers: HCCL takes 2 x HCCL_BUFFSIZE, 200 MiB by default
            (CANN environment variables, HCCL_BUFFSIZE).
        pool: bytes that ``context.max_device_memory`` leaves to tensors; 0 for all.
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


def stage_shapes(config: TransformerConfig, layout: Layout, shapes: Shapes | None = None) -> list[Shapes]:
    """Shapes of the parameters that a rank of each stage holds by name, as `mindcoder.models.decoder` makes them.

    The table of a tied head is on the first and on the last stage.

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
                name: tuple(-(-size // layout.tensor) if place == axis else size for place, size in enumerate(shape))
                for name, shape in shapes.items()
                if stage.holds(name, config.tied_head)
                for axis in [cut_axis(name, config, layout.tensor, layout.vocabulary)]
            }
        )
    return held


def num_items(shapes: Shapes) -> int:
    """Numbers in tensors of these shapes."""
    return sum(math.prod(shape) for shape in shapes.values())


def item_bytes(name: str, config: TransformerConfig) -> int:
    """Of one number of a parameter of the network; the token table may have a dtype of its own."""
    own = config.embedding_dtype if name == "token_embedding.weight" else ""
    return ITEM_BYTES[own or config.param_dtype]


def divides_by(config: TransformerConfig, tensor: int) -> bool:
    """Whether ``tensor`` ranks can share the network's layers."""
    try:
        check_divides(config.num_heads, config.num_kv_heads, config.intermediate_size, tensor)
    except ValueError:
        return False
    return True


def recomputes(layout: Layout, work: Workload, stage: int) -> bool:
    """Whether a stage runs its layers a second time: when asked to, and in a pipeline on all stages but the last."""
    return work.recompute or stage < layout.pipeline - 1
