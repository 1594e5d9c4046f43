"""What ``import mindcoder`` offers. MindSpore is imported by the first call that computes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from mindcoder.errors import UserError, shown, user_errors

if TYPE_CHECKING:
    from mindcoder.checkpoint.convert import Conversion
    from mindcoder.compare.comparison import Comparison
    from mindcoder.config.given import Config
    from mindcoder.generate.loaded_model import Model
    from mindcoder.mindir.run import Export
    from mindcoder.planning.estimate import Estimate
    from mindcoder.quantization.run import Quantization
    from mindcoder.train.callbacks.base import Callback
    from mindcoder.train.given_data import Data
    from mindcoder.train.job import Run

LARGEST_COUNT = 2**31 - 1
DEVICES = ("auto", "CPU", "Ascend")
WEIGHT_DTYPES = ("float32", "float16", "bfloat16")


@user_errors()
def load(
    path: str | Path,
    *,
    tokenizer: str | Path | None = None,
    adapters: Mapping[str, str | Path] | Sequence[tuple[str, str | Path]] = (),
    template: str | None = None,
    dtype: str = "float32",
    max_length: int | None = None,
    batch: int = 1,
    blocks: int | None = None,
    kv: str = "float",
    device: str = "auto",
    device_id: int = 0,
    threads: int | None = None,
) -> Model:
    """Load a model for generation. The verbs chat, complete, serve, bench and eval-code begin here.

    Args:
        path: Hugging Face folder, MindCoder folder, run (its ``output_dir``), checkpoint or ``.gguf``; or what `export`
            has written, which sets ``dtype``, the largest ``max_length`` and ``blocks``, and without ``dynamic``
            ``batch``.
        tokenizer: vocabulary file or folder, if ``path`` has none.
        adapters: name -> LoRA run or PEFT folder on this model, or pairs of them. A call chooses one with ``adapter=``.
        template: prompt template of `Model.chat`; by default the one that the model was trained with, else its
            own ``chat_template``, else the family's.
        dtype: of the weights in memory: float32, float16 or bfloat16. CPU computes in float32, and keeps bfloat16 so.
        max_length: prompt and answer together, in tokens; by default the model's context, 4096 at most.
        batch: answers computed together; more wait for their turn. Each has room for ``max_length`` tokens.
        blocks: KV cache blocks of 16 tokens; by default all that ``batch`` needs.
        kv: keys and values in float, or in int8 with a scale for each head of a token.
        device: auto, CPU or Ascend; auto takes Ascend if there is one.
        device_id: Ascend card.
        threads: CPU threads of the process; by default all cores.

    Returns:
        A `mindcoder.Model` with ``generate``, ``chat`` and ``logits``. Each one has weights and a cache of its own.

    Raises:
        UserError: nothing there, no tokenizer, an adapter of another model, a damaged file, or a value out of bounds.
    """
    from mindcoder.generate.kv_kinds import KV_CACHES

    _check_choice("device", device, DEVICES)
    _check_choice("dtype", dtype, WEIGHT_DTYPES)
    _check_choice("kv", kv, KV_CACHES)
    for name, count in (("max_length", max_length), ("batch", batch), ("blocks", blocks), ("threads", threads)):
        if count is not None:
            _check_positive(name, count)
    _check_index("device_id", device_id)
    pairs = _pairs(adapters)
    place, vocabulary, template = _path("path", path), _maybe_path("tokenizer", tokenizer), _name("template", template)
    from mindcoder.backend.device import interruptible, setup_device
    from mindcoder.graph_lock import GRAPH_LOCK

    with GRAPH_LOCK:
        setup_device(device, device_id, threads=threads)
    from mindcoder.generate.model import ModelRequest, open_model

    request = ModelRequest(
        place,
        vocabulary,
        template,
        dtype,
        max_length,
        batch,
        blocks,
        pairs,
        kv,
    )
    with GRAPH_LOCK, interruptible():
        return open_model(request)


@user_errors()
def finetune(
    config: Config,
    data: Data | None = None,
    *,
    eval_data: Data | None = None,
    model: str | Path | None = None,
    tokenizer: str | Path | None = None,
    output_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    allow_changes: Iterable[str] = (),
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
) -> Run:
    """Fine-tune a model; the verb finetune.

    Args:
        config: YAML file, or its keys as a dictionary (`mindcoder.config.given.read_configuration`); or what that
            function has read, without more keys.
        data: MindRecord, JSON or JSONL, a list of such files, a registered name, or the records themselves as a list
            of dictionaries; by default ``train_dataset`` of ``config``.
        eval_data: the same for evaluation.
        model: weights to start from, all that `load` reads; by default ``load_checkpoint`` of ``config``, else random.
        tokenizer: vocabulary file or folder; by default that of ``config``, else the one beside ``model``.
        output_dir: everything that the run writes; by default that of ``config``.
        overrides: key path -> value, such as ``{"runner_config.epochs": 3}``.
        resume: continue from the latest intact checkpoint of ``output_dir``.
        overwrite: start over, replacing the checkpoints of ``output_dir``.
        allow_changes: of data, seed, lr, optimizer, model and objective, those that may differ from the run before.
        callbacks: `mindcoder.train.callbacks.base.Callback`; told of every update, evaluation and checkpoint.
        verbose: log keys of ``config`` without effect one by one.

    Returns:
        A `mindcoder.Run` with ``losses``, ``checkpoint`` and ``evaluate()``. In the main thread SIGINT and SIGTERM end
        the run after the current update, with a checkpoint.

    Raises:
        UserError: config, data, weights, tokenizer or output folder do not fit.
    """
    given = {"data": data, "eval_data": eval_data, "model": model, "tokenizer": tokenizer, "output_dir": output_dir}
    return _train("finetune", config, given, overrides, (resume, overwrite, allow_changes), callbacks, verbose)


@user_errors()
def pretrain(
    config: Config,
    data: Data | None = None,
    *,
    eval_data: Data | None = None,
    model: str | Path | None = None,
    tokenizer: str | Path | None = None,
    output_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    allow_changes: Iterable[str] = (),
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
) -> Run:
    """Pretrain a model; the verb train. Arguments and result are those of `finetune`."""
    given = {"data": data, "eval_data": eval_data, "model": model, "tokenizer": tokenizer, "output_dir": output_dir}
    return _train("train", config, given, overrides, (resume, overwrite, allow_changes), callbacks, verbose)


@user_errors()
def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: str | None = None,
    dtype: str | None = None,
    vocab_size: int | None = None,
    max_shard_bytes: int | str | None = None,
    overwrite: bool = False,
    adapter: str | Path | None = None,
    model_parallel: int = 1,
    pipeline_stage: int = 1,
    progress: bool = True,
    gguf_type: str | None = None,
) -> Conversion:
    """Convert weights between formats, tensor by tensor; the verbs convert and merge-lora.

    Args:
        source: Hugging Face folder, MindCoder folder, run, ``.ckpt``, ``.gguf``, or a folder of
            ``rank_N/checkpoint_N.ckpt``.
        target: folder to write, or a file that ends with ``.ckpt``, ``.bin`` or ``.gguf``.
        to: huggingface, mindcoder, ckpt, torch or gguf; by default as ``target`` ends, else mindcoder for a Hugging
            Face source and huggingface for others.
        dtype: float32, float16 or bfloat16; by default each tensor keeps its own.
        vocab_size: rows of embedding and head: truncated or padded with zeros.
        max_shard_bytes: largest safetensors file of a folder, as a number or as in ``"5GB"``, which is the default.
        overwrite: replace ``target``.
        adapter: LoRA run or PEFT folder to merge into ``source``.
        model_parallel, pipeline_stage: split the result over this many tensor-parallel ranks and pipeline stages; one
            file per rank.
        progress: show a bar where standard error is a terminal.
        gguf_type: of a ``.gguf``: f32, f16, bf16, q8_0, q4_0 or q4_k_m; by default as ``dtype`` says, or as most
            values are stored.

    Returns:
        Formats, number of tensors and files, bytes and seconds.

    Raises:
        UserError: the source is damaged, the target exists, or its format cannot hold this model.
    """
    from mindcoder.checkpoint.convert import DTYPES, FORMATS, ConvertRequest
    from mindcoder.checkpoint.convert import convert as run
    from mindcoder.parallel_layout import ParallelLayout

    if to is not None:
        _check_choice("to", to, FORMATS)
    if dtype is not None:
        _check_choice("dtype", dtype, tuple(DTYPES))
    if vocab_size is not None:
        _check_positive("vocab_size", vocab_size)
    _check_positive("model_parallel", model_parallel)
    _check_positive("pipeline_stage", pipeline_stage)
    shard = None if max_shard_bytes is None else int(_size("max_shard_bytes", max_shard_bytes))
    layout = ParallelLayout(tensor=model_parallel, pipeline=pipeline_stage)
    merged = _maybe_path("adapter", adapter)
    return run(
        ConvertRequest(
            _path("source", source),
            Path(_path("target", target)),
            to,  # type: ignore[arg-type]
            dtype,
            vocab_size,
            shard,
            overwrite,
            progress,
            merged,
            layout,
            gguf_type,
        )
    )


@user_errors()
def verify(
    a: str | Path,
    b: str | Path,
    data: str | Path,
    *,
    base: str | Path | None = None,
    tokenizer: str | Path | None = None,
    template: str | None = None,
    tokens: int | None = None,
    max_length: int | None = None,
    dtype: str = "float32",
    device: str = "auto",
    device_id: int = 0,
    threads: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare what two models say of every next token of some texts; the verb verify.

    Both are in memory, and one chunk of logits of each. An adapter is computed beside its base model, not merged.

    Args:
        a, b: all that `load` reads; also a YAML file whose ``load_checkpoint`` names the weights. A ``.ckpt`` without
            ``config.json`` takes its architecture from the other model.
        data: JSON, JSONL or plain text: a file, a glob or a registered name.
        base: base model of an adapter, if it has moved.
        tokenizer: vocabulary file or folder of both models; by default each has its own, and they must give the texts
            the same ids.
        template: prompt template of instructions; by default the one that ``a`` was trained with, else its own, else
            its family's.
        tokens: compare this many tokens at most.
        max_length: longest text, in tokens; documents are divided, other records are cut. By default 2048, or the
            models' positions.
        dtype: of the weights in memory: float32, float16 or bfloat16. CPU computes in float32, and keeps bfloat16 so.
        device, device_id, threads: as of `load`.
        progress: show a bar where standard error is a terminal.

    Returns:
        A `mindcoder.Comparison` with ``kl``, ``max_difference``, ``agreement``, ``perplexity_a``, ``first`` and more;
        ``print`` shows the table, ``summary()`` is one line.

    Raises:
        UserError: a model or the data are not there, the tokenizers differ, or a logit is not a number.
    """
    _check_choice("device", device, DEVICES)
    _check_choice("dtype", dtype, WEIGHT_DTYPES)
    for name, count in (("tokens", tokens), ("max_length", max_length), ("threads", threads)):
        if count is not None:
            _check_positive(name, count)
    _check_index("device_id", device_id)
    from mindcoder.backend.device import interruptible, setup_device
    from mindcoder.graph_lock import GRAPH_LOCK

    with GRAPH_LOCK, interruptible():
        setup_device(device, device_id, threads=threads)
        from mindcoder.compare.run import CompareRequest, compare

        return compare(
            CompareRequest(
                _path("a", a),
                _path("b", b),
                _path("data", data),
                _maybe_path("base", base),
                _maybe_path("tokenizer", tokenizer),
                _name("template", template),
                tokens,
                max_length,
                dtype,
                progress,
            )
        )


