"""Quantizes a model, tensor by tensor: a block of rows is in memory, or the tensor that has to be rearranged.

With calibration texts it goes layer by layer instead, see `mindcoder.quantization.calibrated`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mindcoder.backend.nf4 import BLOCK
from mindcoder.checkpoint.convert import SHARD_BYTES, huggingface_config, write_beside_huggingface, write_json
from mindcoder.checkpoint.own_tokenizer import own_tokenizer
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.quantized.bitsandbytes_output import Nf4Codes
from mindcoder.checkpoint.quantized.format import DYNAMIC, STATIC, Integers, LayerShape, QuantizedFormat
from mindcoder.checkpoint.quantized.formats import FORMATS
from mindcoder.checkpoint.safetensors_file import WritableTensor, write_safetensors
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.checkpoint.target import prepare_target, put_in_place
from mindcoder.checkpoint.weights import open_weights
from mindcoder.data.text_format import chosen_template
from mindcoder.errors import UserError
from mindcoder.families.registry import family_of
from mindcoder.files import require_space, staging_directory
from mindcoder.progress import tqdm
from mindcoder.quantization.algorithms.registry import ALGORITHMS, FROM_DATA, Algorithm
from mindcoder.quantization.calibration.texts import CalibrationOptions, TokenRow, read_rows
from mindcoder.quantization.layer import QuantizedLayer
from mindcoder.quantization.nf4_layer import Nf4Layer
from mindcoder.quantization.report import LayerReport, QuantizationReport
from mindcoder.quantization.selection import Selection, select, split_fallback
from mindcoder.quantization.spool import Spool
from mindcoder.tokenizer import load_tokenizer

# Method -> bits, group size and format, where nothing else is asked for.
METHODS: Mapping[str, tuple[int, int, str]] = {
    "w8a16": (8, 0, "msmodelslim"),
    "w4a16": (4, 128, "compressed-tensors"),
    "nf4": (4, BLOCK, "bitsandbytes"),
    "w8a8": (8, 0, "msmodelslim"),
    "w8a8s": (8, 0, "msmodelslim"),
}
FILE_SUFFIXES = (".gguf", ".safetensors", ".ckpt", ".bin", ".pt", ".pth")
NF4 = "nf4"
GROUP_SIZES = (32, 64, 128, 256)
W8A8, ACTIVATIONS = "w8a8", (DYNAMIC, STATIC)
W8A8S, FRACTIONS = "w8a8s", (0.01, 0.1)
KV_INT8 = "int8"
SPOOL = "calibrated"  # folder within the staging directory


@dataclass(frozen=True)
class QuantizeRequest:
    """Options of a quantization.

    Attributes:
        source: anything `open_weights` accepts, in floating point.
        target: folder to write.
        method: a key of `METHODS`.
        group_size: inputs that share a scale; by default the method's.
        symmetric: whether zero is the integer 0, else every scale has an offset.
        algorithm: one of `mindcoder.quantization.algorithms.registry.NAMES`.
        fallback: regular expressions of whole module names that stay in floating point; ``auto:0.02`` among them keeps
            layers whose relative error of the output is above that.
        form: a key of `FORMATS`; by default the method's.
        overwrite: replace an existing target.
        show_progress: show a progress bar in bytes.
        max_shard_bytes: of one safetensors file.
        calibration: texts to choose the integers by; None without.
        act_order: GPTQ rounds the columns with the largest inputs first.
        smooth: strength of SmoothQuant; None without.
        activations: with w8a8, one of `ACTIVATIONS`, see `Integers`; by default the first.
        kv: ``int8``: measure scales of keys and values, too; None without.
        fraction: with w8a8s, the share of an output's weights that keep 8 bits, within `FRACTIONS`; by default the
            smallest.
        of_texts: names of the options of calibration texts that were given.
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
    calibration: CalibrationOptions | None = None
    act_order: bool = False
    smooth: float | None = None
    activations: str | None = None
    kv: str | None = None
    fraction: float | None = None
    of_texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quantization:
    """Result of a quantization."""

    report: QuantizationReport
    target: Path
    seconds: float


@dataclass
class _Work:
    """What is to be written.

    Attributes:
        tensors: in the order of the file.
        selection: the layers in integers, and those that are not.
        layers: of the streaming way, which know their errors when they are written.
        reports: of the others, by module.
        cache: names of those tensors that are scales of keys and values.
    """

    tensors: list[WritableTensor]
    selection: Selection
    layers: list[QuantizedLayer] = field(default_factory=list)
    reports: Mapping[str, LayerReport] = field(default_factory=dict)
    cache: list[str] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def shapes(self) -> list[LayerShape]:
        """Of the layers in integers."""
        return [shape for _, shape in self.selection.quantized]

    def layer_reports(self) -> list[LayerReport]:
        """Of the layers in integers, when they are written."""
        if self.layers:
            return [layer.measured.report(layer.shape.module, layer.integers) for layer in self.layers]
        return [self.reports[shape.module] for shape in self.shapes]

    def kept_reports(self) -> list[LayerReport]:
        """Of the modules in floating point."""
        kept = self.selection.kept.items()
        return [self.reports.get(module) or LayerReport(module, reason=reason) for module, reason in kept]


