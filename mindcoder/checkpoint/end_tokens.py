"""Stop tokens according to the model's own files, which may differ from the tokenizer's end token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindcoder.checkpoint.companions import GENERATION_FILE
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.errors import UserError, single_line
from mindcoder.files import read_json_object
from mindcoder.tokenizer import CodeTokenizer
from mindcoder.tokenizer.load import find_tokenizer, load_tokenizer

CONFIG_FILE = "config.json"
KEY = "eos_token_id"


def stop_ids(weights: Weights, tokenizer: CodeTokenizer, is_own: bool) -> frozenset[int]:
    """Ids that end generation: the tokenizer's, and the model's if they mean the same in that tokenizer.

    Args:
        is_own: whether the tokenizer is the one that came with the model.

    Raises:
        UserError: a file of the model is corrupt.
    """
    models = end_tokens(weights)
    return (
        models.union(tokenizer.stop_ids) if is_own or ends_alike(weights, tokenizer) else frozenset(tokenizer.stop_ids)
    )


def end_tokens(weights: Weights) -> frozenset[int]:
    """The ids of ``eos_token_id``, one or a list, from generation_config.json or, without that file, config.json.

    These are the ids at which ``generate`` of transformers 4.57.1 stops (modeling_utils.py, from_pretrained;
    generation/utils.py, _prepare_special_tokens). There are two differences: the engine also stops at the tokenizer's
    end token, as vLLM does, because training puts that one after every answer; and a missing key in config.json does
    not mean the default of the transformers class (2 for Llama, 50256 for the others), which belongs to another
    vocabulary. Ids outside the vocabulary can never be generated and are dropped.

    Raises:
        UserError: the value is not an id or a list of ids.
    """
    file = weights.companions.get(GENERATION_FILE)
    if file is not None:
        return _ids(read_json_object(file), file, weights.config.vocab_size)
    return _ids(weights.huggingface_config or {}, weights.path / CONFIG_FILE, weights.config.vocab_size)


def ends_alike(weights: Weights, tokenizer: CodeTokenizer) -> bool:
    """Whether the model's stop ids are the same tokens in ``tokenizer`` as in the model's own tokenizer.

    Raises:
        UserError: a file of the model is corrupt.
    """
    folders = {file.parent for file in weights.companions.values()}
    file = next((found for found in map(find_tokenizer, folders) if found is not None), None)
    if file is None:
        return True
    before, now = load_tokenizer(file).backend, tokenizer.backend
    return all(before.id_to_token(index) == now.id_to_token(index) for index in end_tokens(weights))


def companions_beside(
    weights: Weights, own: CodeTokenizer | None
) -> tuple[Mapping[str, Path], Mapping[str, Any] | None]:
    """The companion files and config.json of a model to store with a run that starts from it.

    Args:
        own: the run's tokenizer; None if it is the model's. With another tokenizer only the generation settings are
            kept, and not even those if its stop ids are different tokens.

    Raises:
        UserError: a file of the model is corrupt.
    """
    if own is None:
        return weights.companions, weights.huggingface_config
    if ends_alike(weights, own):
        settings = {name: file for name, file in weights.companions.items() if name == GENERATION_FILE}
        return settings, weights.huggingface_config
    original = weights.huggingface_config
    return {}, None if original is None else {**original, KEY: own.eos_id}


def _ids(values: Mapping[str, Any], file: Any, vocabulary: int) -> frozenset[int]:
    given = values.get(KEY)
    ids = given if isinstance(given, list) else [] if given is None else [given]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in ids):
        found = single_line(repr(given), 80)
        raise UserError(f"{KEY}: expected a token id or a list of them, found {found}", file)
    return frozenset(item for item in ids if 0 <= item < vocabulary)
