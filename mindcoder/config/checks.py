"""Checks across fields: values that contradict each other or refer to something missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mindcoder.config.schedule_keys import check_schedule
from mindcoder.config.schema import RunConfig
from mindcoder.config.source import YamlSource
from mindcoder.errors import UserError
from mindcoder.families.registry import family_of_type
from mindcoder.sections.decoder_section import SAME_THING

Path = tuple[str, ...]  # of a key in the YAML file
Problem = tuple[Path, str]

MODEL: Path = ("model", "model_config")


def check_together(config: RunConfig, source: YamlSource) -> None:
    """Refuse values that contradict each other or refer to something missing.

    Raises:
        UserError: names the key, what was found and what is expected.
    """
    for problems in (_model_sizes, _repeated_keys, _padding, _model_class, _experts, _adapters):
        _refuse_first(problems(config, source), source)
    check_schedule(config, source)
    for problems in (_callbacks,):
        _refuse_first(problems(config, source), source)
    for path, flag in source.overridden.items():
        if path[0] in ("train_dataset_task", "eval_dataset_task"):
            raise UserError(f"{path[0]} is not read: set {str(path[0]).removesuffix('_task')} instead", flag)


def _refuse_first(problems: Iterable[Problem], source: YamlSource) -> None:
    for path, message in problems:
        file, line = source.location(path)
        raise UserError(message, file, line)


def _of_model(key: str, message: str) -> Problem:
    """A problem with a key of model_config, which the message follows."""
    return (*MODEL, key), f"{'.'.join(MODEL)}.{key}: {message}"


def _model_sizes(config: RunConfig, source: YamlSource) -> Iterator[Problem]:
    model = config.model.settings
    if model.hidden_size % model.num_heads and not getattr(model, "head_dim", None):
        yield _of_model("hidden_size", f"{model.hidden_size} is not divisible by num_heads {model.num_heads}")
    if model.num_heads % model.kv_heads:
        yield _of_model("n_kv_heads", f"num_heads {model.num_heads} is not divisible by {model.kv_heads}")
    limit = model.max_positions
    if limit is not None and model.seq_length > limit:
        yield _of_model("seq_length", f"{model.seq_length} is over n_position {limit}, the number of learned positions")


def _repeated_keys(config: RunConfig, source: YamlSource) -> Iterator[Problem]:
    """Keys that are two names of one thing, with different values."""
    model = config.model.settings
    for names in SAME_THING:
        given = [key for key in names if key in model.model_fields_set and getattr(model, key) is not None]
        for key in given[1:]:
            found, first = getattr(model, key), getattr(model, given[0])
            if found != first:
                yield _of_model(key, f"{found} differs from {given[0]} {first}, another name of the same")


def _padding(config: RunConfig, source: YamlSource) -> Iterator[Problem]:
    model = config.model.settings
    pad, key = model.given_pad_id, "pad_token" if model.pad_token is not None else "pad_token_id"
    if pad is not None and pad >= model.vocab_size and not model.pad_is_outside:
        _, message = _of_model(key, f"{pad} is not below vocab_size {model.vocab_size}")
        yield (*MODEL, key if (*MODEL, key) in source.lines else "vocab_size"), message


def _model_class(config: RunConfig, source: YamlSource) -> Iterator[Problem]:
    model = config.model.settings
    expected, found = family_of_type(model.type).architectures[model.type], config.model.arch
    if found.model_class not in (None, expected):
        message = f"model.arch.type: found {found.type!r}, expected {expected!r} for {model.type}"
        yield ("model", "arch", "type"), message
    for key, message in model.contradictions():
        yield _of_model(key, message)


def _experts(config: RunConfig, source: YamlSource) -> Iterator[Problem]:
    experts = (config.moe_config or {}).get("expert_num", 1)
    if experts not in (None, 1):
        message = f"moe_config.expert_num: found {experts!r}, expected 1: models here have no experts"
        yield ("moe_config", "expert_num"), message


def _adapters(config: RunConfig, source: YamlSource) -> Iterator[Problem]:
    pet = config.model.settings.pet_config
    if pet is None:
        return
    if pet.pet_type == "slora" and config.run_mode in ("train", "finetune"):
        path = (*MODEL, "pet_config", "pet_type")
        yield path, f"{'.'.join(path)}: slora loads adapters for generation; train each with pet_type: lora"
    if config.model.arch.pet is not None:
        yield ("model", "arch", "pet"), "model.arch.pet: model_config.pet_config is given as well, leave one out"
    if config.pet_method and config.pet_method != pet.pet_type:
        yield ("pet_method",), f"pet_method: {config.pet_method} differs from pet_config.pet_type {pet.pet_type}"


def _callbacks(config: RunConfig, source: YamlSource) -> Iterator[Problem]:
    for kind in ("CheckpointMonitor", "MFLossMonitor"):
        count = sum(item.kind == kind for item in config.callbacks)
        if count > 1:
            yield ("callbacks",), f"callbacks: {kind} is there {count} times, expected once"


def check_repeated_datasets(source: YamlSource) -> None:
    """Refuse a ``train_dataset_task`` that differs from ``train_dataset``; call before flags change either.

    Raises:
        UserError: it would be ambiguous which of them is meant.
    """
    for section in ("train_dataset", "eval_dataset"):
        task = source.data.get(f"{section}_task")
        repeated = task.get("dataset_config") if isinstance(task, dict) else None
        if repeated is not None and repeated != source.data.get(section):
            file, line = source.location((f"{section}_task", "dataset_config"))
            raise UserError(
                f"{section}_task.dataset_config differs from {section}, which is read; give the same (a YAML anchor)",
                file,
                line,
            )
