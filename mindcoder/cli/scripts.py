"""The original MindFormers entry points under ``research/``: their flags, passed on to the verbs.

Flags, defaults and file formats are those of mindspore-lab/mindformers r1.0 and r1.1.0, research/wizardcoder.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path

from mindcoder.backend.device import signals_held
from mindcoder.cli.arguments import add_original_run_flags, add_run_flags, positive
from mindcoder.cli.guard import guarded
from mindcoder.cli.parser import Parser, StrictParser
from mindcoder.errors import UserError

SHARD_NAME = re.compile(r"-\d{5}-of-\d{5}\.(bin|safetensors)$")


def script(call: Callable[[str], int]) -> Callable[[str], int]:
    """A script's function that runs its imports and flag parsing under guard too: Ctrl-C there is one line and 130."""

    @functools.wraps(call)
    def guarded_call(prog: str) -> int:
        return guarded(lambda: call(prog), "--debug" in sys.argv)

    return guarded_call


def run_script(prog: str, model: str, config: str | None = None) -> int:
    """``run_<model>.py --run_mode train|finetune|eval|predict``.

    Args:
        prog: name in messages.
        model: for the help.
        config: default of ``--config``, a file beside the script; looked for in the working directory first, as the
            original script does.
    """
    return guarded(lambda: _run_script(prog, model, config), "--debug" in sys.argv)


def _run_script(prog: str, model: str, config: str | None) -> int:
    with signals_held():
        from mindcoder.cli.run_verbs import run

    parser = StrictParser(prog=prog, description=f"Train, fine-tune, evaluate or run {model}.")
    parser.add_argument(
        "--run_mode", choices=["train", "finetune", "eval", "predict"], default="train", help="default: train"
    )
    if config is not None and Path(Path(config).name).is_file():
        config = Path(config).name
    add_run_flags(parser, config=config)
    add_original_run_flags(parser)
    arguments = parser.parse_args()
    return run(arguments.run_mode, arguments)


@script
def preprocess_script(prog: str) -> int:
    """``<model>_preprocess.py``: the flags of ``mindcoder preprocess``."""
    with signals_held():
        from mindcoder.cli.data_verbs import add_preprocess_flags, preprocess_verb

    parser = StrictParser(prog=prog, description="Alpaca JSON or JSONL to MindRecord.")
    add_preprocess_flags(parser)
    parser.add_argument(
        "--mindrecord_schema", metavar="NAME", help="accepted; a schema's name has no effect on what is read back"
    )
    return preprocess_verb(parser.parse_args())


@script
def convert_weight_script(prog: str) -> int:
    """``convert_weight.py --torch_path SRC --mindspore_path DST [--layers N]``."""
    parser = _conversion_parser(prog, "Hugging Face weights to MindSpore.")
    parser.add_argument(
        "--torch_path",
        dest="source",
        required=True,
        metavar="SRC",
        help="Hugging Face folder, or a weight file in it; a shard stands for all shards of its folder",
    )
    parser.add_argument(
        "--mindspore_path", dest="target", required=True, metavar="DST", help="folder, or .ckpt with the original names"
    )
    parser.add_argument("--layers", type=positive, metavar="N", help="checked against the model's own number")

    def verb(arguments: argparse.Namespace) -> int:
        from mindcoder.checkpoint.weights import open_weights
        from mindcoder.cli.weight_verbs import convert_verb

        if SHARD_NAME.search(arguments.source):
            arguments.source = str(Path(arguments.source).parent)
        if arguments.layers is not None:
            found = open_weights(arguments.source).config.num_layers
            if arguments.layers != found:
                raise UserError(f"has {found} layers; --layers says {arguments.layers}", arguments.source)
        return convert_verb(arguments)

    return verb(parser.parse_args())


@script
def convert_reversed_script(prog: str) -> int:
    """``convert_reversed.py --mindspore_path SRC --torch_path DST``."""
    with signals_held():
        from mindcoder.checkpoint.convert import TORCH_SUFFIXES
        from mindcoder.cli.weight_verbs import convert_verb

    parser = _conversion_parser(prog, "MindSpore weights to Hugging Face.")
    parser.add_argument(
        "--mindspore_path", dest="source", required=True, metavar="SRC", help="MindCoder folder, run, or .ckpt"
    )
    parser.add_argument(
        "--torch_path",
        dest="target",
        required=True,
        metavar="DST",
        help="Hugging Face folder to write, or a .bin file for the weights alone",
    )
    arguments = parser.parse_args()
    arguments.to = None if arguments.target.lower().endswith(TORCH_SUFFIXES) else "huggingface"
    return convert_verb(arguments)


@script
def convert_weights_script(prog: str) -> int:
    """``convert_weights.py --model_path DIR``: write safetensors beside the ``.bin`` weights of a folder."""
    parser = StrictParser(prog=prog, description=".bin weights to safetensors, in the same folder.")
    parser.add_argument("--model_path", required=True, metavar="DIR", help="Hugging Face folder with .bin weights")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")

    def verb(arguments: argparse.Namespace) -> int:
        from mindcoder.checkpoint.in_place import add_safetensors

        written = add_safetensors(Path(arguments.model_path))
        print("\n".join(str(file) for file in written))
        return 0

    return verb(parser.parse_args())


def _conversion_parser(prog: str, description: str) -> Parser:
    with signals_held():
        from mindcoder.cli.weight_verbs import add_conversion_options

    parser = StrictParser(prog=prog, description=description)
    # the verb can split, compare and quantize weights too, these scripts cannot
    parser.set_defaults(to=None, type=None, model_parallel=1, pipeline_stage=1, verify=None)
    add_conversion_options(parser)
    return parser
