"""The seeds' entry points under ``research/``: their flags, handed over to the verbs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from mindcoder.cli.arguments import add_run_flags
from mindcoder.cli.guard import guarded
from mindcoder.cli.parser import Parser, StrictParser


def run_script(prog: str, model: str) -> int:
    """``run_<model>.py --run_mode train|finetune|eval|predict``."""
    from mindcoder.cli.run_verbs import run

    parser = StrictParser(prog=prog, description=f"Train, fine-tune, evaluate or run {model}.")
    parser.add_argument("--run_mode", choices=["train", "finetune", "eval", "predict"], required=True)
    add_run_flags(parser)
    arguments = parser.parse_args()
    return guarded(lambda: run(arguments.run_mode, arguments), arguments.debug)


def preprocess_script(prog: str) -> int:
    """``<model>_preprocess.py``: the flags of ``mindcoder preprocess``."""
    from mindcoder.cli.data_verbs import add_preprocess_flags, preprocess_verb

    parser = StrictParser(prog=prog, description="Alpaca JSON or JSONL to MindRecord.")
    add_preprocess_flags(parser)
    return _guard(parser, preprocess_verb)


def convert_weight_script(prog: str) -> int:
    """``convert_weight.py --torch_path SRC --mindspore_path DST``."""
    parser = _conversion_parser(prog, "Hugging Face weights to MindSpore.")
    parser.add_argument("--torch_path", dest="source", required=True, metavar="SRC", help="Hugging Face folder or .bin")
    parser.add_argument(
        "--mindspore_path", dest="target", required=True, metavar="DST", help="folder, or .ckpt in the old naming"
    )
    return _convert(parser)


def convert_reversed_script(prog: str) -> int:
    """``convert_reversed.py --mindspore_path SRC --torch_path DST``."""
    parser = _conversion_parser(prog, "MindSpore weights to Hugging Face.")
    parser.add_argument(
        "--mindspore_path", dest="source", required=True, metavar="SRC", help="MindCoder folder, run, or .ckpt"
    )
    parser.add_argument("--torch_path", dest="target", required=True, metavar="DST", help="folder to write")
    parser.set_defaults(to="huggingface")
    return _convert(parser)


def mbpp_script(prog: str, *given: str) -> int:
    """``mbpp_gen_online.py`` and ``mbpp_process.py``: ``mindcoder eval-code --task mbpp`` with the flags ``given``."""
    from mindcoder.cli.eval_code_verb import add_eval_code_flags, eval_code_verb

    parser = StrictParser(prog=prog, description="MBPP: answers, and their pass@k.")
    add_eval_code_flags(parser)
    arguments = parser.parse_args(["--task", "mbpp", *given, *sys.argv[1:]])
    return guarded(lambda: eval_code_verb(arguments), arguments.debug)


def _conversion_parser(prog: str, description: str) -> Parser:
    from mindcoder.cli.weight_verbs import add_conversion_options

    parser = StrictParser(prog=prog, description=description)
    parser.set_defaults(to=None, model_parallel=1, pipeline_stage=1)  # the verb splits too, these scripts do not
    add_conversion_options(parser)
    return parser


def _convert(parser: Parser) -> int:
    from mindcoder.cli.weight_verbs import convert_verb

    return _guard(parser, convert_verb)


def _guard(parser: Parser, verb: Callable[[argparse.Namespace], int]) -> int:
    arguments = parser.parse_args()
    return guarded(lambda: verb(arguments), arguments.debug)
