"""quantize."""

from __future__ import annotations

import argparse

from mindcoder.api import quantize
from mindcoder.checkpoint.convert import SHARD_BYTES
from mindcoder.checkpoint.quantized.formats import FORMATS
from mindcoder.cli.logs import start_logging
from mindcoder.cli.weight_verbs import byte_size
from mindcoder.quantization.algorithms.registry import ALGORITHMS
from mindcoder.quantization.run import GROUP_SIZES, METHODS
from mindcoder.quantization.selection import split_patterns


def add_quantize_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of quantize."""
    parser.add_argument("source", metavar="SRC", help="model in any format that convert reads")
    parser.add_argument("target", metavar="DST", help="folder to write")
    parser.add_argument(
        "--method",
        choices=list(METHODS),
        required=True,
        help="bits of weights (w) and activations (a); nf4: codes of 4 bits, for QLoRA",
    )
    parser.add_argument(
        "--group_size",
        type=int,
        choices=GROUP_SIZES,
        help="neighbouring inputs that share a scale; default: 128 with w4a16, all inputs of an output with w8a16",
    )
    around = parser.add_mutually_exclusive_group()
    around.add_argument(
        "--symmetric", action="store_true", default=True, help="zero is the integer 0; this is the default"
    )
    around.add_argument("--asymmetric", dest="symmetric", action="store_false", help="every scale has an offset")
    parser.add_argument(
        "--algorithm",
        choices=list(ALGORITHMS),
        default="minmax",
        help="minmax: scales from the largest weights; mse: scales with the smallest error",
    )
    parser.add_argument(
        "--fallback",
        metavar="REGEX[,REGEX]",
        help="modules that stay in floating point: regular expressions of whole names in Hugging Face's files, such as "
        "'.*c_proj'; embeddings and head always do",
    )
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        help="default: msmodelslim with w8a16, compressed-tensors with w4a16, bitsandbytes with nf4",
    )
    parser.add_argument("--max_shard_size", type=byte_size, default=SHARD_BYTES, metavar="SIZE", help="default: 5GB")
    parser.add_argument("--overwrite", action="store_true", help="replace DST")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


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
        format=arguments.format,
        max_shard_bytes=arguments.max_shard_size,
        overwrite=arguments.overwrite,
    )
    print("\n".join(done.report.lines()))
    print(f"{done.report.format}: {done.target} ({done.seconds:.1f} s)")
    return 0
