"""convert and inspect."""

from __future__ import annotations

import argparse
import json
from typing import Any

from mindcoder.api import convert
from mindcoder.checkpoint.convert import DTYPES, FORMATS, Conversion
from mindcoder.checkpoint.gguf.mix import MIXES
from mindcoder.checkpoint.report import report
from mindcoder.checkpoint.weights import open_weights
from mindcoder.cli.arguments import positive
from mindcoder.cli.logs import start_logging
from mindcoder.cli.verify_verb import add_verify_flag, check_verify_flag, print_verification
from mindcoder.sizes import parse_bytes


def byte_size(text: str) -> int:
    """Type of a flag: see `mindcoder.sizes.parse_bytes`."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_convert_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of convert."""
    parser.add_argument(
        "source",
        metavar="SRC",
        help="Hugging Face folder, MindCoder folder, run, .ckpt, .gguf, or folder of rank_N/checkpoint_N.ckpt",
    )
    parser.add_argument("target", metavar="DST", help="folder to write, or a file that ends with .ckpt, .bin or .gguf")
    parser.add_argument(
        "--to",
        choices=FORMATS,
        help="format of DST; default: as its name ends, else mindcoder for a Hugging Face SRC, huggingface for others",
    )
    add_gguf_type(parser)
    for flag, meaning in (("--model_parallel", "shards of every layer"), ("--pipeline_stage", "pipeline stages")):
        parser.add_argument(
            flag, type=positive, default=1, metavar="N", help=f"split DST over {meaning}; one file per rank"
        )
    add_verify_flag(parser, "SRC")
    add_conversion_options(parser)


def add_gguf_type(parser: argparse.ArgumentParser) -> None:
    """Add the option that says how the values of a .gguf are stored."""
    parser.add_argument(
        "--type",
        choices=list(MIXES),
        help="of a .gguf: how matrices are stored; default: as --dtype says, else as most values are in SRC",
    )


def add_conversion_options(parser: argparse.ArgumentParser, target: str = "DST") -> None:
    """Add the options that convert shares with merge-lora and the original scripts; the help calls the target
    ``target``.
    """
    parser.add_argument("--dtype", choices=list(DTYPES), help="default: each tensor's own")
    parser.add_argument(
        "--vocab_size", type=positive, metavar="N", help="rows of embedding and head: truncated or zero-padded"
    )
    parser.add_argument("--max_shard_size", type=byte_size, metavar="SIZE", help="default: 5GB")
    parser.add_argument("--overwrite", action="store_true", help=f"replace {target}")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def conversion(arguments: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `mindcoder.convert` from ``to`` and the options of `add_conversion_options`."""
    return {
        "to": arguments.to,
        "dtype": arguments.dtype,
        "vocab_size": arguments.vocab_size,
        "max_shard_bytes": arguments.max_shard_size,
        "overwrite": arguments.overwrite,
    }


def convert_verb(arguments: argparse.Namespace) -> int:
    """Convert and print what was written."""
    start_logging()
    check_verify_flag(arguments)
    done = convert(
        arguments.source,
        arguments.target,
        model_parallel=arguments.model_parallel,
        pipeline_stage=arguments.pipeline_stage,
        gguf_type=arguments.type,
        **conversion(arguments),
    )
    rate = done.nbytes / max(done.seconds, 1e-9) / 1e6
    print(
        f"{done.kind} -> {done.to}: {done.target} ({done.tensors} tensors, {done.nbytes / 1e6:.1f} MB, "
        f"{done.seconds:.1f} s, {rate:.0f} MB/s)"
    )
    print_notes(done)
    print_verification(arguments.verify, arguments.source, arguments.target)
    return 0


def print_notes(done: Conversion) -> None:
    """Print what differs from what was asked for, and what a .gguf needs beside it."""
    for note in done.notes:
        print(note)


def add_inspect_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of inspect."""
    parser.add_argument("path", metavar="PATH", help="Hugging Face folder, MindCoder folder, run, .ckpt or .gguf")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def inspect_verb(arguments: argparse.Namespace) -> int:
    """Print a description of weights."""
    found = report(open_weights(arguments.path))
    print(json.dumps(found.as_dict(), indent=2) if arguments.json else "\n".join(found.lines()))
    return 0
