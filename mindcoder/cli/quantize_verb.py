"""quantize."""

from __future__ import annotations

import argparse

from mindcoder.api import quantize
from mindcoder.checkpoint.convert import SHARD_BYTES
from mindcoder.checkpoint.quantized.formats import FORMATS
from mindcoder.cli.arguments import add_device_target_flag, number, positive, seed_number
from mindcoder.cli.logs import start_logging
from mindcoder.cli.weight_verbs import byte_size
from mindcoder.data.prompt import TEMPLATE_NAMES
from mindcoder.quantization.algorithms.registry import NAMES
from mindcoder.quantization.calibration.texts import LENGTH, SAMPLES
from mindcoder.quantization.run import ACTIVATIONS, FRACTIONS, GROUP_SIZES, KV_INT8, METHODS
from mindcoder.quantization.selection import split_patterns


def add_quantize_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of quantize."""
    parser.add_argument("source", metavar="SRC", help="model in any format that convert reads")
    parser.add_argument("target", metavar="DST", help="folder to write")
    parser.add_argument(
        "--method",
        choices=list(METHODS),
        required=True,
        help="bits of weights (w) and activations (a); w8a8s: sparse, for the compression unit of an Atlas 300I DUO; "
        "nf4: codes of 4 bits, for QLoRA",
    )
    parser.add_argument(
        "--group_size",
        type=int,
        choices=GROUP_SIZES,
        help="neighbouring inputs that share a scale; default: 128 with w4a16, all inputs of an output with 8 bits",
    )
    around = parser.add_mutually_exclusive_group()
    around.add_argument(
        "--symmetric", action="store_true", default=True, help="zero is the integer 0; this is the default"
    )
    around.add_argument("--asymmetric", dest="symmetric", action="store_false", help="every scale has an offset")
    parser.add_argument(
        "--algorithm",
        choices=NAMES,
        default="minmax",
        help="minmax: scales from the largest weights; mse: scales with the smallest error of the weights; gptq, awq: "
        "integers with a small error of the outputs, which need --calibration",
    )
    _add_calibration_flags(parser)
    parser.add_argument(
        "--activations",
        choices=ACTIVATIONS,
        help="with w8a8: dynamic, the default, gives each token a scale of its own; static gives all one, from the "
        "texts of --calibration",
    )
    parser.add_argument(
        "--fraction",
        type=number(*FRACTIONS),
        metavar="F",
        help=f"with w8a8s: share of the weights that keep 8 bits; the others fit into 4; default: {FRACTIONS[0]}",
    )
    parser.add_argument(
        "--kv",
        choices=(KV_INT8,),
        help="measure scales for a KV cache in int8 on the texts of --calibration; --kv int8 of chat, serve and the "
        "others takes them",
    )
    parser.add_argument(
        "--fallback",
        metavar="REGEX[,REGEX]",
        help="modules that stay in floating point: regular expressions of whole names in Hugging Face's files, such as "
        "'.*c_proj'; embeddings and head always do. auto:0.02 among them: layers whose output changes by more than 2%% "
        "on the calibration texts",
    )
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        help="default: msmodelslim with 8 bits, compressed-tensors with 4, bitsandbytes with nf4",
    )
    parser.add_argument("--max_shard_size", type=byte_size, default=SHARD_BYTES, metavar="SIZE", help="default: 5GB")
    parser.add_argument("--overwrite", action="store_true", help="replace DST")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def _add_calibration_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help='texts to run the model on, layer by layer: records as for fine-tuning, {"text": ...}, plain text, or a '
        "registered name",
    )
    parser.add_argument(
        "--samples", type=positive, metavar="N", help=f"rows of tokens from these texts; default: {SAMPLES}"
    )
    parser.add_argument(
        "--length", type=positive, metavar="N", help=f"tokens of a row; default: {LENGTH}, or the model's positions"
    )
    parser.add_argument("--seed", type=seed_number, metavar="N", help="order of the texts; default: 0")
    parser.add_argument(
        "--act_order", action="store_true", help="gptq rounds the columns with the largest inputs first"
    )
    parser.add_argument(
        "--smooth",
        type=number(0, 1),
        metavar="A",
        help="SmoothQuant: move scales of the inputs into the weights, from 0 to 1; 0.5 is usual",
    )
    parser.add_argument("--tokenizer", metavar="FILE", help="tokenizer of the texts, if SRC has none")
    parser.add_argument(
        "--template",
        choices=list(TEMPLATE_NAMES),
        help="prompt template; default: the one that SRC was trained with, else its family's",
    )
    add_device_target_flag(parser)
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads; default: all cores")


def quantize_verb(arguments: argparse.Namespace) -> int:
    """Quantize and print what became of every layer."""
    start_logging()
    done = quantize(
        arguments.source,
        arguments.target,
        method=arguments.method,
        group_size=arguments.group_size,
        symmetric=arguments.symmetric,
        algorithm=arguments.algorithm,
        fallback=() if arguments.fallback is None else split_patterns(arguments.fallback),
        calibration=arguments.calibration,
        samples=arguments.samples,
        length=arguments.length,
        seed=arguments.seed,
        act_order=arguments.act_order,
        smooth=arguments.smooth,
        tokenizer=arguments.tokenizer,
        template=arguments.template,
        format=arguments.format,
        activations=arguments.activations,
        kv=arguments.kv,
        fraction=arguments.fraction,
        max_shard_bytes=arguments.max_shard_size,
        overwrite=arguments.overwrite,
        device=arguments.device_target,
        threads=arguments.threads,
    )
    print("\n".join(done.report.lines()))
    print(f"{done.report.format}: {done.target} ({done.seconds:.1f} s)")
    return 0
