"""Bytes of activations and temporary tensors, operator by operator as Ascend's backend runs our graphs.

``tests/ascend/test_published_sizes.py`` compares their sum with MindSpore's own peak statistic for published sizes.
"""

from __future__ import annotations

from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.parallel_layout import ParallelLayout
from mindcoder.planning.layout import ITEM_BYTES, Workload, recomputes

LOGITS_PER_CHUNK = 32 * 2**20  # numbers, of the fused head and loss (`mindcoder.models.loss`)
SOFTMAX_STATISTICS = 2 * 8 * 4  # maximum and sum of a row of scores, each eight float32 (aclnnFlashAttentionScore)
COMPRESSED_MASK = 2048 * 2048  # bytes (`mindcoder.backend.attention.triangle`)
INT32 = 4
HASH_BYTES = 3 * INT32  # of an element whose dropout is being drawn (`mindcoder.backend.dropout`)


def own_rows(layout: ParallelLayout, work: Workload) -> float:
    """Rows of the residual stream on a rank: a share of them with sequence parallelism."""
    return work.tokens / (layout.tensor if layout.sequence else 1)


def kept_by_layer(config: TransformerConfig, layout: ParallelLayout, work: Workload) -> float:
    """What a layer keeps for its backward pass.

    The input of each norm in the norm's dtype and its output for the products behind it (of all rows, which sequence
    parallelism gathers); what norms of heads take; query, key and value (these two of whole rows with context
    parallelism), attention's output, the MLP's inner features before their activation; the fused kernel's statistics
    and the bits of its dropout mask.
    """
    item, norm = ITEM_BYTES[config.compute_dtype], ITEM_BYTES[config.norm_dtype]
    inner = config.intermediate_size * (2 if config.gated_mlp else 1)
    sliced = (2 * config.query_size + 2 * config.kv_size * layout.context + inner) / layout.tensor
    heads = config.num_heads / layout.tensor
    kept = 2 * norm * own_rows(layout, work) * config.hidden_size
    kept += work.tokens * item * (2 * config.hidden_size + sliced)
    if config.qk_norm:
        kept += work.tokens * norm * (config.query_size + config.kv_size) / layout.tensor
    kept += SOFTMAX_STATISTICS * work.tokens * heads
    if config.attention_dropout > 0:
        kept += work.tokens * heads * work.length / 8
    return kept


def kept_bytes(config: TransformerConfig, layout: ParallelLayout, work: Workload, layers: int, stage: int) -> float:
    """What a stage keeps between forward and backward: with recomputation its layers' inputs only.

    All pipeline stages but the last recompute, and 1F1B holds ``pipeline - stage`` micro batches there.
    """
    if not recomputes(layout, work, stage):
        return layers * kept_by_layer(config, layout, work)
    in_flight = min(layout.pipeline - stage, work.micro_batches)
    entered = own_rows(layout, work) * config.hidden_size * ITEM_BYTES[config.compute_dtype]
    return in_flight * layers * entered


def layer_bytes(config: TransformerConfig, layout: ParallelLayout, work: Workload, stage: int) -> float:
    """The backward pass of one layer: what it keeps, made again, and the larger of two moments.

    In the MLP: its activation, the gradient of that and of what goes into it, and the gradient of the hidden states. In
    a dropout of the residual stream: three int32 per element for the hash.
    """
    item = ITEM_BYTES[config.compute_dtype]
    features = (5 if config.gated_mlp else 3) * config.intermediate_size / layout.tensor
    working = work.tokens * item * (features + 2 * config.hidden_size)
    if config.hidden_dropout > 0:
        working = max(working, HASH_BYTES * own_rows(layout, work) * config.hidden_size)
    return working + (kept_by_layer(config, layout, work) if recomputes(layout, work, stage) else 0.0)


def head_bytes(config: TransformerConfig, layout: ParallelLayout, work: Workload) -> float:
    """The final norm, the head and the loss.

    The head weight's gradient is summed in float32 over chunks of rows: the sum so far, a chunk's, and their sum. Of
    one chunk alone it is the product, its float32 copy and, with a loss scale, that one's product. While a chunk's
    logits are there (in the compute dtype, in float32, and their softmax) there is only the sum so far. A frozen
    head's is made as well.
    """
    item = ITEM_BYTES[config.compute_dtype]
    vocabulary = config.vocab_size / (layout.tensor if layout.vocabulary else 1)
    chunks = -(-work.tokens * vocabulary // LOGITS_PER_CHUNK)
    numbers = 2 * 4 + (0 if config.compute_dtype == "float32" else item)
    logits = work.tokens * vocabulary / chunks * numbers
    rows = (
        work.tokens * config.hidden_size * (2 * item + 4)
        + own_rows(layout, work) * config.hidden_size * (ITEM_BYTES[config.norm_dtype])
    )
    weight = vocabulary * config.hidden_size
    summed = (12 if chunks > 1 else max(item + 4, 8)) * weight
    return rows + max(summed, logits + (4 * weight if chunks > 1 else 0))


def rows_bytes(config: TransformerConfig, layout: ParallelLayout, work: Workload) -> float:
    """Looked-up rows and the gradient that goes down the residual stream."""
    return ITEM_BYTES[config.compute_dtype] * config.hidden_size * (work.tokens + own_rows(layout, work))


def mask_bytes(config: TransformerConfig, layout: ParallelLayout, work: Workload) -> float:
    """Of the mask that all layers share.

    The ends of documents beside a mask of the kernel's own size; with dropout or a prefix a byte per query and key.
    """
    if config.attention_dropout == 0 and work.prefix == 0:
        return float(COMPRESSED_MASK)
    return float(work.batch * work.length * (work.prefix + work.length))


def dropout_constants(config: TransformerConfig, layout: ParallelLayout, work: Workload, stage: int) -> float:
    """The elements' numbers that dropout hashes, which the compiler keeps with each graph: one, or two on a pipeline
    stage whose forward and backward pass are graphs of their own."""
    embedding = work.tokens if config.embedding_dropout > 0 and stage == 0 else 0
    hidden = own_rows(layout, work) if config.hidden_dropout > 0 else 0
    graphs = 2 if stage < layout.pipeline - 1 else 1
    return graphs * INT32 * (config.hidden_size * (embedding + hidden))
