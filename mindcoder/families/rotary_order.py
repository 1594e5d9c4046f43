"""Order of a head's features where only some of them rotate.

Hugging Face and GGUF have the R rotating features first: pairs (i, i + R/2), then the D - R others. Ascend's operator
rotates pairs (i, i + D/2) of whole heads. So the others are divided over both halves here, as pairs that turn by an
angle of zero. The scores of queries and keys do not depend on the order of features, as long as both have the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mindcoder.families.transformer_config import TransformerConfig

if TYPE_CHECKING:
    import numpy as np


def in_our_order(tensor: np.ndarray, config: TransformerConfig) -> np.ndarray:
    """Rows of queries or keys ``[heads * D, *]`` from Hugging Face's order."""
    return _exchanged(tensor, config, to_ours=True)


def in_their_order(tensor: np.ndarray, config: TransformerConfig) -> np.ndarray:
    """The inverse of `in_our_order`."""
    return _exchanged(tensor, config, to_ours=False)


def _exchanged(tensor: np.ndarray, config: TransformerConfig, to_ours: bool) -> np.ndarray:
    """In ours: R/2 rotating, (D-R)/2 others, R/2 rotating, (D-R)/2 others. In theirs: R rotating, D-R others."""
    import numpy as np  # not above: reading a YAML file needs no arrays

    size, rotating = config.head_dim, config.rotating_dim
    if size == rotating:
        return tensor
    half, rest = rotating // 2, (size - rotating) // 2
    order = np.arange(size)
    theirs = np.concatenate(
        [order[:half], order[rotating : rotating + rest], order[half:rotating], order[rotating + rest :]]
    )
    heads = tensor.reshape(-1, size, *tensor.shape[1:])
    return heads[:, theirs if to_ours else np.argsort(theirs)].reshape(tensor.shape)
