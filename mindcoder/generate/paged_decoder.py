"""Chooses the implementation of a paged decoder's step for a device and a network."""

from __future__ import annotations

from mindcoder.backend.native import native_available
from mindcoder.generate.adapters import LoadedAdapters
from mindcoder.generate.exported_decoder import ExportedDecoder, GraphSteps
from mindcoder.generate.int8_operator_decoder import Int8OperatorDecoder
from mindcoder.generate.kv_kinds import INT8
from mindcoder.generate.native_decoder import KEYS_PER_VECTOR, NativeDecoder, supports
from mindcoder.generate.operator_decoder import OperatorDecoder
from mindcoder.generate.static_int8_operator_decoder import StaticInt8OperatorDecoder
from mindcoder.models.decoder import Decoder

NATIVE_ACTIVATIONS = ("gelu_tanh", "silu")  # of native/operators.cpp

PagedDecoder = NativeDecoder | OperatorDecoder | GraphSteps


def paged_decoder(
    decoder: Decoder | ExportedDecoder, blocks: int, block_size: int, adapters: LoadedAdapters | None = None
) -> PagedDecoder:
    """The fastest implementation of the decoder's step that fits this device and network."""
    if isinstance(decoder, ExportedDecoder):
        return decoder.steps(blocks, block_size)
    fits = decoder.tp.size == 1 and block_size % KEYS_PER_VECTOR == 0 and supports(decoder)
    if native_available() and fits and decoder.config.activation in NATIVE_ACTIVATIONS:
        return NativeDecoder(decoder, blocks, block_size, adapters)
    if decoder.kv_cache == INT8 and decoder.kv_scales is not None:
        return StaticInt8OperatorDecoder(decoder, blocks, block_size)
    if decoder.kv_cache == INT8:
        return Int8OperatorDecoder(decoder, blocks, block_size)
    return OperatorDecoder(decoder, blocks, block_size)
