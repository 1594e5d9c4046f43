"""A model as a GGUF file: which tensors and which metadata, known before anything is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.checkpoint.gguf.mix import MIXES, Mix, choose_types, replaced
from mindcoder.checkpoint.gguf.number_types import F32
from mindcoder.checkpoint.gguf.text_output import TextMetadata, text_metadata
from mindcoder.checkpoint.gguf.writer import OutputTensor, write_gguf
from mindcoder.checkpoint.huggingface_names import plans_from_ours
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.stored_tensor import Progress, StoredTensor, no_progress
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.errors import UserError
from mindcoder.families.gguf_fields import rope_factors
from mindcoder.families.gguf_form import ROPE_FACTORS, GgufForm
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TransformerConfig

QUANTIZATION_VERSION = 2  # ggml's, of all types written here
NAMES_SHOWN = 4


@dataclass(frozen=True)
class GgufModel:
    """What a file will hold.

    Attributes:
        metadata: values by key.
        tensors: in the file's order.
        text: what the metadata say of the tokenizer.
        notes: what the user has to know of it, a line each.
    """

    metadata: Mapping[str, Any]
    tensors: tuple[OutputTensor, ...]
    text: TextMetadata
    notes: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Size of all tensors in the file."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def write(self, file: Path, progress: Progress = no_progress) -> None:
        """Write it."""
        write_gguf(file, self.metadata, self.tensors, progress)


def gguf_model(weights: Weights, kind: str | None) -> GgufModel:
    """Weights as a file of a type.

    Args:
        kind: a name in `MIXES`; by default the float type that most values are stored in.

    Raises:
        UserError: GGUF has no such network, or the weights do not fit their own description.
    """
    config = weights.config
    form = gguf_form(config, weights.path)
    try:
        described = form.write(config)
    except ValueError as error:
        raise UserError(f"cannot be written as GGUF: {error}", weights.path) from None
    plans = plans_from_ours(weights.parameters(), config, form.weights)
    mix = MIXES[kind or _stored_type(plans)]
    shapes = {plan.name: plan.shape for plan in plans}
    kinds = choose_types(mix, shapes, config.num_layers)
    tensors = [OutputTensor(plan, kinds[plan.name]) for plan in plans]
    factors = rope_factors(config)
    if factors is not None:
        tensors.insert(0, _constant(ROPE_FACTORS, np.array(factors, np.float32), weights.path))
    text = text_metadata(weights)
    metadata = {
        "general.architecture": form.architecture,
        "general.type": "model",
        "general.name": weights.name,
        "general.size_label": _size_label(sum(math.prod(shape) for shape in shapes.values())),
        **described,
        "general.file_type": mix.file_type,
        "general.quantization_version": QUANTIZATION_VERSION,
        **text.metadata,
    }
    return GgufModel(metadata, tuple(tensors), text, (*_notes(mix, shapes, config), *text.notes))


def gguf_form(config: TransformerConfig, path: Path) -> GgufForm:
    """What GGUF files say of the network's family.

    Raises:
        UserError: they cannot say it.
    """
    form = family_of(config.model_type).gguf
    if form is None:
        raise UserError(f"GGUF has no architecture for {config.model_type}", path)
    return form


def _stored_type(plans: list[TensorPlan]) -> str:
    counts = dict.fromkeys(("F32", "F16", "BF16"), 0)
    for plan in plans:
        counts[plan.dtype if plan.dtype in counts else "F32"] += math.prod(plan.shape)
    return max(counts, key=lambda dtype: counts[dtype]).lower()


def _constant(name: str, values: np.ndarray, file: Path) -> OutputTensor:
    source = StoredTensor(name, file, "F32", values.shape, loaded=values)
    return OutputTensor(TensorPlan(name, values.shape, "F32", (source,)), F32)


def _size_label(count: int) -> str:
    """Number of parameters as in the names of models: 15B, 1.1B, 222M, 300K."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f}{letter}"
    return str(count)


def _notes(mix: Mix, shapes: Mapping[str, tuple[int, ...]], config: TransformerConfig) -> tuple[str, ...]:
    notes = []
    groups: dict[tuple[str, str, int], list[str]] = {}
    for name, (asked, written) in replaced(mix, shapes, config.num_layers).items():
        groups.setdefault((asked.name, written.name, asked.values), []).append(name)
    for (asked_name, written_name, values), names in groups.items():
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        notes.append(
            f"{written_name} instead of {asked_name}, whose blocks are {values} values of a row: "
            f"{', '.join(names[:NAMES_SHOWN])}{more}"
        )
    if config.sliding_window is not None and config.sliding_window < config.max_position_embeddings:
        notes.append(
            f"llama.cpp has no sliding window for this architecture: beyond {config.sliding_window} tokens its "
            "answers differ"
        )
    return tuple(notes)
