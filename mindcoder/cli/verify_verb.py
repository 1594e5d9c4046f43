"""verify: whether two models say the same; and the summary of it that convert, merge-lora and export-lora print."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mindcoder.api import verify
from mindcoder.checkpoint.convert import TORCH_SUFFIXES
from mindcoder.cli.arguments import add_device_target_flag, number, positive
from mindcoder.cli.logs import start_logging
from mindcoder.data.prompt import TEMPLATE_NAMES
from mindcoder.errors import UserError
from mindcoder.files import write_text
from mindcoder.outputs import file_name, refuse_as_output

DIFFERS = 1  # exit code


def add_verify_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of verify."""
    kinds = "Hugging Face folder, MindCoder folder, run, checkpoint, .ckpt, adapter, or YAML file with load_checkpoint"
    parser.add_argument("a", metavar="A", help=f"a model: {kinds}")
    parser.add_argument("b", metavar="B", help="the model to compare it with")
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="texts: JSON, JSONL or plain text, or a registered name"
    )
    parser.add_argument("--base", metavar="PATH", help="base model of an adapter, if it has moved")
    parser.add_argument("--tokenizer", metavar="FILE", help="tokenizer of both models, if they have none")
    parser.add_argument(
        "--template",
        choices=TEMPLATE_NAMES,
        help="prompt template; default: the one that A was trained with, else its own chat_template or its family's",
    )
    parser.add_argument("--tokens", type=positive, metavar="N", help="compare N tokens at most; default: all")
    parser.add_argument(
        "--max_length", type=positive, metavar="N", help="longest text, in tokens; default: 2048, or the positions"
    )
    parser.add_argument(
        "--max_kl",
        type=number(0),
        metavar="NATS",
        help="exit with 1 if KL(A||B), the mean over the tokens, is above it; default: no limit",
    )
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON, too")
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16", "bfloat16"],
        default="float32",
        help="dtype of the weights in memory; default: float32 (also used for bfloat16 on CPU)",
    )
    add_device_target_flag(parser)
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads; default: all cores")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def verify_verb(arguments: argparse.Namespace) -> int:
    """Compare, print the table, and judge by ``--max_kl``."""
    from mindcoder.compare.texts import find_texts

    start_logging()
    files, _ = find_texts(arguments.data)
    target = file_name(arguments.json) if arguments.json else None
    if target is not None:
        refuse_as_output([target], [arguments.a, arguments.b, *files])
    found = verify(
        arguments.a,
        arguments.b,
        arguments.data,
        base=arguments.base,
        tokenizer=arguments.tokenizer,
        template=arguments.template,
        tokens=arguments.tokens,
        max_length=arguments.max_length,
        dtype=arguments.dtype,
        device=arguments.device_target,
        threads=arguments.threads,
    )
    print(found)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, json.dumps(found.as_dict(), indent=2, ensure_ascii=False) + "\n")
    if arguments.max_kl is not None and found.kl > arguments.max_kl:
        print(f"mindcoder: KL {found.kl:.3e} nats per token is above --max_kl {arguments.max_kl:g}", file=sys.stderr)
        return DIFFERS
    return 0


def add_verify_flag(parser: argparse.ArgumentParser, compared: str) -> None:
    """Add ``--verify`` to a verb that writes a model.

    Args:
        compared: with what, for the help.
    """
    parser.add_argument("--verify", metavar="FILE", help=f"compare the result with {compared} on these texts (verify)")


def check_verify_flag(arguments: argparse.Namespace) -> None:
    """Refuse, before the work, what ``--verify`` could not do after it.

    Raises:
        UserError: the texts are not there, or the target will not say what it is.
    """
    if arguments.verify:
        from mindcoder.compare.texts import find_texts

        find_texts(arguments.verify)
        target = Path(arguments.target)
        if target.suffix in TORCH_SUFFIXES and not target.with_name("config.json").exists():
            raise UserError("--verify reads a .bin with the config.json beside it; there is none", target)


def print_verification(data: str | None, a: str | Path, b: str | Path, base: str | Path | None = None) -> None:
    """Print the one-line summary of a comparison, where ``--verify`` asks for one."""
    if data:
        print(f"verify: {verify(a, b, data, base=base).summary()}")