@user_errors()
def export(
    path: str | Path,
    target: str | Path,
    *,
    format: str = "mindir",
    adapter: str | Path | None = None,
    tokenizer: str | Path | None = None,
    template: str | None = None,
    dtype: str = "float32",
    batch: int = 1,
    max_length: int | None = None,
    blocks: int | None = None,
    dynamic: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    progress: bool = True,
) -> Export:
    """Export a model's graphs as MindIR; the verb export. `load` runs the folder with MindSpore's GraphCell.

    The whole model is in memory. The graphs keep the KV cache, and are of operators that MindSpore has on every device.

    Args:
        path: all that `load` reads; also a YAML file whose ``load_checkpoint`` names the weights.
        target: folder to write: graphs, weights, tokenizer, ``config.json``, and ``mindir.json``, which describes them.
        format: mindir.
        adapter: LoRA run or PEFT folder to merge into ``path``.
        tokenizer: vocabulary file or folder, if ``path`` has none.
        template: prompt template of `Model.chat`; by default the one that the model was trained with, else its
            own ``chat_template``, else the family's.
        dtype: of the weights: float32 or float16; CPU computes in float32 from either.
        batch: sequences that a decoding step computes together.
        max_length: prompt and answer together, in tokens; by default the model's context, 4096 at most.
        blocks: KV cache blocks of 16 tokens; by default all that ``batch`` needs.
        dynamic: one graph that takes steps of any shape; by default one for prompts and one for decoding, of fixed
            shapes, as the original scripts export them, and one for `Model.logits`.
        overwrite: replace ``target``.
        threads: CPU threads; by default all cores.
        progress: show a bar where standard error is a terminal.

    Returns:
        The folder, the names of its graphs, bytes and seconds.

    Raises:
        UserError: the source is damaged or has a learned prefix, the target exists, or lengths do not fit.
    """
    _check_choice("format", format, ("mindir",))
    _check_choice("dtype", dtype, ("float32", "float16"))
    for name, count in (("batch", batch), ("max_length", max_length), ("blocks", blocks), ("threads", threads)):
        if count is not None:
            _check_positive(name, count)
    from mindcoder.backend.device import interruptible, setup_device
    from mindcoder.graph_lock import GRAPH_LOCK

    with GRAPH_LOCK, interruptible():
        setup_device("CPU", threads=threads)
        from mindcoder.mindir.run import ExportRequest
        from mindcoder.mindir.run import export as run

        return run(
            ExportRequest(
                _path("path", path),
                Path(_path("target", target)),
                _maybe_path("adapter", adapter),
                _maybe_path("tokenizer", tokenizer),
                _name("template", template),
                dtype,
                batch,
                max_length,
                blocks,
                dynamic,
                overwrite,
                progress,
            )
        )


