"""``mindcoder <verb>``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from mindcoder import __version__
from mindcoder.cli.arguments import Parser, add_run_flags
from mindcoder.errors import UserError

RUN_MODES = ("train", "finetune", "eval", "predict")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; gives the exit code: 0 done, 1 failed, 2 something given is wrong, 130 interrupted."""
    arguments = build_parser().parse_args(argv)
    return guarded(lambda: arguments.run(arguments), arguments.debug)


def build_parser() -> Parser:
    """The parser of all verbs."""
    from mindcoder.cli import bench_verb, chat_verb, data_verbs, launch_verb, plan_verb, serve_verb, weight_verbs

    parser = Parser(prog="mindcoder", description="Pretrain, fine-tune, evaluate and run code models on MindSpore.")
    parser.add_argument("--version", action="version", version=f"mindcoder {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    described = {
        "train": "pretrain",
        "finetune": "fine-tune",
        "eval": "loss, perplexity and token accuracy",
        "predict": "answer a prompt or a file of prompts",
    }
    for mode in RUN_MODES:
        verb = verbs.add_parser(mode, help=described[mode], description=described[mode])
        add_run_flags(verb)
        verb.set_defaults(run=_run_verb(mode))
    verb = verbs.add_parser("chat", help="talk with a model")
    chat_verb.add_chat_flags(verb)
    verb.set_defaults(run=chat_verb.chat_verb)
    verb = verbs.add_parser("complete", help="fill a gap in code")
    chat_verb.add_complete_flags(verb)
    verb.set_defaults(run=chat_verb.complete_verb)
    verb = verbs.add_parser("bench", help="first-token and next-token latency")
    bench_verb.add_bench_flags(verb)
    verb.set_defaults(run=bench_verb.bench_verb)
    verb = verbs.add_parser("serve", help="OpenAI's interface over HTTP")
    serve_verb.add_serve_flags(verb)
    verb.set_defaults(run=serve_verb.serve_verb)
    verb = verbs.add_parser("preprocess", help="instruction files to MindRecord")
    data_verbs.add_preprocess_flags(verb)
    verb.set_defaults(run=data_verbs.preprocess_verb)
    verb = verbs.add_parser("train-tokenizer", help="train a small byte-level BPE tokenizer")
    data_verbs.add_tokenizer_flags(verb)
    verb.set_defaults(run=data_verbs.train_tokenizer_verb)
    verb = verbs.add_parser("convert", help="weights from one form to another")
    weight_verbs.add_convert_flags(verb)
    verb.set_defaults(run=weight_verbs.convert_verb)
    verb = verbs.add_parser("inspect", help="what a weights folder or file holds")
    weight_verbs.add_inspect_flags(verb)
    verb.set_defaults(run=weight_verbs.inspect_verb)
    verb = verbs.add_parser("launch", help="one process a device, from a rank table")
    launch_verb.add_launch_flags(verb)
    verb.set_defaults(run=launch_verb.launch_verb)
    verb = verbs.add_parser("plan", help="memory, messages and time of a layout, without starting anything")
    plan_verb.add_plan_flags(verb)
    verb.set_defaults(run=plan_verb.plan_verb)
    return parser


def _run_verb(mode: str) -> Callable[..., int]:
    def verb(arguments) -> int:
        from mindcoder.cli.run_verbs import run

        return run(mode, arguments)

    return verb


def guarded(work: Callable[[], int], debug: bool) -> int:
    """Run ``work``; a `UserError` becomes one line on stderr and exit code 2."""
    try:
        return work()
    except UserError as error:
        if debug:
            raise
        print(f"mindcoder: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mindcoder: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader is gone; keep exit quiet
        return 0


if __name__ == "__main__":
    sys.exit(main())
