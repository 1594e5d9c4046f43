"""export: a model's graphs, for MindSpore's GraphCell or MindSpore Lite."""

from __future__ import annotations

import argparse

from mindcoder.api import export
from mindcoder.cli.arguments import positive, whole_numbers
from mindcoder.cli.logs import start_logging
from mindcoder.data.prompt import TEMPLATE_NAMES


def add_export_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of export."""
    kinds = "Hugging Face folder, MindCoder folder, run, checkpoint, .ckpt, or YAML file with load_checkpoint"
    parser.add_argument("path", metavar="PATH", help=kinds)
    parser.add_argument("target", metavar="DST", help="folder to write; chat, serve, bench and the others take it")
    parser.add_argument("--format", choices=["mindir"], default="mindir", help="default: mindir")
    parser.add_argument("--adapter", metavar="ADAPTER", help="LoRA run or PEFT folder to merge into PATH")
    parser.add_argument("--tokenizer", metavar="FILE", help="tokenizer, if PATH has none")
    parser.add_argument(
        "--template",
        choices=TEMPLATE_NAMES,
        help="prompt template; default: the one it was trained with, else the family's",
    )
    parser.add_argument(
        "--dtype", choices=["float32", "float16"], default="float32", help="dtype of the weights; default: float32"
    )
    parser.add_argument(
        "--batch", type=positive, default=1, metavar="N", help="sequences computed together; default: 1"
    )
    parser.add_argument("--max_length", type=positive, metavar="N", help="prompt and answer together, in tokens")
    parser.add_argument(
        "--blocks", type=positive, metavar="N", help="KV cache blocks of 16 tokens; default: all that --batch needs"
    )
    parser.add_argument(
        "--dynamic", action="store_true", help="one graph of any shape; default: one for prompts, one for decoding"
    )
    for name, counted in (("batch", "sequences of a decoding step"), ("length", "tokens of a step of a prompt")):
        parser.add_argument(
            f"--{name}_buckets",
            type=whole_numbers,
            metavar="N[,N]",
            help=f"with --dynamic, {counted} that the graph is compiled for; default: doubling up to the largest",
        )
    parser.add_argument("--overwrite", action="store_true", help="replace DST")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads; default: all cores")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def export_verb(arguments: argparse.Namespace) -> int:
    """Export and print what was written."""
    start_logging()
    done = export(
        arguments.path,
        arguments.target,
        format=arguments.format,
        adapter=arguments.adapter,
        tokenizer=arguments.tokenizer,
        template=arguments.template,
        dtype=arguments.dtype,
        batch=arguments.batch,
        max_length=arguments.max_length,
        blocks=arguments.blocks,
        dynamic=arguments.dynamic,
        batch_buckets=arguments.batch_buckets,
        length_buckets=arguments.length_buckets,
        overwrite=arguments.overwrite,
        threads=arguments.threads,
    )
    print(
        f"{arguments.path} -> {arguments.format}: {done.target} ({', '.join(done.graphs)}; {done.nbytes / 1e6:.1f} MB "
        f"of weights, {done.seconds:.1f} s)"
    )
    return 0
