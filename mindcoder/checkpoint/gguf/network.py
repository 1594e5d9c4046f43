"""The network that a GGUF file describes, and the keys that are not about the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mindcoder.checkpoint.gguf.header import Header
from mindcoder.checkpoint.gguf.text_keys import TokenIds
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.errors import UserError
from mindcoder.families.base import Family
from mindcoder.families.config_fields import shown
from mindcoder.families.gguf_form import ROPE_FACTORS, GgufFields
from mindcoder.families.registry import FAMILIES
from mindcoder.families.transformer_config import TransformerConfig

LARGEST_ROPE_FACTORS = 1 << 15  # half the largest head
# Namespaces that llama.cpp reads beside general and the architecture's. Keys of any other, such as
# quantize.imatrix.file, are notes of the tool that wrote the file.
SPLIT, FOREIGN = "split.", ("adapter.", "clip.", "imatrix.", "training.")


def read_network(header: Header, tensors: Mapping[str, StoredTensor], ids: TokenIds, file: Path) -> TransformerConfig:
    """The configuration of a file.

    Args:
        tensors: those of the header.
        ids: of special tokens.

    Raises:
        UserError: the architecture is unknown, or a key changes the model in a way that is not implemented.
    """
    metadata = header.metadata
    _check_kind(metadata, file)
    family = family_of_architecture(metadata.get("general.architecture"), file)
    form = family.gguf
    assert form is not None
    prefix = f"{form.architecture}."
    own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    shapes = {name: info.shape for name, info in header.tensors.items()}
    fields = GgufFields(own, shapes, _rope_factors(tensors))
    try:
        config = form.read(family.model_type, fields)
        return replace(config, bos_token_id=ids.bos, eos_token_id=ids.eos, pad_token_id=ids.padding)
    except ValueError as error:
        raise UserError(f"{prefix}{error}", file) from None


def family_of_architecture(name: Any, file: Path) -> Family:
    """The family of a ``general.architecture``.

    Raises:
        UserError: there is none.
    """
    forms = [(family, family.gguf) for family in FAMILIES.values() if family.gguf is not None]
    known = {form.architecture: family for family, form in forms if form.is_read}
    if name is None:
        raise UserError("general.architecture is missing", file)
    if not isinstance(name, str) or name not in known:
        raise UserError(f"general.architecture {shown(name)} is not implemented; expected {', '.join(known)}", file)
    return known[name]


def _check_kind(metadata: Mapping[str, Any], file: Path) -> None:
    kind = metadata.get("general.type", "model")
    if kind != "model":
        raise UserError(f"general.type {shown(kind)} is not read; expected model", file)
    if metadata.get(f"{SPLIT}count", 1) not in (0, 1):
        count = shown(metadata[f"{SPLIT}count"])
        raise UserError(f"is one of {count} parts: join them with llama-gguf-split --merge", file)
    for key in metadata:
        if key.startswith(FOREIGN):
            raise UserError(f"metadata key {shown(key)} belongs to another kind of file than a model", file)


def _rope_factors(tensors: Mapping[str, StoredTensor]) -> tuple[float, ...] | None:
    tensor = tensors.get(ROPE_FACTORS)
    if tensor is None or tensor.dtype != "F32" or len(tensor.shape) != 1 or tensor.shape[0] > LARGEST_ROPE_FACTORS:
        return None
    return tuple(tensor.read().tolist())
