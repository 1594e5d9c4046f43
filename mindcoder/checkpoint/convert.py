"""Converts weights between formats, tensor by tensor: at most the largest tensor is in memory."""

from __future__ import annotations

import json
import logging
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mindcoder.checkpoint.adapter_weights import MergedWeights
from mindcoder.checkpoint.companions import GENERATION_FILE, ORIGINAL_CONFIG, copy_companions
from mindcoder.checkpoint.gguf.location import SUFFIX as GGUF_SUFFIX
from mindcoder.checkpoint.gguf.mix import MIXES
from mindcoder.checkpoint.gguf.modelfile import modelfile_beside, write_modelfile
from mindcoder.checkpoint.gguf.output import gguf_model
from mindcoder.checkpoint.mindcoder_weights import RANK_FILES, write_architecture
from mindcoder.checkpoint.mindformers.rank_tree import write_rank_tree
from mindcoder.checkpoint.mindformers.weights import naming_of
from mindcoder.checkpoint.mindspore_file import write_mindspore
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.report import tokenizer_size
from mindcoder.checkpoint.safetensors_file import write_file, write_safetensors
from mindcoder.checkpoint.shards import shard_metadata
from mindcoder.checkpoint.split import check_division, rank_shards
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.checkpoint.target import prepare_target, put_in_place
from mindcoder.checkpoint.torch_writer import write_torch
from mindcoder.checkpoint.weights import open_adapted, open_weights
from mindcoder.data.chat_template import write_chat_template
from mindcoder.data.text_format import write_text_format
from mindcoder.errors import UserError
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TOKEN_TABLES, TransformerConfig
from mindcoder.files import require_space, staging_directory
from mindcoder.parallel_layout import ParallelLayout
from mindcoder.progress import tqdm

Format = Literal["huggingface", "mindcoder", "ckpt", "torch", "gguf"]
FORMATS: tuple[Format, ...] = ("huggingface", "mindcoder", "ckpt", "torch", "gguf")
TORCH_SUFFIXES = (".bin", ".pt", ".pth")
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
HEAD_NAME = "lm_head.weight"  # in all families of transformers
SINGLE_NAME = "weights"  # name in the staging folder if the target is a file
OLLAMA_CONTEXT = 4096  # tokens, at most; the user of ollama may ask for more
SHARD_BYTES = 5 * 10**9  # transformers' default
Progress = Callable[[int], object]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConvertRequest:
    """Options of a conversion.

    Attributes:
        source: anything `open_weights` accepts.
        target: a folder, or a file ending in ``.ckpt``, in ``.bin`` for PyTorch's format, or in ``.gguf``.
        to: target format; by default ours for a Hugging Face source, Hugging Face's for all others.
        dtype: ``float32``, ``float16`` or ``bfloat16``; by default each tensor keeps its own, and integers become
            float32.
        gguf_type: of a ``.gguf``: a name in `mindcoder.checkpoint.gguf.mix.MIXES`; by default as ``dtype`` says, or as
            most values are stored.
        vocab_size: rows of embedding and head; by default those of the source, without padding.
        max_shard_bytes: of one safetensors file of a folder; by default `SHARD_BYTES`.
        overwrite: replace an existing target.
        show_progress: show a progress bar in bytes.
        adapter: LoRA run or PEFT folder to merge into the source.
        layout: ranks to split over, without data parallelism; ours gets one file per rank, ckpt a folder of
            ``rank_N/checkpoint_N.ckpt``.
    """

    source: str
    target: Path
    to: Format | None = None
    dtype: str | None = None
    vocab_size: int | None = None
    max_shard_bytes: int | None = None
    overwrite: bool = False
    show_progress: bool = True
    adapter: str | None = None
    layout: ParallelLayout = ParallelLayout()
    gguf_type: str | None = None


@dataclass(frozen=True)
class Conversion:
    """Result of a conversion.

    Attributes:
        notes: what differs from what was asked for, a line each.
    """

    kind: str
    to: Format
    target: Path
    tensors: int
    files: int
    nbytes: int
    seconds: float
    notes: tuple[str, ...] = ()


