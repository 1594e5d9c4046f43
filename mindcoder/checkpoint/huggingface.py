"""Hugging Face folders: tensors by name, from safetensors or ``.bin``, sharded or not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from mindcoder.errors import UserError
from mindcoder.files import staging_directory
from mindcoder.models.registry import family_of
from mindcoder.models.transformer_config import TransformerConfig

SHOWN = 10  # names listed of each kind of mismatch


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies."""

    file: Path
    name: str


class HuggingFaceFolder:
    """A folder with ``config.json`` and weights.

    Raises:
        UserError: no config, no weights, a shard missing or damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        config_file = self.folder / "config.json"
        if not config_file.is_file():
            raise UserError("is no Hugging Face folder: config.json is missing", self.folder)
        try:
            self.config: dict[str, Any] = json.loads(config_file.read_text(encoding="utf-8"))
            self.transformer_config = family_of(self.config.get("model_type", "")).config_from_huggingface(self.config)
        except (json.JSONDecodeError, ValueError) as error:
            raise UserError(str(error), config_file) from None
        self._bin_cache: dict[Path, dict[str, np.ndarray]] = {}
        self.tensors = {name: TensorPlace(file, name) for file in self._weight_files() for name in self._names(file)}

    def _weight_files(self) -> list[Path]:
        for single, index in (
            ("model.safetensors", "model.safetensors.index.json"),
            ("pytorch_model.bin", "pytorch_model.bin.index.json"),
        ):
            if (self.folder / index).is_file():
                try:
                    names = set(json.loads((self.folder / index).read_text())["weight_map"].values())
                except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
                    raise UserError(f"is no weight index: {error}", self.folder / index) from None
                files = [self.folder / Path(name).name for name in sorted(names)]
                for file in files:
                    if not file.is_file():
                        raise UserError(f"shard is missing, {index} names it", file)
                return files
            if (self.folder / single).is_file():
                return [self.folder / single]
        raise UserError("holds neither model.safetensors nor pytorch_model.bin, nor an index of shards", self.folder)

    def _names(self, file: Path) -> Iterable[str]:
        if file.suffix == ".bin":
            return list(self._read_bin(file))
        try:
            with safe_open(file, framework="numpy") as stream:
                return list(stream.keys())
        except (SafetensorError, OSError) as error:
            raise UserError(f"is no whole safetensors file: {error}", file) from None

    def _read_bin(self, file: Path) -> dict[str, np.ndarray]:
        if file not in self._bin_cache:
            try:
                import torch
            except ImportError:
                raise UserError(
                    "reading .bin files needs PyTorch: pip install torch, or convert to safetensors", file
                ) from None
            try:
                state = torch.load(file, map_location="cpu", weights_only=True)
            except Exception as error:
                reason = str(error).strip().splitlines()[0][:200]
                raise UserError(f"cannot be read safely as PyTorch weights: {reason}", file) from None
            self._bin_cache = {
                file: {
                    name: tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
                    for name, tensor in state.items()
                }
            }
        return self._bin_cache[file]

    def read(self, name: str) -> np.ndarray:
        """One tensor; bfloat16 comes as float32."""
        file = self.tensors[name].file
        if file.suffix == ".bin":
            return self._read_bin(file)[name]
        return read_safetensor(file, name)


def read_safetensor(file: Path, name: str) -> np.ndarray:
    """One tensor of a safetensors file; bfloat16, which numpy lacks, comes as float32."""
    with safe_open(file, framework="numpy") as stream:
        piece = stream.get_slice(name)
        if piece.get_dtype() != "BF16":
            return stream.get_tensor(name)
        shape = piece.get_shape()
    with open(file, "rb") as raw:
        header_size = int.from_bytes(raw.read(8), "little")
        header = json.loads(raw.read(header_size))
        begin, end = header[name]["data_offsets"]
        raw.seek(8 + header_size + begin)
        halves = np.frombuffer(raw.read(end - begin), np.uint16)
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(shape)


def mismatch_error(place: Path | str, missing: list[str], unexpected: list[str], shapes: list[str]) -> UserError:
    """One error that lists what does not fit, the first ten of each kind."""
    parts = []
    for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)):
        if names:
            more = f" … {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            parts.append(f"{len(names)} {title}: {', '.join(names[:SHOWN])}{more}")
    return UserError("does not fit the model: " + "; ".join(parts), place)


def read_huggingface(folder: str | Path, config: TransformerConfig) -> dict[str, np.ndarray]:
    """Parameters of ``config``'s network from a Hugging Face folder.

    A token embedding with fewer rows than ``config.vocab_size`` is filled up with zeros (StarCoder's 49152 rows for
    WizardCoder's 49153); every other difference is an error.

    Raises:
        UserError: what is missing, unexpected or of another shape.
    """
    source = HuggingFaceFolder(folder)
    if source.transformer_config.model_type != config.model_type:
        raise UserError(f"is a {source.transformer_config.model_type} model, expected {config.model_type}", folder)
    table = family_of(config.model_type).WEIGHTS
    rules = list(table.expand(config))
    wanted = {rule.huggingface for rule in rules}
    # Files of the bare transformer lack its prefix.
    prefix = "" if any(name in source.tensors for name in wanted) else table.prefix
    missing = [name for name in wanted if name.removeprefix(prefix) not in source.tensors]
    known = {name.removeprefix(prefix) for name in wanted}
    unexpected = [name for name in source.tensors if name not in known and not table.is_ignored(name)]
    if missing or unexpected:
        raise mismatch_error(folder, sorted(missing), sorted(unexpected), [])
    expected = config.parameter_shapes()
    parameters: dict[str, np.ndarray] = {}
    shapes = []
    for rule in rules:
        tensor = source.read(rule.huggingface.removeprefix(prefix))
        try:
            parts = table.to_ours(rule, tensor, config)
        except ValueError:
            shapes.append(f"{rule.huggingface} {list(tensor.shape)}")
            continue
        for name, part in parts.items():
            if name == "token_embedding.weight" and part.shape[0] < config.vocab_size:
                rows = config.vocab_size - part.shape[0]
                part = np.concatenate([part, np.zeros((rows, *part.shape[1:]), part.dtype)])
            if part.shape != expected[name]:
                shapes.append(f"{rule.huggingface} {list(part.shape)} instead of {list(expected[name])}")
            parameters[name] = part
    if shapes:
        raise mismatch_error(folder, [], [], shapes)
    return parameters


def write_huggingface(parameters: Mapping[str, np.ndarray], config: TransformerConfig, folder: str | Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` that transformers loads; beside first, then renamed."""
    from safetensors.numpy import save_file

    family = family_of(config.model_type)
    target = Path(folder)
    tensors = {
        rule.huggingface: np.ascontiguousarray(family.WEIGHTS.to_huggingface(rule, parameters, config))
        for rule in family.WEIGHTS.expand(config)
    }
    with staging_directory(target) as staging:
        save_file(tensors, staging / "model.safetensors", metadata={"format": "pt"})
        text = json.dumps(family.config_to_huggingface(config), indent=2)
        (staging / "config.json").write_text(text + "\n", encoding="utf-8")
        target.mkdir(exist_ok=True)
        for path in staging.iterdir():
            path.replace(target / path.name)
