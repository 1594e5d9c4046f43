"""Tensor parallelism (Shoeybi et al. 2019, Megatron-LM): heads and inner features divided over neighbouring ranks.

The backward pass of a bare AllReduce would sum once more, so both ends of a sliced block are cells with their own.
"""

from __future__ import annotations

from dataclasses import replace

from mindspore import Tensor, nn

from mindcoder.models.slices import WholeLayers
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.parallel.collectives import Collectives, SumOver


class EnterSlices(nn.Cell):
    """Megatron-LM's f: nothing forward, sum of the slices' gradients backward."""

    def __init__(self, tensor_sum: SumOver) -> None:
        super().__init__(auto_prefix=False)
        self.tensor_sum = tensor_sum

    def construct(self, x: Tensor) -> Tensor:
        return x

    def bprop(self, x, out, dout):
        return (self.tensor_sum(dout),)


class LeaveSlices(nn.Cell):
    """Megatron-LM's g: sum of the slices' partial results forward, nothing backward."""

    def __init__(self, tensor_sum: SumOver) -> None:
        super().__init__(auto_prefix=False)
        self.tensor_sum = tensor_sum

    def construct(self, x: Tensor) -> Tensor:
        return self.tensor_sum(x)

    def bprop(self, x, out, dout):
        return (dout,)


class SlicedLayers(WholeLayers):
    """This rank's slice of every layer; embeddings, norms and the head are whole on all of them (``vocab_emb_dp``).

    Args:
        together: the mesh and its groups.
        config: the whole network.

    Raises:
        ValueError: heads, key heads or inner features do not divide.
    """

    def __init__(self, together: Collectives, config: TransformerConfig) -> None:
        mesh = together.mesh
        self.index, self.size = mesh.tensor_index, mesh.tensor
        self.tensor_sum = together.sum_over(mesh.tensor_ranks())
        if config.num_heads % self.size or config.intermediate_size % self.size:
            raise ValueError(
                f"num_heads {config.num_heads} and intermediate_size {config.intermediate_size} must be divisible by "
                f"the tensor-parallel size {self.size}"
            )
        if config.num_kv_heads % self.size and config.num_kv_heads > 1:
            raise ValueError(f"{config.num_kv_heads} key heads are neither one nor divisible by {self.size}")

    def local(self, config: TransformerConfig) -> TransformerConfig:
        """Own heads and inner features; one key head is everybody's."""
        return replace(
            config,
            num_heads=config.num_heads // self.size,
            num_kv_heads=max(config.num_kv_heads // self.size, 1),
            intermediate_size=config.intermediate_size // self.size,
        )

    def enter(self) -> nn.Cell:
        """See `EnterSlices`."""
        return EnterSlices(self.tensor_sum)

    def leave(self) -> nn.Cell:
        """See `LeaveSlices`."""
        return LeaveSlices(self.tensor_sum)