def quantize(request: QuantizeRequest) -> Quantization:
    """Run a quantization; the target appears complete or not at all.

    Raises:
        UserError: the source is damaged or quantized already, the target exists, or options do not fit the model, the
            format or each other.
        NoSpaceError: the disk is too small.
    """
    integers, form = _integers(request), FORMATS[request.form or METHODS[request.method][2]]
    form.check(integers)
    patterns, threshold = split_fallback(request.fallback)
    _check_options(request, threshold)
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
    weights = replace(weights, config=config)
    plans = weights.huggingface_plans()
    selection = select(plans, config, integers, patterns, weights.path)
    work = _streamed(plans, selection, integers, ALGORITHMS.get(request.algorithm, ALGORITHMS["minmax"]), form)
    rows = None if request.calibration is None else _rows(request.calibration, weights)
    require_space(target, work.nbytes * (1 if rows is None else 2) + 2**24)
    began = time.perf_counter()
    with staging_directory(target) as staging:
        if rows is not None:
            spool = Spool(staging / SPOOL)
            work = _calibrated(request, weights, plans, selection, integers, form, threshold, rows, spool)
        with tqdm(
            total=work.nbytes,
            desc="quantize",
            unit="B",
            unit_scale=True,
            disable=None if request.show_progress else True,
        ) as bar:
            write_safetensors(work.tensors, staging, request.max_shard_bytes, bar.update, form.stem, writers=1)
        shutil.rmtree(staging / SPOOL, ignore_errors=True)
        chosen = {plan.name for plan, _ in work.selection.quantized}
        floats = [plan.name for plan in plans if plan.name not in chosen]
        values = huggingface_config(config, weights.huggingface_config, plans[0].dtype)
        values = form.describe(staging, values, integers, work.shapes, floats, work.selection.ignored)
        if work.cache:
            values = form.describe_cache(staging, values, work.cache)
        write_json(staging / "config.json", values)
        write_beside_huggingface(weights, config, staging)
        report = QuantizationReport(
            method=integers.method,
            algorithm=request.algorithm,
            symmetric=integers.symmetric,
            format=form.name,
            layers=work.layer_reports(),
            kept=work.kept_reports(),
            bytes_before=sum(plan.nbytes for plan in plans),
            bytes_after=work.nbytes,
            kv=request.kv or "",
        )
        report.write(staging)
        put_in_place(staging, target)
    return Quantization(report, request.target, time.perf_counter() - began)


def _nf4_codes(request: QuantizeRequest, size: int, form: QuantizedFormat) -> Nf4Codes:
    """What weights become with ``--method nf4``, which has no choices.

    Raises:
        UserError: something else is asked for.
    """
    for option, found, expected in (
        ("--kv", request.kv, None),
        ("--group_size", size, BLOCK),
        ("--format", form.name, METHODS[NF4][2]),
        ("--algorithm", request.algorithm, "minmax"),
        ("--calibration", request.calibration, None),
    ):
        if found != expected:
            wanted = "none" if expected is None else expected
            shown = found.data if isinstance(found, CalibrationOptions) else found
            raise UserError(f"{option}: found {shown}, expected {wanted} with --method {NF4}")
    if not request.symmetric:
        raise UserError(f"--asymmetric: --method {NF4} has no offsets")
    return Nf4Codes()


def _integers(request: QuantizeRequest) -> Integers:
    """What linear layers become.

    Raises:
        UserError: options do not fit each other.
    """
    bits, group_size, _ = METHODS[request.method]
    size = group_size if request.group_size is None else request.group_size
    if request.fraction is not None and request.method != W8A8S:
        raise UserError(f"--fraction: found --method {request.method}, expected {W8A8S}")
    if request.method not in (W8A8, W8A8S):
        if request.activations is not None:
            raise UserError(f"--activations: found --method {request.method}, expected {W8A8}")
        if request.method == NF4:
            return _nf4_codes(request, size, FORMATS[request.form or METHODS[NF4][2]])
        return Integers(bits, request.symmetric, size)
    if size or not request.symmetric:
        found = f"--group_size {size}" if size else "--asymmetric"
        raise UserError(
            f"--method {request.method}: found {found}, expected symmetric weights with a scale for each output"
        )
    if request.method == W8A8:
        return Integers(bits, True, 0, request.activations or DYNAMIC)
    return _sparse_integers(request, bits)