def convert(request: ConvertRequest) -> Conversion:
    """Run a conversion; the target appears complete or not at all.

    Raises:
        UserError: the source is damaged or does not match its own description, the target exists, or its format cannot
            hold this model.
        NoSpaceError: the disk is too small.
    """
    weights = open_adapted(request.adapter, request.source) if request.adapter else open_weights(request.source)
    if weights.prefix is not None:
        raise UserError(
            "is a prefix: it cannot be merged into weights; --load_checkpoint, chat and serve take it as it is",
            weights.path,
        )
    weights.require_complete()
    if weights.skipped_entries:
        log.info("%s: left out %s", weights.path, weights.skipped_entries)
    to = _target_format(request, weights)
    split = request.layout.devices > 1
    is_file = to in ("ckpt", "torch", "gguf") and not split
    if request.max_shard_bytes is not None and (is_file or split):
        what = "each rank has one file" if split else f"a {request.target.suffix} is one file"
        raise UserError(f"--max_shard_size is for a folder of safetensors, {what}", request.target)
    sources = [Path(request.source), weights.path, *{tensor.file for tensor in weights.tensors.values()}]
    target = prepare_target(request.target, is_file, request.overwrite, sources)
    config = replace(weights.config, vocab_size=request.vocab_size or weights.config.vocab_size, padded_vocab_size=0)
    known = None if request.vocab_size is None else tokenizer_size(weights.companions)
    if known is not None and known > config.vocab_size:
        log.warning("vocab_size: %d rows are fewer than the tokenizer's %d tokens", config.vocab_size, known)
    if split:
        _check_division(request.layout, config)
    request = _with_floats(request, weights, to)
    if to == "gguf":
        return _convert_to_gguf(request, weights, config, target)
    plans = _plans(weights, config, "mindcoder" if split else to)
    plans = [plan.with_dtype(DTYPES[request.dtype] if request.dtype else None) for plan in plans]
    total = sum(plan.nbytes for plan in plans)
    require_space(target, total + 2**24)
    began = time.perf_counter()
    with _progress_bar(request, total) as bar, staging_directory(target) as staging:
        if split:
            files = _write_split(plans, config, weights, to, staging, request.layout, bar.update)
        else:
            files = _write(plans, config, weights, to, staging, request.max_shard_bytes or SHARD_BYTES, bar.update)
        put_in_place(staging / SINGLE_NAME if is_file else staging, target)
    return Conversion(weights.kind, to, request.target, len(plans), files, total, time.perf_counter() - began)


def _with_floats(request: ConvertRequest, weights: Weights, to: Format) -> ConvertRequest:
    """The request with the float type that quantized weights become, which is logged; as it is for others."""
    stored = weights.base if isinstance(weights, MergedWeights) else weights
    if not stored.quantization:
        return request
    gguf_type = (request.gguf_type or (None if request.dtype else "f32")) if to == "gguf" else None
    dtype = None if gguf_type else request.dtype or "float32"
    if stored.has_kv_scales:
        log.info("%s: its scales of keys and values are left out", stored.path)
    if stored is weights:
        log.info("%s: %s, converted to %s", stored.path, stored.quantization, gguf_type or dtype)
    else:
        log.info(
            "%s: %s; the adapter is merged into its values in floating point and the sum rounded to %s once",
            stored.path,
            stored.quantization,
            gguf_type or dtype,
        )
    return replace(request, dtype=dtype, gguf_type=gguf_type)


def _progress_bar(request: ConvertRequest, total: int) -> tqdm:
    disable = None if request.show_progress else True
    return tqdm(total=total, desc="convert", unit="B", unit_scale=True, disable=disable)


