"""Exports a model: its graphs, what they take, and what an answer needs besides."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import mindspore as ms
import numpy as np
from mindspore import Tensor

import mindcoder
from mindcoder.backend.operator_source import portable_operators
from mindcoder.checkpoint.companions import TOKENIZER_FILES, copy_companions
from mindcoder.checkpoint.convert import huggingface_config
from mindcoder.checkpoint.end_tokens import stop_ids
from mindcoder.checkpoint.load import FittingWeights, load_weights
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.stored_tensor import FLOAT_DTYPES
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.checkpoint.target import prepare_target, put_in_place
from mindcoder.compare.source import CONFIGURATIONS, ModelSource, is_adapter, open_source
from mindcoder.config.given import read_configuration
from mindcoder.data.text_format import TextFormat, chosen_template, format_with, write_text_format
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import ABSMAX, INPUT, OFFSET, SCALE, ParameterName
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.files import honour_umask, require_space, staging_directory
from mindcoder.generate.engine import BLOCK_SIZE, LARGEST_CHUNK, SHORTEST_TEXT, chunk_size
from mindcoder.generate.exported_decoder import DYNAMIC
from mindcoder.generate.exported_manifest import ExportedManifest, Graph
from mindcoder.generate.model import DEFAULT_LENGTH, check_model_tokenizer, generation_network
from mindcoder.generate.shape_buckets import (
    SHORTEST,
    ShapeBuckets,
    check_buckets,
    doubling,
    write_buckets,
    write_context,
)
from mindcoder.locations import path_of
from mindcoder.mindir.mindir_file import VariablesFile, write_graph
from mindcoder.mindir.step import ExportedStep, exported_step
from mindcoder.progress import tqdm
from mindcoder.tokenizer import CodeTokenizer, load_tokenizer

log = logging.getLogger(__name__)

Format = Literal["mindir"]
FORMATS: tuple[Format, ...] = ("mindir",)
DTYPES = {"float32": "F32", "float16": "F16"}
VARIABLES = "variables/data_0"
GRAPH_BYTES = 1 << 24  # of all graphs, about; a layer has some 60 kB


@dataclass(frozen=True)
class ExportRequest:
    """What is to be exported; see `mindcoder.export`."""

    source: str
    target: Path
    adapter: str | None = None
    tokenizer: str | None = None
    template: str | None = None
    dtype: str = "float32"
    batch: int = 1
    max_length: int | None = None
    blocks: int | None = None
    dynamic: bool = False
    overwrite: bool = False
    show_progress: bool = True
    batch_buckets: tuple[int, ...] | None = None
    length_buckets: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Export:
    """Result of an export.

    Attributes:
        target: the folder.
        graphs: names of its MindIR files.
        nbytes: of the weights.
        seconds: that it took.
    """

    target: Path
    graphs: tuple[str, ...]
    nbytes: int
    seconds: float


def export(request: ExportRequest) -> Export:
    """Run an export; the target appears complete or not at all.

    Raises:
        UserError: the source is damaged or cannot be exported, the target exists, or lengths do not fit.
        NoSpaceError: the disk is too small.
    """
    began = time.perf_counter()
    source = _source(request)
    weights = source.weights
    tokenizer = source.tokenizer if request.tokenizer is None else load_tokenizer(request.tokenizer)
    if tokenizer is None:
        raise UserError("has no tokenizer with it; name one with --tokenizer", source.location)
    check_model_tokenizer(tokenizer, weights.text_format, source.location)
    config = generation_network(
        replace(source.network.without_dropout(), param_dtype=request.dtype, compute_dtype=request.dtype)
    )
    if tokenizer.vocab_size > config.token_rows:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {config.token_rows}: not each other's",
            source.location,
        )
    otherwise = family_of(config.model_type).default_template
    template = chosen_template(request.template, weights.text_format, otherwise, tokenizer)
    fitting, quantization = _fitting(weights, config)
    manifest = _manifest(request, config, stop_ids(weights, tokenizer, request.tokenizer is None), quantization)
    buckets = _buckets(request, manifest)
    read = [Path(request.source), weights.path, *fitting.files]
    target = prepare_target(request.target, False, request.overwrite, read)
    nbytes = sum(_written_bytes(plan, DTYPES[request.dtype]) for plan in fitting.plans.values())
    require_space(target, nbytes + GRAPH_BYTES)
    cell = exported_step(config, manifest.blocks, manifest.block_size)
    with portable_operators():
        log.info("weights from %s", load_weights(cell.decoder, fitting).describe())
    with (
        tqdm(
            total=nbytes, desc="export", unit="B", unit_scale=True, disable=None if request.show_progress else True
        ) as bar,
        staging_directory(target) as staging,
    ):
        manifest = _write_graphs(cell, manifest, staging, bar.update)
        if buckets is None:
            write_context(staging)
        else:
            write_buckets(staging, buckets, manifest.inputs(manifest.graphs[DYNAMIC]))
        is_own = request.tokenizer is None and any(name in weights.companions for name in TOKENIZER_FILES)
        _write_companions(
            source, None if is_own else tokenizer, format_with(template, tokenizer), staging, request.dtype
        )
        manifest.write(staging, {"mindcoder": mindcoder.__version__, "mindspore": ms.__version__})
        honour_umask(staging)
        put_in_place(staging, target)
    names = tuple(graph.file for graph in manifest.graphs.values())
    return Export(request.target, names, nbytes, time.perf_counter() - began)


def _source(request: ExportRequest) -> ModelSource:
    """The model, an adapter merged into it.

    Raises:
        UserError: it has a learned prefix, its files do not tell the architecture, or there is no adapter.
    """
    if request.adapter is None:
        source = open_source(request.source)
    elif is_adapter(path_of(request.adapter, "adapter")):
        source = open_source(request.adapter, request.source)
    else:
        raise UserError("is not an adapter: neither a LoRA run nor a PEFT folder", request.adapter)
    if source.weights.prefix is not None:
        raise UserError("is a prefix, which cannot be exported; chat and serve take it as it is", source.location)
    if not source.is_described:
        source.weights.require_complete()
    return source


def _fitting(weights: Weights, config: TransformerConfig) -> tuple[FittingWeights, str]:
    """What the graphs keep of the weights, and how, if that is in integers.

    Raises:
        UserError: as `Weights.parameters`.
    """
    if not weights.quantization:
        return FittingWeights(weights, weights.parameters(config)), ""
    stored = weights.stored_parameters(config)
    if any(ParameterName.parse(name).part == ABSMAX for name in stored):
        log.warning("%s is quantized (%s); the graphs multiply in floating point", weights.path, weights.quantization)
        return FittingWeights(weights, weights.parameters(config)), ""
    log.info("%s is quantized (%s); the graphs keep the integers", weights.path, weights.quantization)
    return FittingWeights(weights, stored), weights.quantization


def _written_bytes(plan: TensorPlan, dtype: str) -> int:
    """Of a parameter in the file: integers, scales and offsets stay what they are."""
    kept = ParameterName.parse(plan.name).part in (SCALE, OFFSET, INPUT) or plan.dtype not in FLOAT_DTYPES
    return plan.nbytes if kept else plan.with_dtype(dtype).nbytes


def _manifest(
    request: ExportRequest, config: TransformerConfig, stops: frozenset[int], quantization: str
) -> ExportedManifest:
    """What is to be exported; its files are not there yet.

    Raises:
        UserError: lengths do not fit each other or the model.
    """
    limit = config.longest_text
    length = request.max_length or min(limit or config.max_position_embeddings, DEFAULT_LENGTH)
    if limit is not None and length > limit:
        raise UserError(f"--max_length: {length} tokens are more than the model's {limit} positions", request.source)
    if length < SHORTEST_TEXT:
        raise UserError(f"--max_length: {length} token has no room for a prompt and an answer: expected 2 or more")
    longest = -(-length // BLOCK_SIZE)
    blocks = request.batch * longest if request.blocks is None else request.blocks
    if blocks < longest:
        raise UserError(f"--blocks: {blocks} of {BLOCK_SIZE} tokens are less than one text of {length} tokens")
    chunk = chunk_size(LARGEST_CHUNK, length, request.batch)
    graphs = (
        {DYNAMIC: Graph("dynamic_graph.mindir")}
        if request.dynamic
        else {
            "prefill": Graph("prefill_graph.mindir", chunk, 1, request.batch),
            "decode": Graph("decode_graph.mindir", request.batch, request.batch, request.batch),
            "score": Graph("score_graph.mindir", chunk, 1, chunk),
        }
    )
    return ExportedManifest(
        config, request.batch, chunk, length, blocks + 1, BLOCK_SIZE, tuple(sorted(stops)), graphs, {}, quantization
    )


def _buckets(request: ExportRequest, manifest: ExportedManifest) -> ShapeBuckets | None:
    """The shapes that the graph of any shape is compiled for; None for graphs of fixed shapes.

    By default 1, 2, 4 … sequences up to the batch, or the YAML file's ``batch_size`` if that is more, and 32, 64 …
    tokens up to a step's, or the file's ``seq_length`` if that is less.

    Raises:
        UserError: buckets are asked for without such a graph, or are none.
    """
    if not request.dynamic:
        for option, found in (("batch_buckets", request.batch_buckets), ("length_buckets", request.length_buckets)):
            if found is not None:
                raise UserError(f"--{option}: graphs of fixed shapes have none; expected --dynamic")
        return None
    batch, length = request.batch, manifest.chunk
    if Path(request.source).suffix in CONFIGURATIONS:
        settings = read_configuration(request.source).run.model.settings
        batch, length = max(batch, settings.batch_size), min(length, settings.seq_length)
    return ShapeBuckets(
        doubling(1, batch)
        if request.batch_buckets is None
        else check_buckets("--batch_buckets", request.batch_buckets),
        doubling(SHORTEST, length)
        if request.length_buckets is None
        else check_buckets("--length_buckets", request.length_buckets, manifest.max_length),
    )


def _write_graphs(
    cell: ExportedStep, manifest: ExportedManifest, folder: Path, progress: Callable[[int], object]
) -> ExportedManifest:
    """Write every graph and the weights; the manifest with their sizes."""
    with VariablesFile(folder, VARIABLES, progress) as variables:
        for graph in manifest.graphs.values():
            inputs = [_example(**described) for described in manifest.inputs(graph).values()]
            write_graph(cell, inputs, folder / graph.file, variables)
    names = [VARIABLES, *(graph.file for graph in manifest.graphs.values())]
    return replace(manifest, files={name: (folder / name).stat().st_size for name in names})


def _example(dtype: str, shape: list[int | None]) -> Tensor:
    """What stands for an input while a graph is compiled."""
    sizes = [size for size in shape if size is not None]
    if len(sizes) < len(shape):
        return Tensor(shape=shape, dtype=getattr(ms, dtype))
    return Tensor(np.zeros(sizes, dtype))


def _write_companions(
    source: ModelSource, tokenizer: CodeTokenizer | None, text_format: TextFormat, folder: Path, dtype: str
) -> None:
    """The tokenizer, ``config.json`` and the template.

    Args:
        tokenizer: to write in place of the one whose files lie with the model; None for that one.
    """
    weights = source.weights
    companions = dict(weights.companions)
    if tokenizer is not None:
        companions = {name: file for name, file in companions.items() if name not in TOKENIZER_FILES}
    copy_companions(companions, None, folder)
    if tokenizer is not None:
        tokenizer.save(folder)
    write_text_format(folder, text_format.over(weights.text_format))
    values = huggingface_config(source.network, weights.huggingface_config, DTYPES[dtype])
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
