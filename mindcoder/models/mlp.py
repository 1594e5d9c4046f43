"""The position-wise feed-forward network, plain or gated."""

from __future__ import annotations

from mindspore import Tensor, nn

from mindcoder.backend.operators import GatedGelu, GeluExact, GeluTanh, QuickGelu, SwiGLU
from mindcoder.backend.row_operators import Fork
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.initializer import Initializer
from mindcoder.models.linear import Linear
from mindcoder.models.tensor_parallel import NO_TP, NoTensorParallel, Shard

# (TransformerConfig.activation, gated_mlp) -> cell
ACTIVATIONS = {
    ("gelu", False): GeluExact,
    ("gelu_tanh", False): GeluTanh,
    ("quick_gelu", False): QuickGelu,
    ("silu", True): SwiGLU,
    ("gelu_tanh", True): GatedGelu,
}


class MLP(nn.Cell):
    """``down(activation(up(x)))`` or ``down(activation(gate(x), up(x)))``; ``[Q, H] -> [Q, H]``."""

    def __init__(
        self,
        config: TransformerConfig,
        initializer: Initializer,
        output_stddev: float,
        tp: NoTensorParallel = NO_TP,
    ) -> None:
        super().__init__()
        dtypes = (initializer, config.param_dtype, config.compute_dtype, config.mlp_bias)
        hidden, inner = config.hidden_size, config.intermediate_size
        self.copy_to_region = tp.copy_to_region()
        self.share = Fork(2)
        self.gate = Linear(hidden, inner, *dtypes, shard=Shard.COLUMN, tp=tp) if config.gated_mlp else None
        self.up = Linear(hidden, inner, *dtypes, shard=Shard.COLUMN, tp=tp)
        activation = ACTIVATIONS[config.activation, config.gated_mlp]()
        self.down = Linear(inner, hidden, *dtypes, output_stddev, activation, Shard.ROW, tp)

    def construct(self, hidden_states: Tensor, seed: Tensor | None = None) -> Tensor:
        if self.copy_to_region is not None:
            hidden_states = self.copy_to_region(hidden_states)
        if self.gate is None:
            return self.down(self.up(hidden_states, seed=seed), seed=seed)
        for_gate, for_up = self.share(hidden_states)
        return self.down(self.gate(for_gate, seed=seed), self.up(for_up, seed=seed), seed=seed)
