"""Flags of the verbs that run a model from its folder."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mindcoder.api import load
from mindcoder.cli.arguments import add_device_target_flag, add_kv_flag, number, positive, seed_number
from mindcoder.data.prompt import TEMPLATE_NAMES

if TYPE_CHECKING:
    from mindcoder.generate.answer_options import Options
    from mindcoder.generate.loaded_model import Model
    from mindcoder.generate.sampler import SamplingOptions


def add_model_flags(parser: argparse.ArgumentParser, batch: int = 1) -> None:
    """Add the flags for the model and its memory."""
    kinds = "Hugging Face folder, MindCoder folder, run, checkpoint, .gguf, or what export has written"
    parser.add_argument("path", metavar="PATH", help=kinds)
    parser.add_argument("--tokenizer", metavar="FILE", help="tokenizer, if PATH has none")
    parser.add_argument(
        "--template",
        choices=TEMPLATE_NAMES,
        help="prompt template; default: the one it was trained with, else its own chat_template, else the family's",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16", "bfloat16"],
        default="float32",
        help="dtype of the weights in memory; default: float32 (also used for bfloat16 on CPU)",
    )
    parser.add_argument("--max_length", type=positive, metavar="N", help="prompt and answer together, in tokens")
    parser.add_argument(
        "--max_batch_size",
        type=positive,
        default=batch,
        metavar="N",
        help=f"answers computed together; default: {batch}",
    )
    parser.add_argument(
        "--blocks", type=positive, metavar="N", help="KV cache blocks of 16 tokens; default: all that fit"
    )
    add_kv_flag(parser)
    add_device_target_flag(parser)
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads; default: all cores")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """Add the sampling flags."""
    parser.add_argument(
        "--max_output_length", type=positive, metavar="N", help="maximum length of an answer, in tokens"
    )
    parser.add_argument(
        "--temperature", type=number(0), default=0.0, metavar="T", help="0, the default, is greedy decoding"
    )
    parser.add_argument(
        "--top_k", type=positive, default=0, metavar="K", help="sample from the K most likely tokens; default: all"
    )
    parser.add_argument(
        "--top_p",
        type=number(0, 1, above=True),
        default=1.0,
        metavar="P",
        help="sample from the most likely tokens with total probability P (nucleus sampling)",
    )
    parser.add_argument(
        "--repetition_penalty",
        type=number(0, above=True),
        default=1.0,
        metavar="R",
        help="values above 1 penalize tokens of the text so far",
    )
    parser.add_argument("--seed", type=seed_number, default=0, metavar="N", help="of sampling")


def sampling(arguments: argparse.Namespace) -> SamplingOptions:
    """How the sampler chooses tokens, from the flags."""
    from mindcoder.generate.answer_options import AnswerOptions

    return AnswerOptions(**answer_options(arguments)).sampling


def answer_options(arguments: argparse.Namespace) -> Options:
    """The keyword arguments of `mindcoder.Model.generate` from the flags."""
    return {
        "max_new_tokens": arguments.max_output_length,
        "temperature": arguments.temperature,
        "top_k": arguments.top_k,
        "top_p": arguments.top_p,
        "repetition_penalty": arguments.repetition_penalty,
        "seed": arguments.seed,
    }


def open_flagged_model(arguments: argparse.Namespace) -> Model:
    """The `mindcoder.load` of the flags."""
    return load(
        arguments.path,
        tokenizer=arguments.tokenizer,
        adapters=getattr(arguments, "adapter", ()),
        template=arguments.template,
        dtype=arguments.dtype,
        max_length=arguments.max_length,
        batch=arguments.max_batch_size,
        blocks=arguments.blocks,
        kv=arguments.kv,
        device=arguments.device_target,
        threads=arguments.threads,
    )