@user_errors()
def quantize(
    source: str | Path,
    target: str | Path,
    *,
    method: str,
    group_size: int | None = None,
    symmetric: bool = True,
    algorithm: str = "minmax",
    fallback: Iterable[str] = (),
    calibration: str | Path | None = None,
    samples: int | None = None,
    length: int | None = None,
    seed: int = 0,
    act_order: bool = False,
    smooth: float | None = None,
    tokenizer: str | Path | None = None,
    template: str | None = None,
    format: str | None = None,
    activations: str | None = None,
    max_shard_bytes: int | str = "5GB",
    overwrite: bool = False,
    device: str = "auto",
    device_id: int = 0,
    threads: int | None = None,
    progress: bool = True,
) -> Quantization:
    """Quantize the linear layers of a model, block by block; the verb quantize.

    Args:
        source: anything that `convert` reads, in floating point.
        target: folder to write; `load` reads it, and so do all verbs.
        method: w8a16 or w4a16: integers of 8 or 4 bits, activations in floating point; w8a8: both in 8 bits; nf4: codes
            of 4 bits with double quantization, the base of QLoRA.
        group_size: neighbouring inputs that share a scale: 32, 64, 128 or 256; by default 128 with w4a16, all inputs of
            an output with 8 bits.
        symmetric: whether zero is the integer 0; else every scale has an offset.
        algorithm: minmax or mse, which look at the weights alone; gptq or awq, which need ``calibration``.
        fallback: regular expressions of whole module names, as Hugging Face's files have them, that stay in floating
            point. Embeddings and head always do. ``"auto:0.02"`` among them: linear layers too whose output changes by
            more than that share on the calibration texts.
        calibration: texts on which the model is run, decoder layer by decoder layer: JSON, JSONL (records as for
            fine-tuning, or ``{"text": ...}``) or plain text; a file, a glob or a registered name.
        samples, length: rows of tokens that texts are taken for, and tokens of each; by default 128 and 512, or the
            model's positions.
        seed: of the order in which texts are taken.
        act_order: gptq rounds the columns with the largest inputs first.
        smooth: strength of SmoothQuant, from 0 to 1: scales of a linear layer's inputs move into its weight.
        tokenizer: vocabulary file or folder, if ``source`` has none.
        template: prompt template of instructions; by default the one that the model was trained with, else its
            family's.
        format: msmodelslim, compressed-tensors or bitsandbytes; by default the first with 8 bits, the second with
            w4a16, the last with nf4.
        activations: with w8a8: dynamic, by default, gives each token a scale of its own; static gives all of a layer
            one, from the range on the ``calibration`` texts.
        max_shard_bytes: largest safetensors file, as a number or as in ``"5GB"``.
        overwrite: replace ``target``.
        device, device_id, threads: as of `load`; only calibration runs the model.
        progress: show a bar where standard error is a terminal.

    Returns:
        ``report`` with the error of every layer, ``target`` and ``seconds``.

    Raises:
        UserError: the source is damaged or quantized already, the target exists, or options do not fit the model, the
            format or each other.
    """
    from mindcoder.checkpoint.quantized.formats import FORMATS
    from mindcoder.quantization.algorithms.registry import NAMES
    from mindcoder.quantization.calibration.texts import LENGTH, SAMPLES, CalibrationOptions
    from mindcoder.quantization.run import ACTIVATIONS, GROUP_SIZES, METHODS, QuantizeRequest
    from mindcoder.quantization.run import quantize as run

    _check_choice("method", method, tuple(METHODS))
    _check_choice("algorithm", algorithm, NAMES)
    _check_choice("device", device, DEVICES)
    if format is not None:
        _check_choice("format", format, tuple(FORMATS))
    if activations is not None:
        _check_choice("activations", activations, ACTIVATIONS)
    if group_size not in (None, *GROUP_SIZES):
        raise UserError(f"group_size: expected one of {', '.join(map(str, GROUP_SIZES))}, found {group_size!r}")
    if threads is not None:
        _check_positive("threads", threads)
    _check_index("device_id", device_id)
    patterns = (fallback,) if isinstance(fallback, str) else tuple(fallback)
    shard = int(_size("max_shard_bytes", max_shard_bytes))
    texts = None
    if calibration is not None:
        texts = CalibrationOptions(
            _path("calibration", calibration),
            SAMPLES if samples is None else samples,
            LENGTH if length is None else length,
            seed,
            _maybe_path("tokenizer", tokenizer),
            _name("template", template),
        )
    request = QuantizeRequest(
        _path("source", source),
        Path(_path("target", target)),
        method,
        group_size,
        symmetric,
        algorithm,
        patterns,
        format,
        overwrite,
        progress,
        shard,
        texts,
        act_order,
        smooth,
        activations,
    )
    if texts is None:
        return run(request)
    from mindcoder.backend.device import interruptible, setup_device
    from mindcoder.graph_lock import GRAPH_LOCK

    with GRAPH_LOCK, interruptible():
        setup_device(device, device_id, threads=threads)
        return run(request)