def _convert_to_gguf(request: ConvertRequest, weights: Weights, config: TransformerConfig, target: Path) -> Conversion:
    """Write one file, and beside it the Modelfile with which ollama takes it."""
    kind = request.gguf_type or (DTYPES[request.dtype].lower() if request.dtype else None)
    model = gguf_model(replace(weights, config=config), kind)
    beside = modelfile_beside(request.target, request.overwrite)
    require_space(target, model.nbytes + 2**24)
    began = time.perf_counter()
    with _progress_bar(request, model.nbytes) as bar, staging_directory(target) as staging:
        model.write(staging / SINGLE_NAME, bar.update)
        put_in_place(staging / SINGLE_NAME, target)
    tokenizer, context = model.text.tokenizer, min(config.max_position_embeddings, OLLAMA_CONTEXT)
    infill = None if tokenizer is None else tokenizer.infill
    write_modelfile(beside, request.target, weights.text_format.template, model.text.stops, infill, context)
    seconds = time.perf_counter() - began
    name = shlex.quote(request.target.stem.lower())
    notes = (*model.notes, f"for ollama: ollama create {name} -f {shlex.quote(str(beside))}")
    return Conversion(weights.kind, "gguf", request.target, len(model.tensors), 1, model.nbytes, seconds, notes)


def _target_format(request: ConvertRequest, weights: Weights) -> Format:
    suffix = request.target.suffix.lower()
    is_ckpt, is_torch, is_gguf = suffix == ".ckpt", suffix in TORCH_SUFFIXES, suffix == GGUF_SUFFIX
    _check_gguf_type(request, is_gguf)
    if request.layout.devices > 1:
        if request.to in ("huggingface", "torch", "gguf") or is_ckpt or is_torch or is_gguf:
            raise UserError("only --to mindcoder and --to ckpt can be split, into a folder", request.target)
        return request.to or "mindcoder"
    if request.to == "ckpt" or (request.to is None and is_ckpt):
        if not is_ckpt:
            raise UserError("expected a name that ends with .ckpt", request.target)
        return "ckpt"
    if request.to == "torch" or (request.to is None and is_torch):
        if not is_torch:
            raise UserError("expected a name that ends with .bin", request.target)
        return "torch"
    if request.to == "gguf" or (request.to is None and is_gguf):
        if not is_gguf:
            raise UserError(f"expected a name that ends with {GGUF_SUFFIX}", request.target)
        return "gguf"
    if is_ckpt or is_torch or is_gguf or suffix == ".safetensors":
        asked = f"--to {request.to} writes" if request.to else "these weights are"
        raise UserError(f"is a file; {asked} a folder (config.json, safetensors, tokenizer)", request.target)
    return request.to or weights.converts_to


def _check_gguf_type(request: ConvertRequest, is_gguf: bool) -> None:
    if request.gguf_type is None:
        return
    if not is_gguf:
        raise UserError(f"--type is for a {GGUF_SUFFIX}; other formats take --dtype", request.target)
    if request.gguf_type not in MIXES:
        raise UserError(f"no type {request.gguf_type!r:.40}; available: {', '.join(MIXES)}", "--type")
    if request.dtype is not None:
        raise UserError("--type and --dtype both say how values are written: give one of them", request.target)


def _plans(weights: Weights, config: TransformerConfig, to: Format) -> list[TensorPlan]:
    """Plans of the tensors to write, in source order where there is one; checks that all of them exist."""
    resized = replace(weights, config=config)
    if to in ("huggingface", "torch"):
        return resized.huggingface_plans()
    parameters = resized.parameters()
    if to == "ckpt":
        return naming_of(config.model_type).plans_from_ours(parameters, config)
    return list(parameters.values())


def _write(
    plans: list[TensorPlan],
    config: TransformerConfig,
    weights: Weights,
    to: Format,
    staging: Path,
    max_shard_bytes: int,
    progress: Progress,
) -> int:
    """Write the weights into ``staging``; returns the number of weight files."""
    if to == "ckpt":
        write_mindspore(plans, staging / SINGLE_NAME, progress)
        return 1
    if to == "torch":
        write_torch(plans, staging / SINGLE_NAME, progress, _tied_tensors(plans, config))
        return 1
    files = write_safetensors(plans, staging, max_shard_bytes, progress)
    if to == "mindcoder":
        copy_companions(weights.companions, weights.huggingface_config, staging)
        write_text_format(staging, weights.text_format)
        write_architecture(staging, config)
        return len(files)
    write_json(staging / "config.json", huggingface_config(config, weights.huggingface_config, plans[0].dtype))
    write_beside_huggingface(weights, config, staging)
    return len(files)


