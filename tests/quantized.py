"""Quantized folders of random models, and the same models with their weights in floating point."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import mindcoder
from mindcoder.checkpoint.load import FittingWeights, load_weights
from mindcoder.checkpoint.weights import open_weights
from mindcoder.families.parameter_names import OFFSET, SCALE
from mindcoder.models.decoder import Decoder

# Sizes that groups of 32 and 64 divide.
WIDE = {
    "gpt_bigcode": {"n_embd": 64, "n_inner": 128},
    "starcoder2": {"hidden_size": 64, "intermediate_size": 128},
    "llama": {"hidden_size": 64, "intermediate_size": 128},
}
W8A16 = {"method": "w8a16"}
W8A16_GROUPS = {"method": "w8a16", "group_size": 32, "symmetric": False}
W4A16 = {"method": "w4a16", "group_size": 32}
W4A16_OFFSETS = {"method": "w4a16", "group_size": 64, "symmetric": False, "algorithm": "mse"}
METHODS = [W8A16, W8A16_GROUPS, W4A16, W4A16_OFFSETS]


def named(options: dict) -> str:
    """Name of a test with these options of `mindcoder.quantize`."""
    return "-".join(str(value) for value in options.values())


def quantized_and_float(folder: Path, target: Path, **options) -> tuple[Decoder, Decoder]:
    """A network that keeps the integers of ``folder``'s quantized weights, and one that keeps their values."""
    mindcoder.quantize(folder, target, progress=False, **options)
    weights = open_weights(target)
    config = weights.config.without_dropout()
    quantized, plain = Decoder(config, empty=True), Decoder(config, empty=True)
    load_weights(quantized, target)
    load_weights(plain, FittingWeights(weights, weights.parameters(config)))
    return quantized, plain


def numbers(linear) -> np.ndarray:
    """The weight of a quantized layer by the formula, ``(weight - offset) * scale``, with numpy."""
    stored = linear.weight.asnumpy()
    if stored.dtype == np.uint8:
        stored = np.stack([stored & 15, stored >> 4], 2).reshape(len(stored), -1).astype(np.int8) - 8
    scale = getattr(linear, SCALE).asnumpy()
    offset = getattr(linear, OFFSET).asnumpy() if hasattr(linear, OFFSET) else np.zeros_like(scale)
    grouped = stored.astype(np.float32).reshape(*scale.shape, -1)
    return ((grouped - offset[:, :, None]) * scale[:, :, None]).reshape(len(stored), -1)
