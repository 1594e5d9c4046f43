"""How a network's keys and values are kept: chosen before its engine is built."""

from __future__ import annotations

import logging

from mindcoder.checkpoint.kv_scales import ChannelScales, KvScales
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.generate.kv_kinds import INT8
from mindcoder.models.decoder import Decoder
from mindcoder.models.tensor_parallel import Shard, key_value_shard

log = logging.getLogger(__name__)


def choose_cache(decoder: Decoder, kind: str, weights: Weights) -> None:
    """Set how ``decoder`` keeps keys and values.

    An int8 cache uses the per-channel scales stored with ``weights``, if there are any; otherwise each token gets one
    scale per head.

    Args:
        kind: of `mindcoder.generate.kv_kinds.KV_CACHES`.

    Raises:
        UserError: the scales are damaged.
    """
    decoder.kv_cache = kind
    decoder.kv_scales = None
    if kind != INT8 or not weights.has_kv_scales:
        return
    scales = weights.kv_scales()
    decoder.kv_scales = [_local(scales[layer], decoder) for layer in decoder.stage.layers]
    log.info("keys and values in int8, by the scales of %s", weights.path)


def _local(scales: KvScales, decoder: Decoder) -> KvScales:
    """Those of the heads that this rank holds."""
    if key_value_shard(decoder.config, decoder.tp.size) is not Shard.COLUMN:
        return scales
    return KvScales(_part(scales.key, decoder), _part(scales.value, decoder))


def _part(scales: ChannelScales, decoder: Decoder) -> ChannelScales:
    return ChannelScales(decoder.tp.shard(scales.scale, 0), decoder.tp.shard(scales.offset, 0))
