"""Quantizes a model, tensor by tensor: a block of rows is in memory, or the tensor that has to be rearranged."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mindcoder.backend.nf4 import BLOCK
from mindcoder.checkpoint.convert import SHARD_BYTES, huggingface_config, write_beside_huggingface, write_json
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.quantized.bitsandbytes_output import Nf4Codes
from mindcoder.checkpoint.quantized.format import Integers, QuantizedFormat
from mindcoder.checkpoint.quantized.formats import FORMATS
from mindcoder.checkpoint.safetensors_file import WritableTensor, write_safetensors
from mindcoder.checkpoint.target import prepare_target, put_in_place
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.files import require_space, staging_directory
from mindcoder.progress import tqdm
from mindcoder.quantization.algorithms.registry import ALGORITHMS, Algorithm
from mindcoder.quantization.layer import QuantizedLayer
from mindcoder.quantization.nf4_layer import Nf4Layer
from mindcoder.quantization.report import LayerReport, QuantizationReport
from mindcoder.quantization.selection import Selection, select

# Method -> bits, group size and format, where nothing else is asked for.
METHODS: Mapping[str, tuple[int, int, str]] = {
    "w8a16": (8, 0, "msmodelslim"),
    "w4a16": (4, 128, "compressed-tensors"),
    "nf4": (4, BLOCK, "bitsandbytes"),
}
FILE_SUFFIXES = (".gguf", ".safetensors", ".ckpt", ".bin", ".pt", ".pth")
NF4 = "nf4"
GROUP_SIZES = (32, 64, 128, 256)


@dataclass(frozen=True)
class QuantizeRequest:
    """Options of a quantization.

    Attributes:
        source: anything `open_weights` accepts, in floating point.
        target: folder to write.
        method: a key of `METHODS`.
        group_size: inputs that share a scale; by default the method's.
        symmetric: whether zero is the integer 0, else every scale has an offset.
        algorithm: a key of `ALGORITHMS`.
        fallback: regular expressions of whole module names that stay in floating point.
        form: a key of `FORMATS`; by default the method's.
        overwrite: replace an existing target.
        show_progress: show a progress bar in bytes.
        max_shard_bytes: of one safetensors file.
    """

    source: str
    target: Path
    method: str
    group_size: int | None = None
    symmetric: bool = True
    algorithm: str = "minmax"
    fallback: tuple[str, ...] = ()
    form: str | None = None
    overwrite: bool = False
    show_progress: bool = True
    max_shard_bytes: int = SHARD_BYTES


@dataclass(frozen=True)
class Quantization:
    """Result of a quantization."""

    report: QuantizationReport
    target: Path
    seconds: float


def quantize(request: QuantizeRequest) -> Quantization:
    """Run a quantization; the target appears complete or not at all.

    Raises:
        UserError: the source is damaged or quantized already, the target exists, or options do not fit the model, the
            format or each other.
        NoSpaceError: the disk is too small.
    """
    bits, group_size, named = METHODS[request.method]
    size = group_size if request.group_size is None else request.group_size
    integers, form = Integers(bits, request.symmetric, size), FORMATS[request.form or named]
    if request.method == NF4:
        integers = _nf4_codes(request, size, form)
    form.check(integers)
    if request.target.suffix.lower() in FILE_SUFFIXES:
        how = f"; convert writes it: convert SRC {request.target} --type q8_0 or q4_k_m"
        is_gguf = request.target.suffix.lower() == ".gguf"
        raise UserError(f"is the name of a file; quantize writes a folder{how if is_gguf else ''}", request.target)
    weights = open_weights(request.source)
    if weights.quantization:
        raise UserError(f"is quantized already ({weights.quantization}); convert gives floats", weights.path)
    if weights.prefix is not None:
        raise UserError("is a prefix: it cannot be merged into weights", weights.path)
    weights.require_complete()
    sources = [Path(request.source), weights.path, *{tensor.file for tensor in weights.tensors.values()}]
    target = prepare_target(request.target, False, request.overwrite, sources)
    config = replace(weights.config, padded_vocab_size=0)
    plans = replace(weights, config=config).huggingface_plans()
    selection = select(plans, config, integers, request.fallback, weights.path)
    written, layers = _tensors(plans, selection, integers, ALGORITHMS[request.algorithm], form)
    total = sum(tensor.nbytes for tensor in written)
    require_space(target, total + 2**24)
    chosen = {layer.plan.name for layer in layers}
    floats = [plan.name for plan in plans if plan.name not in chosen]
    began = time.perf_counter()
    with (
        tqdm(
            total=total, desc="quantize", unit="B", unit_scale=True, disable=None if request.show_progress else True
        ) as bar,
        staging_directory(target) as staging,
    ):
        write_safetensors(written, staging, request.max_shard_bytes, bar.update, form.stem, writers=1)
        values = huggingface_config(config, weights.huggingface_config, plans[0].dtype)
        shapes = [layer.shape for layer in layers]
        values = form.describe(staging, values, integers, shapes, floats, selection.ignored)
        write_json(staging / "config.json", values)
        write_beside_huggingface(weights, config, staging)
        report = _report(request, integers, form, layers, selection, sum(plan.nbytes for plan in plans), total)
        report.write(staging)
        put_in_place(staging, target)
    return Quantization(report, request.target, time.perf_counter() - began)


def _nf4_codes(request: QuantizeRequest, size: int, form: QuantizedFormat) -> Nf4Codes:
    """What weights become with ``--method nf4``, which has no choices.

    Raises:
        UserError: something else is asked for.
    """
    for option, found, expected in (
        ("--group_size", size, BLOCK),
        ("--format", form.name, METHODS[NF4][2]),
        ("--algorithm", request.algorithm, "minmax"),
    ):
        if found != expected:
            raise UserError(f"{option}: found {found}, expected {expected} with --method {NF4}")
    if not request.symmetric:
        raise UserError(f"--asymmetric: --method {NF4} has no offsets")
    return Nf4Codes()


def _tensors(
    plans: Sequence[TensorPlan],
    selection: Selection,
    integers: Integers,
    algorithm: Algorithm,
    form: QuantizedFormat,
) -> tuple[list[WritableTensor], list[QuantizedLayer]]:
    """What is written, in the model's order, and the layers among it that become integers."""
    shapes = {plan.name: shape for plan, shape in selection.quantized}
    written: list[WritableTensor] = []
    layers = []
    for plan in plans:
        if plan.name not in shapes:
            written.append(plan)
            continue
        kind = Nf4Layer if isinstance(integers, Nf4Codes) else QuantizedLayer
        layer = kind(plan, shapes[plan.name], integers, algorithm, form)
        layers.append(layer)
        written += layer.tensors()
    return written, layers


def _report(
    request: QuantizeRequest,
    integers: Integers,
    form: QuantizedFormat,
    layers: Sequence[QuantizedLayer],
    selection: Selection,
    before: int,
    after: int,
) -> QuantizationReport:
    return QuantizationReport(
        method=integers.method,
        algorithm=request.algorithm,
        symmetric=integers.symmetric,
        format=form.name,
        layers=[
            LayerReport(
                layer.shape.module,
                integers.bits,
                integers.group_size,
                layer.measured.relative_error,
                layer.measured.low,
                layer.measured.high,
            )
            for layer in layers
        ],
        kept=[LayerReport(module, reason=reason) for module, reason in selection.kept.items()],
        bytes_before=before,
        bytes_after=after,
    )
