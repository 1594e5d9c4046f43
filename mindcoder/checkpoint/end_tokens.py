"""The tokens that end an answer, as a model's own files say: often more than the tokenizer's one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindcoder.checkpoint.companions import GENERATION_FILE
from mindcoder.checkpoint.weights import Weights
from mindcoder.errors import UserError, single_line
from mindcoder.files import read_json_object

CONFIG_FILE = "config.json"


def end_tokens(weights: Weights) -> frozenset[int]:
    """The ids of a list in ``eos_token_id``; generation_config.json's wins over config.json's, as in transformers.

    A single id is the tokenizer's to tell. Ids outside of the vocabulary can never come and are left out.

    Raises:
        UserError: something else stands there.
    """
    file = weights.companions.get(GENERATION_FILE)
    if file is not None:
        values = read_json_object(file)
        if values.get("eos_token_id") is not None:
            return _ids(values, file, weights.config.vocab_size)
    return _ids(weights.huggingface_config or {}, weights.place / CONFIG_FILE, weights.config.vocab_size)


def _ids(values: Mapping[str, Any], place: Any, vocabulary: int) -> frozenset[int]:
    given = values.get("eos_token_id")
    ids = given if isinstance(given, list) else [] if given is None else [given]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in ids):
        found = single_line(repr(given), 80)
        raise UserError(f"eos_token_id: expected a token id or a list of them, found {found}", place)
    return frozenset(item for item in ids if 0 <= item < vocabulary) if len(ids) > 1 else frozenset()
