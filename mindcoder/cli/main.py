"""``mindcoder <verb>``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from mindcoder import __version__
from mindcoder.cli.arguments import Parser, add_run_flags
from mindcoder.cli.guard import guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; gives the exit code: 0 done, 1 failed, 2 something given is wrong, 130 interrupted."""
    arguments = build_parser().parse_args(argv)
    return guarded(lambda: arguments.run(arguments), arguments.debug)


def build_parser() -> Parser:
    """The parser of all verbs."""
    from mindcoder.cli import (
        adapter_verbs,
        bench_verb,
        chat_verb,
        data_verbs,
        dataset_verbs,
        eval_code_verb,
        launch_verb,
        plan_verb,
        report_verb,
        serve_verb,
        weight_verbs,
    )

    parser = Parser(prog="mindcoder", description="Pretrain, fine-tune, evaluate and run code models on MindSpore.")
    parser.add_argument("--version", action="version", version=f"mindcoder {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for name, described, add_flags, run in (
        ("train", "pretrain", add_run_flags, _run_verb("train")),
        ("finetune", "fine-tune", add_run_flags, _run_verb("finetune")),
        ("eval", "loss, perplexity and token accuracy", add_run_flags, _run_verb("eval")),
        (
            "eval-code",
            "pass@k on MBPP and HumanEval",
            eval_code_verb.add_eval_code_flags,
            eval_code_verb.eval_code_verb,
        ),
        ("predict", "answer a prompt or a file of prompts", add_run_flags, _run_verb("predict")),
        ("chat", "talk with a model", chat_verb.add_chat_flags, chat_verb.chat_verb),
        ("complete", "fill a gap in code", chat_verb.add_complete_flags, chat_verb.complete_verb),
        ("serve", "OpenAI's interface over HTTP", serve_verb.add_serve_flags, serve_verb.serve_verb),
        ("bench", "first-token and next-token latency", bench_verb.add_bench_flags, bench_verb.bench_verb),
        ("preprocess", "instruction files to MindRecord", data_verbs.add_preprocess_flags, data_verbs.preprocess_verb),
        ("data", "look at datasets, clean records", dataset_verbs.add_dataset_flags, dataset_verbs.dataset_verb),
        (
            "train-tokenizer",
            "train a small byte-level BPE tokenizer",
            data_verbs.add_tokenizer_flags,
            data_verbs.train_tokenizer_verb,
        ),
        ("convert", "weights from one form to another", weight_verbs.add_convert_flags, weight_verbs.convert_verb),
        ("merge-lora", "an adapter into its base model", adapter_verbs.add_merge_flags, adapter_verbs.merge_verb),
        ("export-lora", "an adapter in PEFT's form", adapter_verbs.add_export_flags, adapter_verbs.export_verb),
        ("report", "one HTML page about a run", report_verb.add_report_flags, report_verb.report_verb),
        ("inspect", "what a weights folder or file holds", weight_verbs.add_inspect_flags, weight_verbs.inspect_verb),
        ("launch", "one process a device, from a rank table", launch_verb.add_launch_flags, launch_verb.launch_verb),
        (
            "plan",
            "memory, messages and time of a layout, without starting anything",
            plan_verb.add_plan_flags,
            plan_verb.plan_verb,
        ),
    ):
        verb = verbs.add_parser(name, help=described, description=described)
        add_flags(verb)
        verb.set_defaults(run=run)
    return parser


def _run_verb(mode: str) -> Callable[..., int]:
    def verb(arguments) -> int:
        from mindcoder.cli.run_verbs import run

        return run(mode, arguments)

    return verb


if __name__ == "__main__":
    sys.exit(main())
