"""The ``.ckpt`` naming of MindFormers' Llama: ``model.layers.N.attention.wq.weight`` and so on.

As written and read by mindformers/models/llama/convert_weight.py and convert_reversed.py of mindspore-lab/mindformers:
the tensors are Hugging Face's under other names. The file states neither the number of heads nor theta nor epsilon:
those come from ``config.json`` beside it, or from ``model.model_config``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mindcoder.checkpoint.mindformers.naming import Naming, tied_table
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.errors import UserError
from mindcoder.families.llama import FAMILY
from mindcoder.families.transformer_config import TransformerConfig

BLOCK, LAYER = "model.layers.{layer}", "layers.{layer}"
TABLE = "model.tok_embeddings.embedding_weight"
META_TABLE = "model.tok_embeddings.weight"  # in files made from Meta's .pth
HEAD = "lm_head.weight"
FUSED = ("attention.w_qkv", "feed_forward.w_gate_hidden")
# Llama 1 of old transformers versions saved this buffer, and convert_weight.py kept it
IGNORED = ("rotary_emb.inv_freq",)
# Fields that the file does not state.
UNKNOWN_FIELDS = frozenset(
    {
        "num_heads",
        "num_kv_heads",
        "head_dim",
        "norm_epsilon",
        "max_position_embeddings",
        "rope_theta",
        "rope_scaling",
        "sliding_window",
        "tied_head",
    }
)


class LlamaNaming(Naming):
    """Names of Llama's files."""

    def recognizes(self, tensors: Mapping[str, StoredTensor]) -> bool:
        """Whether these are Llama's names."""
        return any(
            re.match(r"model\.(tok_embeddings\.|layers\.\d+\.(attention|feed_forward)\.w)", name) for name in tensors
        )

    def config_from_tensors(self, tensors: Mapping[str, StoredTensor], file: Path) -> TransformerConfig:
        """The architecture as far as the shapes determine it; the fields of `UNKNOWN_FIELDS` are placeholders.

        Raises:
            UserError: a tensor is missing, or the projections are fused.
        """
        fused = next((name for name in tensors if any(part in name for part in FUSED)), None)
        if fused is not None:
            raise UserError(
                f"{fused}: files of convert_weight.py --qkv_concat=True are not read; give the file it was made from",
                file,
            )
        tensors = _with_our_table(tensors)

        def shape(name: str) -> tuple[int, ...]:
            if name not in tensors:
                raise UserError(f"is not a complete Llama checkpoint of MindFormers: it has no {name}", file)
            found = tensors[name].shape
            if len(found) != 2:
                raise UserError(f"{name} has shape {list(found)}, expected 2 dimensions", file)
            return found

        vocab_size, hidden = shape(TABLE)
        queries, keys = shape("model.layers.0.attention.wq.weight")[0], shape("model.layers.0.attention.wk.weight")[0]
        layers = {match[1] for name in tensors if (match := re.match(r"model\.layers\.(\d+)\.", name))}
        head_dim = 128 if queries % 128 == keys % 128 == 0 else keys
        if not keys or queries % keys or head_dim % 2:
            raise UserError(
                f"has {queries} query and {keys} key features, which do not divide into heads of equal size", file
            )
        return TransformerConfig(
            model_type=FAMILY.model_type,
            vocab_size=vocab_size,
            hidden_size=hidden,
            num_layers=len(layers),
            num_heads=queries // head_dim,
            num_kv_heads=keys // head_dim,
            intermediate_size=shape("model.layers.0.feed_forward.w1.weight")[0],
            max_position_embeddings=2048,
            head_dim=head_dim,
            norm="rms_norm",
            activation="silu",
            gated_mlp=True,
            qkv_bias="model.layers.0.attention.wq.bias" in tensors,
            output_bias="model.layers.0.attention.wq.bias" in tensors,  # the one of config.json's attention_bias
            mlp_bias="model.layers.0.feed_forward.w1.bias" in tensors,
            position="rope",
            tied_head=HEAD not in tensors,
        )

    def plans_to_ours(
        self, tensors: Mapping[str, StoredTensor], config: TransformerConfig
    ) -> tuple[dict[str, TensorPlan], list[str]]:
        """Plans of our parameters, without those missing from the file, and the unexpected names."""
        tensors = _with_our_table(tensors)
        expected = config.parameter_shapes()
        names = {ours: theirs for theirs, ours in self.pairs(config.num_layers) if ours in expected}
        found = {ours: tensors[theirs] for ours, theirs in names.items() if theirs in tensors}
        plans = {ours: TensorPlan(ours, tensor.shape, tensor.dtype, (tensor,)) for ours, tensor in found.items()}
        unexpected = [name for name in self.unexpected(tensors, config) if not name.endswith(IGNORED)]
        if config.tied_head and HEAD in tensors:
            unexpected.remove(HEAD)
            if "token_embedding.weight" in plans:
                plans["token_embedding.weight"] = tied_table(plans["token_embedding.weight"], tensors[HEAD])
        return plans, unexpected


NAMING = LlamaNaming(
    FAMILY.model_type,
    modules={
        f"{BLOCK}.attention.wq": f"{LAYER}.attention.query",
        f"{BLOCK}.attention.wk": f"{LAYER}.attention.key",
        f"{BLOCK}.attention.wv": f"{LAYER}.attention.value",
        f"{BLOCK}.attention.wo": f"{LAYER}.attention.output",
        f"{BLOCK}.feed_forward.w1": f"{LAYER}.mlp.gate",
        f"{BLOCK}.feed_forward.w2": f"{LAYER}.mlp.down",
        f"{BLOCK}.feed_forward.w3": f"{LAYER}.mlp.up",
    },
    parameters={
        TABLE: "token_embedding.weight",
        f"{BLOCK}.attention_norm.weight": f"{LAYER}.attention_norm.weight",
        f"{BLOCK}.ffn_norm.weight": f"{LAYER}.mlp_norm.weight",
        "model.norm_out.weight": "final_norm.weight",
        HEAD: "head.weight",
    },
    unknown_fields=UNKNOWN_FIELDS,
    required_fields=UNKNOWN_FIELDS - {"sliding_window", "tied_head"},
)


def _with_our_table(tensors: Mapping[str, StoredTensor]) -> Mapping[str, StoredTensor]:
    if META_TABLE not in tensors or TABLE in tensors:
        return tensors
    return {TABLE if name == META_TABLE else name: tensor for name, tensor in tensors.items()}
