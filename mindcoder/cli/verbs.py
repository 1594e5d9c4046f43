"""The verbs of ``mindcoder``, in the groups shown by ``--help``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from mindcoder.cli import (
    adapter_verbs,
    bench_verb,
    chat_verb,
    completion_verb,
    configs_verb,
    data_verbs,
    dataset_verbs,
    doctor_verb,
    eval_code_verb,
    export_verb,
    launch_verb,
    plan_verb,
    quantize_verb,
    report_verb,
    serve_verb,
    verify_verb,
    weight_verbs,
)
from mindcoder.cli.arguments import add_run_flags

Flags = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]


@dataclass(frozen=True)
class Verb:
    """A subcommand of ``mindcoder``."""

    name: str
    summary: str
    add_flags: Flags
    run: Run


def _run_verb(mode: str, summary: str) -> Verb:
    """The verb train, finetune, eval or predict."""

    def run(arguments: argparse.Namespace) -> int:
        from mindcoder.cli import run_verbs

        return run_verbs.run(mode, arguments)

    return Verb(mode, summary, lambda parser: add_run_flags(parser, mode), run)


GROUPS: dict[str, tuple[Verb, ...]] = {
    "data": (
        Verb(
            "train-tokenizer",
            "train a small BPE tokenizer",
            data_verbs.add_tokenizer_flags,
            data_verbs.train_tokenizer_verb,
        ),
        Verb("preprocess", "turn records into MindRecord", data_verbs.add_preprocess_flags, data_verbs.preprocess_verb),
        Verb("data", "list, show and clean datasets", dataset_verbs.add_dataset_flags, dataset_verbs.dataset_verb),
    ),
    "training": (
        _run_verb("train", "pretrain"),
        _run_verb("finetune", "fine-tune"),
        _run_verb("eval", "report loss, perplexity and token accuracy"),
        Verb(
            "configs",
            "list, show, copy and validate configurations",
            configs_verb.add_configs_flags,
            configs_verb.configs_verb,
        ),
        Verb("report", "make an HTML page about a run", report_verb.add_report_flags, report_verb.report_verb),
    ),
    "clusters": (
        Verb(
            "plan", "estimate memory, communication and time of a layout", plan_verb.add_plan_flags, plan_verb.plan_verb
        ),
        Verb("launch", "start one process per device", launch_verb.add_launch_flags, launch_verb.launch_verb),
    ),
    "generation": (
        _run_verb("predict", "answer a prompt or a file of prompts"),
        Verb("chat", "chat with a model", chat_verb.add_chat_flags, chat_verb.chat_verb),
        Verb("complete", "fill a gap in code", chat_verb.add_complete_flags, chat_verb.complete_verb),
        Verb("serve", "serve OpenAI's API over HTTP", serve_verb.add_serve_flags, serve_verb.serve_verb),
        Verb("bench", "measure latency and throughput", bench_verb.add_bench_flags, bench_verb.bench_verb),
        Verb(
            "eval-code",
            "measure pass@k on MBPP and HumanEval",
            eval_code_verb.add_eval_code_flags,
            eval_code_verb.eval_code_verb,
        ),
    ),
    "weights": (
        Verb("inspect", "describe weights", weight_verbs.add_inspect_flags, weight_verbs.inspect_verb),
        Verb("convert", "convert weights between formats", weight_verbs.add_convert_flags, weight_verbs.convert_verb),
        Verb("verify", "compare what two models say", verify_verb.add_verify_flags, verify_verb.verify_verb),
        Verb(
            "quantize",
            "turn weights into integers of 8 or 4 bits",
            quantize_verb.add_quantize_flags,
            quantize_verb.quantize_verb,
        ),
        Verb("export", "export a model's graphs", export_verb.add_export_flags, export_verb.export_verb),
        Verb("merge-lora", "merge an adapter into its base", adapter_verbs.add_merge_flags, adapter_verbs.merge_verb),
        Verb(
            "export-lora",
            "export an adapter in PEFT's format",
            adapter_verbs.add_export_flags,
            adapter_verbs.export_verb,
        ),
    ),
    "this machine": (
        Verb(
            "doctor",
            "check device, CANN, versions, compiler, disk, memory and ports",
            doctor_verb.add_doctor_flags,
            doctor_verb.doctor_verb,
        ),
        Verb(
            "completion",
            "print a script that completes commands",
            completion_verb.add_completion_flags,
            completion_verb.completion_verb,
        ),
    ),
}


def overview() -> str:
    """The verbs by group, for ``mindcoder --help``."""
    width = max(len(verb.name) for verbs in GROUPS.values() for verb in verbs)
    lines = []
    for title, verbs in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {verb.name:{width}}  {verb.summary}" for verb in verbs]
    return "\n".join([*lines[1:], "", "mindcoder VERB --help lists the flags of a verb."])
