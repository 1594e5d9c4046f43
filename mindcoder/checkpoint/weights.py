"""Opens weights of any format: each reader is asked in turn whether it knows what is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mindcoder.checkpoint.adapter import Adapter, check_fit
from mindcoder.checkpoint.adapter_weights import AdaptedWeights, AdapterReader, PeftAdapter, RunAdapter, find_adapter
from mindcoder.checkpoint.gguf.weights import GgufWeights
from mindcoder.checkpoint.huggingface import CONFIG_LIMIT, HuggingFaceWeights
from mindcoder.checkpoint.mindcoder_weights import MindCoderFolder, TrainingCheckpoint
from mindcoder.checkpoint.mindformers.rank_tree import RankTree
from mindcoder.checkpoint.mindformers.weights import MindFormersWeights
from mindcoder.checkpoint.quantized import awq, bitsandbytes, compressed_tensors, gptq
from mindcoder.checkpoint.quantized.msmodelslim import open_msmodelslim
from mindcoder.checkpoint.quantized.weights import QuantizedWeights
from mindcoder.checkpoint.store import find_checkpoint
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.data.text_format import read_text_format
from mindcoder.errors import UserError
from mindcoder.families.config_fields import shown
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.files import file_there, read_json_object
from mindcoder.locations import hub_hint, path_of, refuse_what_holds_no_weights

QUANTIZATION = "quantization_config"  # in config.json


def open_weights(location: str | Path) -> Weights:
    """Detect what ``location`` holds and open it.

    Raises:
        UserError: nothing is there, or it is unknown or damaged.
    """
    path = path_of(location)
    if not path.is_dir():
        file_there(path)
    found = next(filter(None, (reader(path) for reader in READERS)), None)
    if found is None:  # only Hugging Face's folders have no mark of their own
        refuse_what_holds_no_weights(path)
        found = HuggingFaceWeights.open(path)
    if found.text_format:
        return found
    return replace(found, text_format=read_text_format(found.path if found.path.is_dir() else found.path.parent))


def open_adapted(location: str | Path, base: str | Path | None = None) -> Weights:
    """A base model with an adapter (a LoRA run, its checkpoint, or a PEFT folder) merged into it when it is read.

    A prefix cannot be merged; it is returned beside the weights.

    Args:
        base: location of the base model; by default the one recorded in the adapter.

    Raises:
        UserError: not an adapter, its base is not found, or they do not fit.
    """
    return _on_its_base(find_adapter(path_of(location, "adapter")), location, base)


def open_adapter(location: str | Path, config: TransformerConfig) -> Adapter:
    """The adapter of a LoRA run, its checkpoint, or a PEFT folder, for a network of ``config``.

    Raises:
        UserError: not an adapter, damaged, or of another network.
    """
    found = find_adapter(path_of(location, "adapter"))
    adapter = replace(found.read_updates(config), text_format=found.text_format())
    check_fit(adapter, config.parameter_shapes())
    return adapter


def _on_its_base(adapter: AdapterReader, location: str | Path, base: str | Path | None = None) -> Weights:
    said = base or adapter.base
    if not said or not Path(said).exists():
        told = f"base model {said} does not exist{hub_hint(said)}" if said else "does not say what its base model is"
        raise UserError(f"{told}; merge-lora BASE ADAPTER OUT takes one from anywhere", location)
    return AdaptedWeights.of(adapter, open_weights(said))


def _open_peft(path: Path) -> Weights | None:
    adapter = PeftAdapter.at(path)
    return None if adapter is None else _on_its_base(adapter, path)


def _open_quantized(path: Path) -> Weights | None:
    """A Hugging Face folder whose config.json says that its weights are quantized."""
    file = path / "config.json"
    if not path.is_dir() or not file_there(file):
        return None
    values = read_json_object(file, CONFIG_LIMIT)
    found = values.get(QUANTIZATION)
    if found is None:
        return None
    method = found.get("quant_method") if isinstance(found, Mapping) else found
    if not isinstance(method, str) or method not in QUANTIZED_READERS:
        known = " or ".join(QUANTIZED_READERS)
        raise UserError(f"{QUANTIZATION}.quant_method {method!r:.60} is not implemented; expected {known}", file)
    weights = QUANTIZED_READERS[method](path, values)
    if not weights.quantized:
        raise UserError(f"{QUANTIZATION} {shown(found)}: quantized weights are described, but none are there", file)
    return weights


def _open_run(path: Path) -> Weights | None:
    """The newest checkpoint of a run: a whole network, or an adapter. It is verified once."""
    checkpoint = find_checkpoint(path) if path.is_dir() else None
    if checkpoint is None:
        return None
    adapter = RunAdapter.of(checkpoint)
    return TrainingCheckpoint.of(checkpoint) if adapter is None else _on_its_base(adapter, adapter.path)


# By quantization_config.quant_method; they take the content of config.json too.
QUANTIZED_READERS: Mapping[str, Callable[[Path, dict[str, Any]], QuantizedWeights]] = {
    compressed_tensors.METHOD: compressed_tensors.open_compressed_tensors,
    gptq.METHOD: gptq.open_gptq,
    awq.METHOD: awq.open_awq,
    bitsandbytes.METHOD: bitsandbytes.open_bitsandbytes,
}

# In this order: a folder may also hold files that a later reader would take.
READERS: tuple[Callable[[Path], Weights | None], ...] = (
    RankTree.open,
    MindCoderFolder.open,
    _open_peft,
    _open_run,
    MindFormersWeights.open,
    open_msmodelslim,
    _open_quantized,
    GgufWeights.open,
)