@user_errors()
def plan(
    config: Config,
    *,
    overrides: Mapping[str, Any] | None = None,
    devices: int | None = None,
    memory: float | str = "64GB",
    tflops: float = 150.0,
    bandwidth: float | str = "84GB",
    bandwidth_between: float | str = "25GB",
    devices_per_server: int = 8,
) -> Estimate:
    """Estimate memory, communication and time of a layout, and find those that fit; the verb plan. Starts nothing.

    Args:
        config: YAML file, or its keys as a dictionary.
        overrides: key path -> value, such as ``{"parallel_config.model_parallel": 8}``.
        devices: number of devices to look for layouts of; by default those of ``parallel_config``.
        memory: of a device, in bytes or as in ``"64GB"``.
        tflops: 10^12 floating point operations per second that a device achieves in the products of a training step.
        bandwidth, bandwidth_between: bytes per second that a device sends to others in its server, to other servers.
        devices_per_server: number of devices in a server.

    Returns:
        A `mindcoder.planning.estimate.Estimate` with ``fits``, ``plan`` and ``layouts``; ``print`` shows the table.

    Raises:
        UserError: the configuration is not valid or its layout does not divide the model.
    """
    if devices is not None:
        _check_positive("devices", devices)
    _check_positive("devices_per_server", devices_per_server)
    if isinstance(tflops, bool) or not isinstance(tflops, int | float) or not 0 < tflops < 1e9:
        raise UserError(f"tflops: expected a number above 0, found {shown(tflops)}")
    sizes = {"memory": memory, "bandwidth": bandwidth, "bandwidth_between": bandwidth_between}
    from mindcoder.config.given import read_configuration
    from mindcoder.planning.estimate import estimate

    return estimate(
        read_configuration(config, overrides),
        devices,
        flops=tflops * 1e12,
        per_server=devices_per_server,
        **{name: _size(name, value) for name, value in sizes.items()},
    )


