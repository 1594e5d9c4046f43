"""The ``.ckpt`` naming of MindFormers' WizardCoder: ``backbone.blocks.N.attention.dense1.weight`` and so on.

As written and read by research/wizardcoder/convert_weight.py and convert_reversed.py of mindspore-lab/mindformers
(r1.0, r1.1). MindFormers' blocks store the weights of ``attention.projection``, ``output.mapping`` and
``output.projection`` as ``[in, out]`` (``transpose_b=False``), the others as ``[out, in]``. convert_weight.py writes
the token embedding again as ``head.head_weight``, and convert_reversed.py expects it there; training does not save it,
as the head is tied. Some files hold one ``attention.c_attn`` instead of ``dense1``, ``dense2`` and ``dense3``, and some
hold ``[out, in]`` throughout; both are recognized by their shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mindcoder.checkpoint.mindformers.naming import Naming, tied_table, transpose
from mindcoder.checkpoint.plan import Build, TensorPlan
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.errors import UserError
from mindcoder.families.gpt_bigcode import FAMILY
from mindcoder.families.transformer_config import TransformerConfig

BLOCK, LAYER = "backbone.blocks.{layer}", "layers.{layer}"
TABLE = "backbone.embedding.word_embedding.embedding_table"
HEADS = ("head.head_weight", "head.weight")


class WizardCoderNaming(Naming):
    """Names and layout of WizardCoder's and StarCoder's files."""

    def recognizes(self, tensors: Mapping[str, StoredTensor]) -> bool:
        """Whether these are WizardCoder's names."""
        return any(name.startswith("backbone.") for name in tensors)

    def config_from_tensors(self, tensors: Mapping[str, StoredTensor], file: Path) -> TransformerConfig:
        """The architecture, from the shapes; WizardCoder is multi-query, so its single key head gives the head size.

        Raises:
            UserError: a tensor is missing, or the file is not multi-query.
        """

        def shape(name: str, dimensions: int) -> tuple[int, ...]:
            if name not in tensors:
                raise UserError(f"is not a complete WizardCoder checkpoint of MindFormers: it has no {name}", file)
            found = tensors[name].shape
            if len(found) != dimensions:
                raise UserError(f"{name} has shape {list(found)}, expected {dimensions} dimensions", file)
            return found

        vocab_size, hidden = shape(TABLE, 2)
        layers = {match[1] for name in tensors if (match := re.match(r"backbone\.blocks\.(\d+)\.", name))}
        if "backbone.blocks.0.attention.c_attn.bias" in tensors:
            head_dim = (shape("backbone.blocks.0.attention.c_attn.bias", 1)[0] - hidden) // 2
        else:
            head_dim = shape("backbone.blocks.0.attention.dense2.bias", 1)[0]
        if head_dim < 1 or head_dim == hidden or hidden % head_dim:
            raise UserError(f"has keys of size {head_dim} for hidden size {hidden}: it is not multi-query", file)
        return TransformerConfig(
            model_type=FAMILY.model_type,
            vocab_size=vocab_size,
            hidden_size=hidden,
            num_layers=len(layers),
            num_heads=hidden // head_dim,
            num_kv_heads=1,
            intermediate_size=shape("backbone.blocks.0.output.mapping.bias", 1)[0],
            max_position_embeddings=shape("backbone.embedding.position_embedding.embedding_table", 2)[0],
        )

    def plans_to_ours(
        self, tensors: Mapping[str, StoredTensor], config: TransformerConfig
    ) -> tuple[dict[str, TensorPlan], list[str]]:
        """Plans of our parameters, without those missing from the file, and the unexpected names."""
        expected = config.parameter_shapes()
        plans = {}
        mapping = tensors.get("backbone.blocks.0.output.mapping.weight")
        inner_first = (config.intermediate_size, config.hidden_size)
        stores_transposed = mapping is not None and (
            mapping.shape != inner_first or config.intermediate_size == config.hidden_size
        )
        used = set(HEADS) if config.tied_head else set()
        for theirs, ours in self.pairs(config.num_layers):
            if ours not in expected:
                continue
            source, build, name = tensors.get(theirs), None, theirs
            if source is None and ".dense" in theirs:
                name = re.sub(r"dense\d", "c_attn", theirs)
                source = tensors.get(name)
                shape, build = expected[ours], None if source is None else _rows_of_fused(theirs, config, source)
            elif source is not None and stores_transposed and self.is_transposed(theirs):
                shape, build = source.shape[::-1], transpose
            elif source is not None:
                shape = source.shape
            if source is None:
                continue
            used.add(name)
            plans[ours] = TensorPlan(ours, shape, source.dtype, (source,), build)
        head = next((tensors[name] for name in HEADS if name in tensors), None)
        if config.tied_head and head is not None and "token_embedding.weight" in plans:
            plans["token_embedding.weight"] = tied_table(plans["token_embedding.weight"], head)
        return plans, [name for name in tensors if name not in used]


NAMING = WizardCoderNaming(
    FAMILY.model_type,
    modules={
        f"{BLOCK}.attention.projection": f"{LAYER}.attention.output",
        f"{BLOCK}.attention.dense1": f"{LAYER}.attention.query",
        f"{BLOCK}.attention.dense2": f"{LAYER}.attention.key",
        f"{BLOCK}.attention.dense3": f"{LAYER}.attention.value",
        f"{BLOCK}.output.mapping": f"{LAYER}.mlp.up",
        f"{BLOCK}.output.projection": f"{LAYER}.mlp.down",
    },
    parameters={
        f"{BLOCK}.layernorm1.gamma": f"{LAYER}.attention_norm.weight",
        f"{BLOCK}.layernorm1.beta": f"{LAYER}.attention_norm.bias",
        f"{BLOCK}.layernorm2.gamma": f"{LAYER}.mlp_norm.weight",
        f"{BLOCK}.layernorm2.beta": f"{LAYER}.mlp_norm.bias",
        "backbone.layernorm.gamma": "final_norm.weight",
        "backbone.layernorm.beta": "final_norm.bias",
        TABLE: "token_embedding.weight",
        "backbone.embedding.position_embedding.embedding_table": "position_embedding.weight",
    },
    transposed=("attention.projection", "output.mapping", "output.projection"),
    head=HEADS[0],
    # the same in every WizardCoder and StarCoder
    unknown_fields=frozenset({"norm_epsilon", "scale_attention", "activation"}),
)


def _rows_of_fused(theirs: str, config: TransformerConfig, source: StoredTensor) -> Build | None:
    """Rows of ``attention.c_attn`` that correspond to ``dense1``, ``dense2`` or ``dense3``."""
    begin = {"dense1": 0, "dense2": config.query_size, "dense3": config.query_size + config.kv_size}
    first = begin[theirs.split(".")[4]]
    last = first + (config.query_size if first == 0 else config.kv_size)
    upright = source.shape[0] == config.query_size + 2 * config.kv_size

    def rows(parts: Sequence[np.ndarray]) -> np.ndarray:
        return (parts[0] if upright else parts[0].T)[first:last]

    return rows
