"""The tokenizer that lies with weights."""

from __future__ import annotations

from pathlib import Path

from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.tokenizer import CodeTokenizer, load_tokenizer
from mindcoder.tokenizer.load import find_tokenizer


def own_tokenizer(weights: Weights, location: str) -> CodeTokenizer | None:
    """The tokenizer that lies with ``weights``, which were opened at ``location``; None if there is none."""
    folders = [file.parent for file in weights.companions.values()]
    for folder in [*folders, Path(location), Path(location) / "tokenizer"]:
        file = find_tokenizer(folder)
        if file is not None:
            return load_tokenizer(file)
    return None
