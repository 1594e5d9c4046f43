"""Flags shared by the verbs and the scripts under ``research/``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

from mindcoder.data.prompt import TEMPLATE_NAMES
from mindcoder.generate.kv_kinds import FLOAT, KV_CACHES
from mindcoder.train.request import CHANGE_GROUPS


def boolean(text: str) -> bool:
    """Parse ``True``/``False`` in any case, also 1/0."""
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"expected True or False, found {text!r}")


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Type of a flag: an integer from ``low`` to ``high``."""

    def read(text: str) -> int:
        try:
            value = int(text) if len(text) <= 20 else None
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            bounds = f"of at least {low}" if high == LARGEST else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"expected a whole number {bounds}, found {_shown(text)}")
        return value

    return read


def number(low: float, high: float = 1e6, above: bool = False) -> Callable[[str], float]:
    """Type of a flag: a finite number of at least ``low`` and at most ``high``.

    Args:
        above: whether ``low`` itself is refused.
    """

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not low <= value <= high or (above and value == low):
            bound = "above" if above else "from"
            raise argparse.ArgumentTypeError(
                f"expected a number {bound} {low:g} and at most {high:g}, found {_shown(text)}"
            )
        if 0 < abs(value) < SMALLEST:
            raise argparse.ArgumentTypeError(f"expected 0 or a number of at least {SMALLEST:.1e}, found {_shown(text)}")
        return value

    return read


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


SMALLEST = 2.0**-126  # smallest float32 with full precision
LARGEST = 2**31 - 1  # limit of counts in MindSpore and the operating system
positive = whole_number(1, LARGEST)


def whole_numbers(text: str) -> tuple[int, ...]:
    """Type of a flag: positive numbers with commas between them."""
    return tuple(positive(item) for item in text.split(","))


not_negative = whole_number(0, LARGEST)
seed_number = whole_number(0, 2**32 - 1)  # limit of numpy's generators
port_number = whole_number(1, 65535)


def change_groups(text: str) -> frozenset[str]:
    """Parse a comma-separated list of names from `CHANGE_GROUPS`."""
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in CHANGE_GROUPS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no group {unknown[0]!r}; available: {', '.join(CHANGE_GROUPS)}")
    return frozenset(names)


def named_path(text: str) -> tuple[str, str]:
    """Parse ``NAME=PATH``."""
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, found {text!r}")
    return name, path


def add_device_target_flag(parser: argparse.ArgumentParser) -> None:
    """Add the device flag of a command without a YAML file."""
    parser.add_argument(
        "--device_target", choices=["auto", "CPU", "Ascend"], default="auto", help="auto: Ascend if available"
    )


def add_adapter_flag(parser: argparse._ActionsContainer, chosen: str) -> None:
    """Add the flag for adapters beside the base model.

    Args:
        chosen: how one of them is selected, for the help.
    """
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        type=named_path,
        metavar="NAME=PATH",
        help=f"a LoRA run or PEFT folder on this model, {chosen}; may be repeated",
    )