def _train(
    mode: str,
    config: Config,
    given: Mapping[str, Any],
    overrides: Mapping[str, Any] | None,
    continuing: tuple[bool, bool, Iterable[str]],
    callbacks: Sequence[Callback],
    verbose: bool,
) -> Run:
    from mindcoder.config.given import Configuration, read_configuration
    from mindcoder.train.given_data import argument_keys
    from mindcoder.train.job import run_training
    from mindcoder.train.refused import refusals_leave_nothing
    from mindcoder.train.request import CHANGE_GROUPS, TrainRequest

    resume, overwrite, allow_changes = continuing
    if not isinstance(allow_changes, Iterable):
        raise UserError(f"allow_changes: expected names of {', '.join(CHANGE_GROUPS)}, found {shown(allow_changes)}")
    changes = frozenset([allow_changes] if isinstance(allow_changes, str) else allow_changes)
    for name in changes:
        _check_choice("allow_changes", name, CHANGE_GROUPS)

    for name in ("model", "tokenizer", "output_dir"):
        _maybe_path(name, given[name])

    with ExitStack() as stack:

        def data_folder() -> Path:
            output = Path(given["output_dir"] or read_configuration(config, overrides).run.output_dir)
            stack.enter_context(refusals_leave_nothing(output))
            return output / "data"

        keys = argument_keys(given, data_folder)
        if not isinstance(config, Configuration):
            keys["run_mode"] = "run_mode", mode
        configuration = read_configuration(config, overrides, keys)
        return run_training(configuration, mode, TrainRequest(resume, overwrite, changes), callbacks, verbose)


