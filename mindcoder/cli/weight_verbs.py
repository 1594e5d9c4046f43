"""convert and inspect."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path

from mindcoder.checkpoint.convert import DTYPES, FORMATS, SHARD_BYTES, ConvertRequest, convert
from mindcoder.checkpoint.report import report
from mindcoder.checkpoint.split import Division
from mindcoder.checkpoint.weights import open_weights
from mindcoder.cli.arguments import positive
from mindcoder.cli.logs import start_logging

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def byte_size(text: str) -> int:
    """Parse ``5GB``, ``500MB``, or a number of bytes with at least five digits: ``64`` is a forgotten unit."""
    match = re.fullmatch(r"(\d+)\s*([KMG]?)(B?)", text.upper())
    if match is None or int(match[1]) == 0 or not (match[2] or match[3] or len(match[1]) > 4):
        raise argparse.ArgumentTypeError(f"expected a size such as 5GB or 500MB, found {text!r}")
    return int(match[1]) * UNITS[match[2]]


def add_convert_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of convert."""
    parser.add_argument(
        "source",
        metavar="SRC",
        help="Hugging Face folder, MindCoder folder, run, .ckpt, or folder of rank_N/checkpoint_N.ckpt",
    )
    parser.add_argument("target", metavar="DST", help="folder to write, or a file that ends with .ckpt or .bin")
    parser.add_argument(
        "--to", choices=FORMATS, help="format of DST; default: mindcoder for a Hugging Face SRC, else huggingface"
    )
    for flag, meaning in (("--model_parallel", "slices of every layer"), ("--pipeline_stage", "pipeline stages")):
        parser.add_argument(
            flag, type=positive, default=1, metavar="N", help=f"split DST over {meaning}; one file per rank"
        )
    add_conversion_options(parser)


def add_conversion_options(parser: argparse.ArgumentParser, target: str = "DST") -> None:
    """Add the options that convert shares with merge-lora and the original scripts; the help calls the target
    ``target``.
    """
    parser.add_argument("--dtype", choices=list(DTYPES), help="default: each tensor's own")
    parser.add_argument(
        "--vocab_size", type=positive, metavar="N", help="rows of embedding and head: truncated or zero-padded"
    )
    parser.add_argument("--max_shard_size", type=byte_size, default=SHARD_BYTES, metavar="SIZE", help="default: 5GB")
    parser.add_argument("--overwrite", action="store_true", help=f"replace {target}")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def conversion(arguments: argparse.Namespace, source: str) -> ConvertRequest:
    """The request from the options of `add_conversion_options`, ``to`` and ``target``."""
    return ConvertRequest(
        source,
        Path(arguments.target),
        arguments.to,
        arguments.dtype,
        arguments.vocab_size,
        arguments.max_shard_size,
        arguments.overwrite,
    )


def convert_verb(arguments: argparse.Namespace) -> int:
    """Convert and print what was written."""
    start_logging()
    request = conversion(arguments, arguments.source)
    done = convert(replace(request, division=Division(arguments.model_parallel, arguments.pipeline_stage)))
    rate = done.nbytes / max(done.seconds, 1e-9) / 1e6
    print(
        f"{done.kind} -> {done.to}: {done.target} ({done.tensors} tensors, {done.nbytes / 1e6:.1f} MB, "
        f"{done.seconds:.1f} s, {rate:.0f} MB/s)"
    )
    return 0


def add_inspect_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of inspect."""
    parser.add_argument("path", metavar="PATH", help="Hugging Face folder, MindCoder folder, run, or .ckpt")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def inspect_verb(arguments: argparse.Namespace) -> int:
    """Print a description of weights."""
    found = report(open_weights(arguments.path))
    print(json.dumps(found.as_dict(), indent=2) if arguments.json else "\n".join(found.lines()))
    return 0
