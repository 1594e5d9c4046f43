"""Weights from wherever ``--load_checkpoint`` points into a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor

from mindcoder.checkpoint.huggingface import mismatch_error, read_huggingface
from mindcoder.checkpoint.store import Checkpoint, is_checkpoint, list_steps, newest_checkpoint, open_checkpoint
from mindcoder.errors import UserError
from mindcoder.models.decoder import Decoder
from mindcoder.models.transformer_config import TransformerConfig


def find_checkpoint(location: str) -> Checkpoint | None:
    """The checkpoint at ``location``: a step folder, a folder of steps, or a run's output folder.

    Returns:
        None when ``location`` is something else (a Hugging Face folder).

    Raises:
        UserError: nothing there, or only damaged checkpoints.
    """
    path = Path(location)
    if not path.exists():
        raise UserError("no such checkpoint", location)
    if is_checkpoint(path):
        return open_checkpoint(path)
    for root in (path, path / "checkpoint"):
        if list_steps(root):
            found = newest_checkpoint(root)
            if found is None:
                raise UserError("all checkpoints here are damaged", root)
            return found
    return None


def check_architecture(state: Mapping[str, Any], config: TransformerConfig, place: Path | str) -> None:
    """Compare the sizes a checkpoint was written with to the model's.

    Raises:
        UserError: lists the fields that differ.
    """
    saved = state.get("architecture", {})
    differing = [
        f"{name} {saved[name]} instead of {value}"
        for name, value in config.architecture().items()
        if name in saved and saved[name] != value
    ]
    if differing:
        raise UserError(f"checkpoint of another shape: {', '.join(differing)}", place)


def load_weights(decoder: Decoder, location: str) -> str:
    """Fill ``decoder`` from our checkpoint or a Hugging Face folder; gives a line that says from what.

    Raises:
        UserError: nothing there, damaged, or of another shape.
    """
    checkpoint = find_checkpoint(location)
    if checkpoint is None:
        parameters = read_huggingface(location, decoder.config)
        source = f"Hugging Face folder {location}"
    else:
        check_architecture(checkpoint.state, decoder.config, checkpoint.folder)
        parameters = checkpoint.model()
        source = f"checkpoint {checkpoint.folder} (step {checkpoint.step})"
    assign_parameters(decoder.get_parameters(), parameters, location)
    return source


def assign_parameters(targets: Iterable[Parameter], values: Mapping[str, np.ndarray], place: Path | str) -> None:
    """Set every target to the value of its name.

    Raises:
        UserError: names or shapes differ.
    """
    by_name = {target.name: target for target in targets}
    missing = [name for name in by_name if name not in values]
    unexpected = [name for name in values if name not in by_name]
    shapes = [
        f"{name} {list(values[name].shape)} instead of {list(target.shape)}"
        for name, target in by_name.items()
        if name in values and values[name].shape != tuple(target.shape)
    ]
    if missing or unexpected or shapes:
        raise mismatch_error(place, missing, unexpected, shapes)
    for name, target in by_name.items():
        target.set_data(Tensor(np.ascontiguousarray(values[name]), target.dtype))
