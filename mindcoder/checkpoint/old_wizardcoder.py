"""The ``.ckpt`` naming of MindFormers' WizardCoder (r1.1): ``backbone.blocks.N.attention.dense1.weight`` and so on.

MindFormers' blocks store the weights of ``attention.projection``, ``output.mapping`` and ``output.projection`` as
``[in, out]`` (``transpose_b=False``), the others as ``[out, in]``. Some files hold one ``attention.c_attn`` instead of
``dense1``, ``dense2`` and ``dense3``, and some hold ``[out, in]`` throughout; both are recognised by their shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mindcoder.checkpoint.plan import Build, TensorPlan
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.errors import UserError
from mindcoder.models import gpt_bigcode
from mindcoder.models.transformer_config import TransformerConfig

BLOCK, LAYER = "backbone.blocks.{layer}", "layers.{layer}"
NAMES = {
    "backbone.embedding.word_embedding.embedding_table": "token_embedding.weight",
    "backbone.embedding.position_embedding.embedding_table": "position_embedding.weight",
    f"{BLOCK}.layernorm1.gamma": f"{LAYER}.attention_norm.weight",
    f"{BLOCK}.layernorm1.beta": f"{LAYER}.attention_norm.bias",
    f"{BLOCK}.attention.dense1": f"{LAYER}.attention.query",
    f"{BLOCK}.attention.dense2": f"{LAYER}.attention.key",
    f"{BLOCK}.attention.dense3": f"{LAYER}.attention.value",
    f"{BLOCK}.attention.projection": f"{LAYER}.attention.output",
    f"{BLOCK}.layernorm2.gamma": f"{LAYER}.mlp_norm.weight",
    f"{BLOCK}.layernorm2.beta": f"{LAYER}.mlp_norm.bias",
    f"{BLOCK}.output.mapping": f"{LAYER}.mlp.up",
    f"{BLOCK}.output.projection": f"{LAYER}.mlp.down",
    "backbone.layernorm.gamma": "final_norm.weight",
    "backbone.layernorm.beta": "final_norm.bias",
}
TRANSPOSED = ("attention.projection", "output.mapping", "output.projection")
IGNORED = ("head.weight", "global_step", "loss_scale", "current_iterator_step", "epoch_num", "step_num")
TRANSPOSE_BLOCK = 256
IGNORED_PREFIXES = ("adam_m.", "adam_v.", "accu_grads.")


def name_pairs(num_layers: int) -> list[tuple[str, str]]:
    """(name in the file, our name) of every parameter."""
    pairs = []
    for old, ours in NAMES.items():
        parts = ("",) if old.endswith(("gamma", "beta", "table")) else (".weight", ".bias")
        for layer in range(num_layers if "{layer}" in old else 1):
            pairs += [(old.format(layer=layer) + part, ours.format(layer=layer) + part) for part in parts]
    return pairs


def is_transposed(old: str) -> bool:
    """Whether MindFormers stores this weight as ``[in, out]``."""
    return old.endswith(tuple(f"{name}.weight" for name in TRANSPOSED))


def config_from_tensors(tensors: Mapping[str, StoredTensor], file: Path) -> TransformerConfig:
    """The architecture, from the shapes; WizardCoder is multi-query, so one key head gives the head size.

    Raises:
        UserError: the names are not WizardCoder's, or the file is not multi-query.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors:
            raise UserError(f"is no WizardCoder checkpoint of MindFormers: it has no {name}", file)
        return tensors[name].shape

    vocab_size, hidden = shape("backbone.embedding.word_embedding.embedding_table")
    layers = {match[1] for name in tensors if (match := re.match(r"backbone\.blocks\.(\d+)\.", name))}
    if "backbone.blocks.0.attention.c_attn.bias" in tensors:
        head_dim = (shape("backbone.blocks.0.attention.c_attn.bias")[0] - hidden) // 2
    else:
        head_dim = shape("backbone.blocks.0.attention.dense2.bias")[0]
    if head_dim == hidden or hidden % head_dim:
        raise UserError(f"has keys of size {head_dim} for hidden size {hidden}: it is not multi-query", file)
    return TransformerConfig(
        model_type=gpt_bigcode.MODEL_TYPE,
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_layers=len(layers),
        num_heads=hidden // head_dim,
        num_kv_heads=1,
        intermediate_size=shape("backbone.blocks.0.output.mapping.bias")[0],
        max_position_embeddings=shape("backbone.embedding.position_embedding.embedding_table")[0],
    )