def write_beside_huggingface(weights: Weights, config: TransformerConfig, folder: Path) -> None:
    """Write what a Hugging Face folder has beside weights and ``config.json``: tokenizer, template, stop tokens."""
    copy_companions(weights.companions, None, folder)
    write_text_format(folder, weights.text_format)
    write_chat_template(folder, weights.text_format)
    if GENERATION_FILE not in weights.companions:
        ids = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        given = {name: value for name, value in ids.items() if value is not None}
        write_json(folder / GENERATION_FILE, {"_from_model_config": True, **given})


def _tied_tensors(plans: list[TensorPlan], config: TransformerConfig) -> dict[str, str]:
    """Name of a tied head -> name of the embedding: ``state_dict`` of transformers lists both."""
    names = {plan.name for plan in plans}
    rules = family_of(config.model_type).weights.expand(config)
    embedding = next(rule.huggingface for rule in rules if rule.ours == (TOKEN_TABLES[0],))
    return {HEAD_NAME: embedding} if config.tied_head and embedding in names and HEAD_NAME not in names else {}


def _check_division(layout: ParallelLayout, config: TransformerConfig) -> None:
    try:
        check_division(layout, config)
    except ValueError as error:
        raise UserError(f"cannot be split: {error}", "--model_parallel, --pipeline_stage") from None


def _write_split(
    plans: list[TensorPlan],
    config: TransformerConfig,
    weights: Weights,
    to: Format,
    staging: Path,
    layout: ParallelLayout,
    progress: Progress,
) -> int:
    """Write one file per rank into ``staging``; returns the number of files."""
    parameters = {plan.name: plan for plan in plans}
    copy_companions(weights.companions, weights.huggingface_config, staging)
    write_text_format(staging, weights.text_format)
    if to == "ckpt":
        return write_rank_tree(parameters, config, layout, staging, progress)
    for rank in range(layout.devices):
        shards = rank_shards(parameters, config, layout, rank, copies=False)
        file = staging / RANK_FILES.replace("*", f"{rank:04d}")
        write_file(file, [shard.plan for shard in shards.values()], progress, shard_metadata(shards))
    write_architecture(staging, config)
    return layout.devices


def huggingface_config(config: TransformerConfig, original: Mapping[str, Any] | None, dtype: str) -> dict[str, Any]:
    """``config.json``: the original if it agrees with our configuration, else the original updated with ours.

    Raises:
        UserError: the family has no such network, or the original has a field that it does not know.
    """
    family = family_of(config.model_type)
    try:
        ours = family.config_to_huggingface(config)
    except ValueError as error:
        raise UserError(f"cannot be written as a {family.class_prefix} of Hugging Face: {error}") from None
    values = dict(original or ours)
    try:
        told = family.config_from_huggingface(values).architecture()
    except ValueError as error:  # an older version of this project stored fields it did not know
        raise UserError(f"{ORIGINAL_CONFIG}: {error}") from None
    if told != config.architecture():
        values.update(ours)
    names = {short: long for long, short in DTYPES.items()}
    if "rope_parameters" in values:  # from transformers 5; all versions read rope_theta and rope_scaling
        del values["rope_parameters"]
        rotary = ("rope_theta", "rope_scaling", "original_max_position_embeddings")
        values |= {name: ours[name] for name in rotary if name in ours}
    values.pop("dtype", None)  # written by transformers 4.56 and later; all versions read torch_dtype
    return {**values, "torch_dtype": names.get(dtype, "float32")}


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object as Hugging Face does."""
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