def _sparse_integers(request: QuantizeRequest, bits: int) -> Integers:
    """What linear layers become with ``--method w8a8s``.

    Raises:
        UserError: something else is asked for.
    """
    fraction = FRACTIONS[0] if request.fraction is None else request.fraction
    if not FRACTIONS[0] <= fraction <= FRACTIONS[1]:
        raise UserError(f"--fraction: expected a number from {FRACTIONS[0]} to {FRACTIONS[1]}, found {fraction:g}")
    for option, found, expected in (
        ("--activations", request.activations or STATIC, STATIC),
        ("--algorithm", request.algorithm, "minmax"),
    ):
        if found != expected:
            raise UserError(f"{option}: found {found}, expected {expected} with --method {W8A8S}")
    return Integers(bits, True, 0, STATIC, fraction)


def _check_options(request: QuantizeRequest, threshold: float | None) -> None:
    """Refuse what needs calibration texts without them, and options of another algorithm.

    Raises:
        UserError: names the option.
    """
    needing = {
        f"--algorithm {request.algorithm}": request.algorithm in FROM_DATA,
        "--smooth": request.smooth is not None,
        "--fallback auto": threshold is not None,
        f"--activations {STATIC}": request.activations == STATIC,
        f"--method {W8A8S}": request.method == W8A8S,
        f"--kv {request.kv}": request.kv is not None,
    }
    for option, is_asked in needing.items():
        if is_asked and request.calibration is None:
            raise UserError(f"{option} needs texts: name a file of them with --calibration")
    if request.of_texts and request.calibration is None:
        raise UserError(f"--{request.of_texts[0]} is of calibration texts: name a file of them with --calibration")
    if request.act_order and request.algorithm != "gptq":
        raise UserError(f"--act_order belongs to --algorithm gptq, found {request.algorithm}")
    if request.smooth is not None and not 0 <= request.smooth <= 1:
        raise UserError(f"--smooth: expected a number from 0 to 1, found {request.smooth:g}")


def _rows(options: CalibrationOptions, weights: Weights) -> list[TokenRow]:
    """The calibration texts as the model's tokens.

    Raises:
        UserError: there are none, or the model has no tokenizer.
    """
    config = weights.config
    if options.tokenizer is not None:
        tokenizer = load_tokenizer(options.tokenizer)
    else:
        own = own_tokenizer(weights, str(weights.path))
        if own is None:
            raise UserError(
                "has no tokenizer with it to read the calibration texts; name one with --tokenizer", weights.path
            )
        tokenizer = own
    otherwise = family_of(config.model_type).default_template
    template = chosen_template(options.template, weights.text_format, otherwise, tokenizer)
    length = min(options.length, config.max_position_embeddings)
    return read_rows(options, tokenizer, template, length, config.vocab_size)


def _calibrated(
    request: QuantizeRequest,
    weights: Weights,
    plans: Sequence[TensorPlan],
    selection: Selection,
    integers: Integers,
    form: QuantizedFormat,
    threshold: float | None,
    rows: Sequence[TokenRow],
    spool: Spool,
) -> _Work:
    """The quantized layers of a model that is calibrated, on disk."""
    from mindcoder.quantization.calibrated import CalibratedMethod, calibrate  # MindSpore: not without texts

    method = CalibratedMethod(
        integers,
        form,
        request.algorithm,
        request.act_order,
        request.smooth,
        threshold,
        kv_int8=request.kv == KV_INT8,
    )
    found = calibrate(weights.config, weights.parameters(), selection, method, rows, spool, request.show_progress)
    tensors = [tensor for plan in plans for tensor in found.tensors.get(plan.name, [plan])]
    left = found.selection(selection, [plan.name for plan in plans])
    cache = [plan.name for plan in found.cache]
    return _Work([*tensors, *found.cache], left, reports={**found.layers, **found.kept}, cache=cache)


def _streamed(
    plans: Sequence[TensorPlan],
    selection: Selection,
    integers: Integers,
    algorithm: Algorithm,
    form: QuantizedFormat,
) -> _Work:
    """The tensors of a model that is quantized while it is written."""
    shapes = {plan.name: shape for plan, shape in selection.quantized}
    work = _Work([], selection)
    for plan in plans:
        if plan.name not in shapes:
            work.tensors.append(plan)
            continue
        kind = Nf4Layer if isinstance(integers, Nf4Codes) else QuantizedLayer
        layer = kind(plan, shapes[plan.name], integers, algorithm, form)
        work.layers.append(layer)
        work.tensors += layer.tensors()
    return work
