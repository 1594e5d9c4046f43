"""merge-lora and export-lora."""

from __future__ import annotations

import argparse
from pathlib import Path

from mindcoder.api import convert
from mindcoder.checkpoint.adapter_weights import RunAdapter
from mindcoder.checkpoint.convert import FORMATS
from mindcoder.checkpoint.peft_format import write_peft
from mindcoder.checkpoint.peft_prefix import write_peft_prefix
from mindcoder.checkpoint.store import find_checkpoint
from mindcoder.checkpoint.weights import open_weights
from mindcoder.cli.logs import start_logging
from mindcoder.cli.verify_verb import add_verify_flag, check_verify_flag, print_verification
from mindcoder.cli.weight_verbs import add_conversion_options, add_gguf_type, conversion, print_notes
from mindcoder.data.text_format import write_text_format
from mindcoder.errors import UserError


def add_merge_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of merge-lora."""
    parser.add_argument("base", metavar="BASE", help="base model in any format that convert reads")
    parser.add_argument("adapter", metavar="ADAPTER", help="LoRA run, one of its checkpoints, or a PEFT folder")
    parser.add_argument("target", metavar="OUT", help="folder to write, or a file that ends with .gguf")
    parser.add_argument("--to", choices=FORMATS, help="format of OUT; default: as its name ends, else huggingface")
    add_verify_flag(parser, "ADAPTER beside BASE")
    add_gguf_type(parser)
    add_conversion_options(parser, "OUT")


def merge_verb(arguments: argparse.Namespace) -> int:
    """Merge tensor by tensor and print what was written."""
    start_logging()
    check_verify_flag(arguments)
    done = convert(
        arguments.base,
        arguments.target,
        adapter=arguments.adapter,
        gguf_type=arguments.type,
        **conversion(arguments),
    )
    print(
        f"{arguments.base} + {arguments.adapter} -> {done.to}: {done.target} ({done.tensors} tensors, "
        f"{done.nbytes / 1e6:.1f} MB, {done.seconds:.1f} s)"
    )
    print_notes(done)
    print_verification(arguments.verify, arguments.adapter, arguments.target, arguments.base)
    return 0


def add_export_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of export-lora."""
    parser.add_argument("adapter", metavar="ADAPTER", help="LoRA run or one of its checkpoints")
    parser.add_argument("target", metavar="OUT", help="PEFT folder to write")
    parser.add_argument("--base", metavar="BASE", help="base model, if it has moved since the run")
    add_verify_flag(parser, "the run's")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def export_verb(arguments: argparse.Namespace) -> int:
    """Export an adapter in PEFT's format."""
    start_logging()
    check_verify_flag(arguments)
    adapter = RunAdapter.of(find_checkpoint(arguments.adapter))
    if adapter is None:
        raise UserError("is not a LoRA run", arguments.adapter)
    config = open_weights(arguments.base or adapter.base).config
    made = adapter.text_format()
    target = Path(arguments.target)
    if adapter.is_prefix:
        tensors = write_peft_prefix(adapter.read_prefix(config), adapter.base, config, target)
    else:
        tensors = write_peft(adapter.read_updates(config), config, target)
    write_text_format(target, made)
    size = sum(file.stat().st_size for file in Path(arguments.target).iterdir())
    print(f"{adapter.path} -> PEFT: {arguments.target} ({tensors} tensors, {size / 1e3:.1f} kB)")
    print_verification(arguments.verify, arguments.adapter, arguments.target, arguments.base)
    return 0