def _pairs(adapters: object) -> tuple[tuple[str, str], ...]:
    """Names and paths of adapters."""
    items = list(adapters.items() if isinstance(adapters, Mapping) else adapters if _is_list(adapters) else [adapters])
    for item in items:
        if not (_is_list(item) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], str | Path)):
            form = "names and paths, such as {'sql': 'output/lora'}"
            raise UserError(f"adapters: expected {form}, found {shown(item)}")
    return tuple((name, str(path)) for name, path in items)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name}: expected one of {', '.join(known)}, found {shown(value)}")


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_COUNT:
        too_large = isinstance(value, int) and value > LARGEST_COUNT
        bound = f"of at most {LARGEST_COUNT}" if too_large else "of at least 1"
        raise UserError(f"{name}: expected a whole number {bound}, found {shown(value)}")


def _check_index(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_COUNT:
        raise UserError(f"{name}: expected a whole number from 0 on, found {shown(value)}")


def _path(name: str, value: object) -> str:
    """A path as text.

    Raises:
        UserError: it is none.
    """
    if not isinstance(value, str | Path) or not value or "\0" in str(value):
        raise UserError(f"{name}: expected a path, found {shown(value)}")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise UserError(f"{name}: expected a path, found {shown(value)}") from None
    return str(value)


def _maybe_path(name: str, value: object) -> str | None:
    return None if value is None else _path(name, value)


def _name(name: str, value: str | None) -> str | None:
    if value is not None and not isinstance(value, str):
        raise UserError(f"{name}: expected a name, found {shown(value)}")
    return value


def _size(name: str, value: float | str) -> float:
    """Bytes."""
    from mindcoder.sizes import parse_bytes

    try:
        size = parse_bytes(value) if isinstance(value, str) else value
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    if isinstance(size, bool) or not isinstance(size, int | float) or not 1 <= size < 2**63:
        raise UserError(f"{name}: expected a number of bytes or a text such as '64GB', found {shown(value)}")
    return size
