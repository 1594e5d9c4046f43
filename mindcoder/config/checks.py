"""Checks across fields: values that contradict each other or refer to something missing."""

from __future__ import annotations

from mindcoder.config.schedule_keys import check_schedule
from mindcoder.config.schema import RunConfig
from mindcoder.config.source import YamlSource
from mindcoder.errors import UserError
from mindcoder.families.registry import family_of_type
from mindcoder.sections.decoder_section import SAME_THING


def check_together(config: RunConfig, source: YamlSource) -> None:
    """Refuse values that contradict each other or refer to something missing.

    Raises:
        UserError: names the key, what was found and what is expected.
    """
    model = config.model.settings

    def refuse(message: str, *path: str) -> None:
        file, line = source.location(path)
        raise UserError(message, file, line)

    at = ("model", "model_config")
    name = ".".join(at)
    if model.hidden_size % model.num_heads and not getattr(model, "head_dim", None):
        refuse(
            f"{name}.hidden_size: {model.hidden_size} is not divisible by num_heads {model.num_heads}",
            *at,
            "hidden_size",
        )
    if model.num_heads % model.kv_heads:
        refuse(
            f"{name}.n_kv_heads: num_heads {model.num_heads} is not divisible by {model.kv_heads}", *at, "n_kv_heads"
        )
    limit = model.max_positions
    if limit is not None and model.seq_length > limit:
        refuse(
            f"{name}.seq_length: {model.seq_length} is over n_position {limit}, the number of learned positions",
            *at,
            "seq_length",
        )
    for names in SAME_THING:
        given = [key for key in names if key in model.model_fields_set and getattr(model, key) is not None]
        for key in given[1:]:
            if getattr(model, key) != getattr(model, given[0]):
                refuse(
                    f"{name}.{key}: {getattr(model, key)} differs from {given[0]} {getattr(model, given[0])}, "
                    "another name of the same",
                    *at,
                    key,
                )
    pad, pad_key = model.given_pad_id, "pad_token" if model.pad_token is not None else "pad_token_id"
    if pad is not None and pad >= model.vocab_size and not model.pad_is_outside:
        refuse(
            f"{name}.{pad_key}: {pad} is not below vocab_size {model.vocab_size}",
            *at,
            pad_key if (*at, pad_key) in source.lines else "vocab_size",
        )
    expected = family_of_type(model.type).architectures[model.type]
    if config.model.arch.model_class not in (None, expected):
        refuse(
            f"model.arch.type: found {config.model.arch.type!r}, expected {expected!r} for {model.type}",
            "model",
            "arch",
            "type",
        )
    for key, message in model.contradictions():
        refuse(f"{name}.{key}: {message}", *at, key)
    experts = (config.moe_config or {}).get("expert_num", 1)
    if experts not in (None, 1):
        refuse(
            f"moe_config.expert_num: found {experts!r}, expected 1: models here have no experts", "moe_config",
            "expert_num",
        )  # fmt: skip
    trains = config.run_mode in ("train", "finetune")
    pet = model.pet_config
    if pet is not None and pet.pet_type == "slora" and trains:
        refuse(
            f"{name}.pet_config.pet_type: slora loads adapters for generation; train each with pet_type: lora",
            *at,
            "pet_config",
            "pet_type",
        )
    if pet is not None and config.model.arch.pet is not None:
        refuse(
            "model.arch.pet: model_config.pet_config is given as well, leave one of them out", "model", "arch", "pet"
        )
    if pet is not None and config.pet_method and config.pet_method != pet.pet_type:
        refuse(f"pet_method: {config.pet_method} differs from pet_config.pet_type {pet.pet_type}", "pet_method")
    check_schedule(config, source)
    mesh = config.parallel_config
    if config.use_parallel and mesh.context_parallel > 1:
        refuse(
            f"parallel_config.context_parallel: {mesh.context_parallel} is not supported, expected 1",
            "parallel_config",
            "context_parallel",
        )
    for kind in ("CheckpointMonitor", "MFLossMonitor"):
        count = sum(item.kind == kind for item in config.callbacks)
        if count > 1:
            refuse(f"callbacks: {kind} is there {count} times, expected once", "callbacks")
    for path, flag in source.overridden.items():
        if path[0] in ("train_dataset_task", "eval_dataset_task"):
            raise UserError(f"{path[0]} is not read: set {str(path[0]).removesuffix('_task')} instead", flag)


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
