"""Weights in other formats: converted, quantized, exported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mindcoder.api.arguments import (
    DEVICES,
    byte_count,
    check_choice,
    check_flag,
    check_index,
    check_number,
    check_positive,
    optional_name,
    optional_path,
    path_text,
    texts_of,
)
from mindcoder.errors import UserError, user_errors

if TYPE_CHECKING:
    from mindcoder.checkpoint.convert import Conversion
    from mindcoder.mindir.run import Export
    from mindcoder.quantization.run import Quantization


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
        check_choice("to", to, FORMATS)
    if dtype is not None:
        check_choice("dtype", dtype, tuple(DTYPES))
    if vocab_size is not None:
        check_positive("vocab_size", vocab_size)
    check_positive("model_parallel", model_parallel)
    check_positive("pipeline_stage", pipeline_stage)
    shard = None if max_shard_bytes is None else int(byte_count("max_shard_bytes", max_shard_bytes))
    layout = ParallelLayout(tensor=model_parallel, pipeline=pipeline_stage)
    merged = optional_path("adapter", adapter)
    return run(
        ConvertRequest(
            path_text("source", source),
            Path(path_text("target", target)),
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
    seed: int | None = None,
    act_order: bool = False,
    smooth: float | None = None,
    tokenizer: str | Path | None = None,
    template: str | None = None,
    format: str | None = None,
    activations: str | None = None,
    kv: str | None = None,
    fraction: float | None = None,
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
        method: w8a16 or w4a16: integers of 8 or 4 bits, activations in floating point; w8a8: both in 8 bits; w8a8s: the
            same with weights most of which fit into 4, for the compression unit of an Atlas 300I DUO; nf4: codes of 4
            bits with double quantization, the base of QLoRA.
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
        seed: of the order in which texts are taken; by default 0.
        act_order: gptq rounds the columns with the largest inputs first.
        smooth: strength of SmoothQuant, from 0 to 1: scales of a linear layer's inputs move into its weight.
        tokenizer: vocabulary file or folder, if ``source`` has none.
        template: prompt template of instructions; by default the one that the model was trained with, else its
            family's.
        format: msmodelslim, compressed-tensors or bitsandbytes; by default the first with 8 bits, the second with
            w4a16, the last with nf4.
        activations: with w8a8: dynamic, by default, gives each token a scale of its own; static gives all of a layer
            one, from the range on the ``calibration`` texts.
        kv: int8: measure scales for a KV cache in int8, too, one for each channel, on the ``calibration`` texts; `load`
            with ``kv="int8"`` takes them.
        fraction: with w8a8s, the share of an output's weights that keep 8 bits, from 0.01 to 0.1; by default 0.01. All
            others fit into 4.
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
    from mindcoder.quantization.run import ACTIVATIONS, GROUP_SIZES, KV_INT8, METHODS, QuantizeRequest
    from mindcoder.quantization.run import quantize as run

    check_choice("method", method, tuple(METHODS))
    check_choice("algorithm", algorithm, NAMES)
    check_choice("device", device, DEVICES)
    if format is not None:
        check_choice("format", format, tuple(FORMATS))
    if activations is not None:
        check_choice("activations", activations, ACTIVATIONS)
    if kv is not None:
        check_choice("kv", kv, (KV_INT8,))
    if group_size is not None and (type(group_size) is not int or group_size not in GROUP_SIZES):
        raise UserError(f"group_size: expected one of {', '.join(map(str, GROUP_SIZES))}, found {group_size!r}")
    if threads is not None:
        check_positive("threads", threads)
    check_index("device_id", device_id)
    for name, flag in (("symmetric", symmetric), ("act_order", act_order), ("overwrite", overwrite)):
        check_flag(name, flag)
    for name, share in (("smooth", smooth), ("fraction", fraction)):
        if share is not None:
            check_number(name, share)
    patterns = texts_of("fallback", fallback)
    shard = int(byte_count("max_shard_bytes", max_shard_bytes))
    texts = None
    of_texts = {"samples": samples, "length": length, "seed": seed, "tokenizer": tokenizer, "template": template}
    if calibration is not None:
        texts = CalibrationOptions(
            path_text("calibration", calibration),
            SAMPLES if samples is None else samples,
            LENGTH if length is None else length,
            0 if seed is None else seed,
            optional_path("tokenizer", tokenizer),
            optional_name("template", template),
        )
    request = QuantizeRequest(
        path_text("source", source),
        Path(path_text("target", target)),
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
        kv,
        fraction,
        tuple(name for name, value in of_texts.items() if value is not None),
    )
    if texts is None:
        return run(request)
    from mindcoder.backend.device import interruptible, setup_device
    from mindcoder.graph_lock import GRAPH_LOCK

    with GRAPH_LOCK, interruptible():
        setup_device(device, device_id, threads=threads)
        return run(request)


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
    batch_buckets: Sequence[int] | None = None,
    length_buckets: Sequence[int] | None = None,
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
        batch_buckets, length_buckets: with ``dynamic``, sequences of a decoding step, and tokens of a step of a prompt,
            that the graph is compiled for; steps are padded to the next. By default doubling up to the largest.
        overwrite: replace ``target``.
        threads: CPU threads; by default all cores.
        progress: show a bar where standard error is a terminal.

    Returns:
        The folder, the names of its graphs, bytes and seconds.

    Raises:
        UserError: the source is damaged or has a learned prefix, the target exists, or lengths do not fit.
    """
    check_choice("format", format, ("mindir",))
    check_choice("dtype", dtype, ("float32", "float16"))
    for name, count in (("batch", batch), ("max_length", max_length), ("blocks", blocks), ("threads", threads)):
        if count is not None:
            check_positive(name, count)
    from mindcoder.backend.device import interruptible, setup_device
    from mindcoder.graph_lock import GRAPH_LOCK

    with GRAPH_LOCK, interruptible():
        setup_device("CPU", threads=threads)
        from mindcoder.mindir.run import ExportRequest
        from mindcoder.mindir.run import export as run

        return run(
            ExportRequest(
                path_text("path", path),
                Path(path_text("target", target)),
                optional_path("adapter", adapter),
                optional_path("tokenizer", tokenizer),
                optional_name("template", template),
                dtype,
                batch,
                max_length,
                blocks,
                dynamic,
                overwrite,
                progress,
                None if batch_buckets is None else tuple(batch_buckets),
                None if length_buckets is None else tuple(length_buckets),
            )
        )