def add_original_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the remaining flags of the original run_wizardcoder.py (mindspore-lab/mindformers r1.1.0,
    research/wizardcoder).
    """
    parser.add_argument(
        "--task", choices=["text_generation"], default="text_generation", help="the only supported task"
    )
    parser.add_argument("--pet_method", metavar="NAME", help="lora or ptuning2; '' trains all weights")
    parser.add_argument(
        "--optimizer_parallel",
        type=boolean,
        metavar="BOOL",
        help="shard optimizer states over data-parallel ranks, ZeRO-1 (parallel_config.optimizer_shard)",
    )
    parser.add_argument(
        "--auto_trans_ckpt",
        type=boolean,
        metavar="BOOL",
        help="accepted without effect: weights of any layout can be loaded",
    )


def add_run_flags(parser: argparse.ArgumentParser, mode: str | None = None, config: str | None = None) -> None:
    """Add the flags of train, finetune, eval and predict: those of the original ``run_wizardcoder.py``, and ours.

    Args:
        mode: add only the flags that this verb reads; None adds all, for the scripts with ``--run_mode``.
        config: default of ``--config``; without it the flag is required.
    """
    told = "YAML file, or the name of a shipped configuration" + ("" if config is None else f"; default: {config}")
    parser.add_argument("--config", required=config is None, default=config, metavar="CONFIG", help=told)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any key of the YAML file, such as runner_config.epochs=3; may be repeated",
    )
    overrides = parser.add_argument_group(
        "keys of the YAML file", "A flag wins over the file; its default is the file's value."
    )
    overrides.add_argument("--use_parallel", type=boolean, metavar="BOOL", help="run as one rank of a distributed job")
    overrides.add_argument(
        "--load_checkpoint", metavar="PATH", help="checkpoint, run, Hugging Face folder or .ckpt file to start from"
    )
    if mode in (None, "train", "finetune"):
        overrides.add_argument(
            "--train_data", "--train_dataset", dest="train_data", metavar="PATH", help="MindRecord, JSON or JSONL"
        )
    if mode != "predict":
        overrides.add_argument(
            "--eval_dataset", "--eval_data", dest="eval_dataset", metavar="PATH", help="MindRecord, JSON or JSONL"
        )
    if mode != "predict":
        of = "--eval_dataset" if mode == "eval" else "--train_data"
        overrides.add_argument(
            "--columns",
            metavar="FIELD=COLUMN,..",
            help=f"names that JSON and JSONL of {of} give to fields, such as instruction=q,output=a",
        )
    overrides.add_argument("--template", choices=TEMPLATE_NAMES, help="prompt template (processor.prompt_template)")
    overrides.add_argument(
        "--vocab_file", metavar="FILE", help="vocab.json, tokenizer.json, tokenizer.model, or a folder"
    )
    overrides.add_argument("--merge_file", "--merges_file", dest="merge_file", metavar="FILE", help="merges.txt")
    overrides.add_argument("--output_dir", metavar="DIR", help="checkpoints, curves and logs")
    overrides.add_argument("--device_id", type=not_negative, metavar="N", help="Ascend device")
    overrides.add_argument("--device_target", choices=["auto", "CPU", "Ascend"], help="auto: Ascend if available")
    overrides.add_argument(
        "--seed", type=seed_number, metavar="N", help="seed of initial weights, data order and dropout"
    )
    if mode in (None, "train", "finetune"):
        _add_continue_flags(parser.add_argument_group("an output_dir that holds checkpoints"))
    if mode in (None, "predict"):
        _add_predict_flags(parser.add_argument_group("prompts"))
    parser.add_argument(
        "--debug",
        action="store_true",
        help="show the stack trace of an error; for eval and predict the keys without effect too",
    )


def _add_continue_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=None,
        type=boolean,
        metavar="BOOL",
        help="continue from the latest intact checkpoint in output_dir",
    )
    group.add_argument(
        "--allow_changes",
        type=change_groups,
        default=frozenset(),
        metavar="NAMES",
        help=f"resume although these differ from before, of {', '.join(CHANGE_GROUPS)}; several with commas",
    )
    group.add_argument("--overwrite", action="store_true", help="start over, replacing the checkpoints in output_dir")


def add_kv_flag(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the flag for the numbers of the KV cache."""
    parser.add_argument(
        "--kv",
        choices=KV_CACHES,
        default=FLOAT,
        help="numbers of the KV cache: int8 takes about a quarter of the memory on CPU, half on Ascend; default: float",
    )


def _add_predict_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--predict_data", metavar="TEXT|FILE", help="a prompt, or a file of prompts")
    group.add_argument("--predict_length", type=positive, metavar="N", help="prompt and answer together, in tokens")
    group.add_argument("--predict_batch", type=positive, metavar="N", help="batch size for a file of prompts")
    add_kv_flag(group)
    add_adapter_flag(group, "for the prompts of a JSONL file whose field adapter names it")
    group.add_argument("--output_file", metavar="JSONL", help="answers to a file of prompts; default: the terminal")
    group.add_argument("--raw", action="store_true", help="no instruction template around the prompt")


def config_flags(arguments: argparse.Namespace, run_mode: str) -> dict[str, tuple[str, Any]]:
    """Key path -> (flag, value) for the flags that override keys of the YAML file."""
    keys = {
        "use_parallel": "use_parallel",
        "load_checkpoint": "load_checkpoint",
        "output_dir": "output_dir",
        "train_data": "train_dataset.data_loader.dataset_dir",
        "eval_dataset": "eval_dataset.data_loader.dataset_dir",
        "columns": f"{'eval' if run_mode == 'eval' else 'train'}_dataset.data_loader.columns",
        "seed": "seed",
        "device_id": "context.device_id",
        "device_target": "context.device_target",
        "vocab_file": "processor.tokenizer.vocab_file",
        "merge_file": "processor.tokenizer.merge_file",
        "template": "processor.prompt_template",
        "pet_method": "pet_method",
        "optimizer_parallel": "parallel_config.optimizer_shard",
        "auto_trans_ckpt": "auto_trans_ckpt",
    }
    flags: dict[str, tuple[str, Any]] = {"run_mode": ("--run_mode", run_mode)}
    for name, key in keys.items():
        value = getattr(arguments, name, None)  # a verb has only the flags that it reads
        if value is not None:
            flags[key] = (f"--{name}", value)
    return flags
