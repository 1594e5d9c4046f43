"""Llama 3's scaling of rotary frequencies as what each frequency is divided by, which is how GGUF stores it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mindcoder.families.rope_scaling import RopeScaling

PUBLISHED = (1.0, 4.0)  # low_freq_factor and high_freq_factor of Llama 3.1, 3.2 and 3.3
CONTEXTS = tuple(2**power for power in range(9, 21))  # tokens that a model may have been pretrained with
TOLERANCE = 1e-4  # relative; the divisors are float32 and others round them otherwise


def llama3_factors(scaling: RopeScaling, theta: float, head_dim: int) -> list[float]:
    """What each of the D/2 frequencies is divided by: 1 for the high ones, ``factor`` for the low ones, and between
    the two bounds interpolated (transformers, modeling_rope_utils.py, ``_compute_llama3_parameters``).
    """
    factors = []
    for index in range(0, head_dim, 2):
        wavelength = 2 * math.pi * theta ** (index / head_dim)
        blend = (scaling.original_length / wavelength - scaling.low_freq_factor) / (
            scaling.high_freq_factor - scaling.low_freq_factor
        )
        blend = min(max(blend, 0.0), 1.0)
        factors.append(1.0 / ((1.0 - blend) / scaling.factor + blend))
    return factors


def llama3_scaling(factors: Sequence[float], theta: float) -> RopeScaling | None:
    """The scaling that gives these divisors; None if they change nothing.

    Only the bounds of the published models are tried, with every context that is a power of two.

    Raises:
        ValueError: no such scaling.
    """
    factor = round(max(factors), 4)
    if min(factors) == factor == 1.0:
        return None
    for original in CONTEXTS:
        scaling = RopeScaling("llama3", factor, original, *PUBLISHED)
        expected = llama3_factors(scaling, theta, 2 * len(factors))
        if all(abs(given - own) <= TOLERANCE * own for given, own in zip(factors, expected)):
            return scaling
    raise ValueError("rope_freqs.weight: these factors are not those of Llama 3's rope_scaling, the only one read")