def plans_to_ours(tensors: Mapping[str, StoredTensor], config: TransformerConfig) -> dict[str, TensorPlan]:
    """Plans of our parameters; those that the file lacks are left out, as are tensors that belong to none."""
    expected = config.parameter_shapes()
    plans = {}
    mapping = tensors.get("backbone.blocks.0.output.mapping.weight")
    inner_first = (config.intermediate_size, config.hidden_size)
    turned = mapping is not None and (mapping.shape != inner_first or config.intermediate_size == config.hidden_size)
    for old, ours in name_pairs(config.num_layers):
        if ours not in expected:
            continue
        source, build = tensors.get(old), None
        if source is None and ".dense" in old:
            source, build = _part_of_fused(tensors, old, config)
        elif turned and is_transposed(old):
            build = _transpose
        if source is not None:
            plans[ours] = TensorPlan(ours, expected[ours], source.dtype, (source,), build)
    return plans


def _transpose(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Block by block, twice as fast as numpy's own order through the caches."""
    (values,) = parts
    turned = np.empty(values.shape[::-1], values.dtype)
    for row in range(0, values.shape[0], TRANSPOSE_BLOCK):
        rows = slice(row, row + TRANSPOSE_BLOCK)
        for column in range(0, values.shape[1], TRANSPOSE_BLOCK):
            columns = slice(column, column + TRANSPOSE_BLOCK)
            turned[columns, rows] = values[rows, columns].T
    return turned


def _part_of_fused(
    tensors: Mapping[str, StoredTensor], old: str, config: TransformerConfig
) -> tuple[StoredTensor | None, Build | None]:
    """Rows of ``attention.c_attn`` that are ``dense1``, ``dense2`` or ``dense3``."""
    source = tensors.get(re.sub(r"dense\d", "c_attn", old))
    if source is None:
        return None, None
    begin = {"dense1": 0, "dense2": config.query_size, "dense3": config.query_size + config.kv_size}
    first = begin[old.split(".")[4]]
    last = first + (config.query_size if first == 0 else config.kv_size)
    upright = source.shape[0] == config.query_size + 2 * config.kv_size

    def rows(parts: Sequence[np.ndarray]) -> np.ndarray:
        return (parts[0] if upright else parts[0].T)[first:last]

    return source, rows


def unexpected_names(tensors: Mapping[str, StoredTensor], config: TransformerConfig) -> list[str]:
    """Tensors that are no weight and no known state of a training run."""
    known = {old for old, _ in name_pairs(config.num_layers)}
    known |= {re.sub(r"dense\d", "c_attn", old) for old in known}
    return [
        name for name in tensors if name not in known and name not in IGNORED and not name.startswith(IGNORED_PREFIXES)
    ]


def plans_from_ours(parameters: Mapping[str, TensorPlan], config: TransformerConfig) -> list[TensorPlan]:
    """Plans of the file's tensors from those of our parameters; a rank's file has some of them.

    Raises:
        UserError: another family than WizardCoder's, or one that the naming has no place for.
    """
    if config.model_type != gpt_bigcode.MODEL_TYPE or not config.tied_head:
        raise UserError(f"MindFormers' WizardCoder naming is for gpt_bigcode with a tied head, not {config.model_type}")
    plans = []
    for old, ours in name_pairs(config.num_layers):
        if ours not in parameters:
            continue
        plan = parameters[ours]
        if is_transposed(old):
            plans.append(TensorPlan(old, plan.shape[::-1], plan.dtype, plan.sources, _then_transpose(plan.build)))
        else:
            plans.append(TensorPlan(old, plan.shape, plan.dtype, plan.sources, plan.build))
    return plans


def _then_transpose(build: Build | None) -> Build:
    def composed(parts: Sequence[np.ndarray]) -> np.ndarray:
        return _transpose([parts[0] if build is None else build(parts)])

    return composed
