"""The verbs of ``mindcoder``, in the groups shown by ``--help``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mindcoder.cli.parser import Parser, StrictParser


@dataclass(frozen=True)
class Verb:
    """A subcommand of ``mindcoder``. Its module is imported when it is used: all of them take two seconds.

    Attributes:
        name: of the subcommand.
        summary: for ``--help``.
        flags: ``module:function`` in `mindcoder.cli` that adds its flags to a parser.
        function: the same of what runs it and returns the exit code.
        mode: for verbs that share both: more for the flags, after the parser, and for the run, before the arguments.
    """

    name: str
    summary: str
    flags: str
    function: str
    mode: tuple[str, ...] = ()

    def add_flags(self, parser: Parser) -> None:
        """Add its flags, and what runs it."""
        _found(self.flags)(parser, *self.mode)
        parser.set_defaults(run=self._run)

    def _run(self, arguments: argparse.Namespace) -> int:
        return _found(self.function)(*self.mode, arguments)


def _found(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    return getattr(import_module(f"mindcoder.cli.{module}"), function)


GROUPS: dict[str, tuple[Verb, ...]] = {
    "data": (
        Verb(
            "train-tokenizer",
            "train a small BPE tokenizer",
            "data_verbs:add_tokenizer_flags",
            "data_verbs:train_tokenizer_verb",
        ),
        Verb(
            "preprocess",
            "turn records into MindRecord",
            "data_verbs:add_preprocess_flags",
            "data_verbs:preprocess_verb",
        ),
        Verb("data", "list, show and clean datasets", "dataset_verbs:add_dataset_flags", "dataset_verbs:dataset_verb"),
    ),
    "training": (
        Verb("train", "pretrain", "arguments:add_run_flags", "run_verbs:run", ("train",)),
        Verb("finetune", "fine-tune", "arguments:add_run_flags", "run_verbs:run", ("finetune",)),
        Verb(
            "eval", "report loss, perplexity and token accuracy", "arguments:add_run_flags", "run_verbs:run", ("eval",)
        ),
        Verb(
            "configs",
            "list, show, copy and validate configurations",
            "configs_verb:add_configs_flags",
            "configs_verb:configs_verb",
        ),
        Verb("report", "make an HTML page about a run", "report_verb:add_report_flags", "report_verb:report_verb"),
    ),
    "clusters": (
        Verb(
            "plan",
            "estimate memory, communication and time of a layout",
            "plan_verb:add_plan_flags",
            "plan_verb:plan_verb",
        ),
        Verb("launch", "start one process per device", "launch_verb:add_launch_flags", "launch_verb:launch_verb"),
    ),
    "generation": (
        Verb(
            "predict", "answer a prompt or a file of prompts", "arguments:add_run_flags", "run_verbs:run", ("predict",)
        ),
        Verb("chat", "chat with a model", "chat_verb:add_chat_flags", "chat_verb:chat_verb"),
        Verb("complete", "fill a gap in code", "chat_verb:add_complete_flags", "chat_verb:complete_verb"),
        Verb("serve", "serve OpenAI's API over HTTP", "serve_verb:add_serve_flags", "serve_verb:serve_verb"),
        Verb("bench", "measure latency and throughput", "bench_verb:add_bench_flags", "bench_verb:bench_verb"),
        Verb(
            "eval-code",
            "measure pass@k on MBPP and HumanEval",
            "eval_code_verb:add_eval_code_flags",
            "eval_code_verb:eval_code_verb",
        ),
    ),
    "weights": (
        Verb("inspect", "describe weights", "weight_verbs:add_inspect_flags", "weight_verbs:inspect_verb"),
        Verb(
            "convert", "convert weights between formats", "weight_verbs:add_convert_flags", "weight_verbs:convert_verb"
        ),
        Verb("verify", "compare what two models say", "verify_verb:add_verify_flags", "verify_verb:verify_verb"),
        Verb(
            "quantize",
            "turn weights into integers of 8 or 4 bits",
            "quantize_verb:add_quantize_flags",
            "quantize_verb:quantize_verb",
        ),
        Verb("export", "export a model's graphs", "export_verb:add_export_flags", "export_verb:export_verb"),
        Verb(
            "merge-lora", "merge an adapter into its base", "adapter_verbs:add_merge_flags", "adapter_verbs:merge_verb"
        ),
        Verb(
            "export-lora",
            "export an adapter in PEFT's format",
            "adapter_verbs:add_export_flags",
            "adapter_verbs:export_verb",
        ),
    ),
    "this machine": (
        Verb(
            "doctor",
            "check device, CANN, versions, compiler, disk, memory and ports",
            "doctor_verb:add_doctor_flags",
            "doctor_verb:doctor_verb",
        ),
        Verb(
            "completion",
            "print a script that completes commands",
            "completion_verb:add_completion_flags",
            "completion_verb:completion_verb",
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


def flags_of_verbs() -> dict[str, list[str]]:
    """Flag -> the commands that have it. Imports all verbs."""
    found: dict[str, list[str]] = {}
    for verb in (verb for verbs in GROUPS.values() for verb in verbs):
        parser = StrictParser()
        try:
            verb.add_flags(parser)
        except ImportError:  # a package that this verb needs is missing
            continue
        for flag in parser.flags:
            found.setdefault(flag, []).append(f"mindcoder {verb.name}")
    return found
