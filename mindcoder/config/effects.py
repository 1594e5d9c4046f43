"""Warns once about keys of a file that have no effect in this run.

The effect of a key is stated where it is declared: `Ignored` with a reason, `Only` with its single value, live
otherwise. This module has the reasons that depend on the run: its device, dtypes and number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mindcoder.config.model_section import OTHER_ARCHITECTURES
from mindcoder.config.schema import RunConfig
from mindcoder.config.source import KeyPath, YamlSource
from mindcoder.sections.pet_section import PET_KEYS
from mindcoder.sections.section import ASKS_FOR_NOTHING, Describes, Ignored

# Values that are read as another one.
READ_AS = {
    "FP32StateAdamWeightDecay": "AdamWeightDecay, whose states always are float32",
    "FusedFP32StateAdamWeightDecay": "AdamWeightDecay, whose states always are float32",
    "FusedAdamWeightDecay": "AdamWeightDecay",
    "CheckpointMointor": "CheckpointMonitor",
    **{name: other.remark for name, other in OTHER_ARCHITECTURES.items()},
    "prefixtuning": "ptuning2 with prefix_projection, of prefix_token_num, mid_dim and dropout_rate",
    "slora": "no adapter: adapters beside a base model are named with --adapter of predict, chat and serve",
}
CALLBACKS = {
    "ObsMonitor": "files stay in output_dir",
    "ProfileMonitor": "MindCoder has no profiler of its own",
    "TrainingStateMonitor": "loss, rate and gradient norm are always logged",
    "SummaryMonitor": "TensorBoard files are always written",
    "EvalCallBack": "do_eval and eval_step_interval decide",
}
# Keys of a section that are overridden by another key if both are given.
OVERRULED = {
    "beta1": "betas",
    "beta2": "betas",
    "warmup_steps": "warmup_ratio",
    "decay_steps": "decay_ratio",
    "decay_start_steps": "decay_start_ratio",
    "multi_query": "n_kv_heads",
    "expand_ratio": "intermediate_size",
    "multiple_of": "intermediate_size",
    "ffn_dim_multiplier": "intermediate_size",
    "dataset_files": "dataset_dir",
}
IN_CLUSTERS = ("parallel", "parallel_config")


def marker(field: FieldInfo) -> Ignored | None:
    """The `Ignored` marker of a key; None if it has an effect."""
    return next((item for item in field.metadata if isinstance(item, Ignored)), None)


def notes_on_effects(config: RunConfig, source: YamlSource, device: str) -> list[str]:
    """One line per key in the file that has no effect here, and per value that is read as another one.

    Args:
        config: the validated configuration.
        source: data of the file, to tell given keys from defaults.
        device: ``CPU`` or ``Ascend``.
    """
    notes = []
    given = sorted(_given(config, source.data), key=lambda item: source.order(item[0]))
    for path, section, field, value in given:
        file, line = source.location(path)
        at, name = (f"{file}:{line}: " if line else f"{file}: "), ".".join(map(str, path))
        winner = OVERRULED.get(str(path[-1]))
        if winner in type(section).model_fields and getattr(section, winner) not in (None, "", []):
            notes.append(f"{at}{name} has no effect: {winner} is given")
            continue
        reason = _reason(path, field, value, config, device)
        if reason:
            notes.append(f"{at}{name} has no effect: {reason}")
        elif isinstance(value, str) and value in READ_AS and path[-1] in ("type", "pet_type"):
            notes.append(f"{at}{name}: {value} is read as {READ_AS[value]}")
    return notes


def _given(section: BaseModel, data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, BaseModel, FieldInfo, Any]]:
    """Path, section, declaration and value of every leaf key that the file gives."""
    for name, field in type(section).model_fields.items():
        key = field.alias or name
        if not isinstance(data, dict) or key not in data:
            continue
        value, given = getattr(section, name), data[key]
        if isinstance(value, BaseModel) and marker(field) is None:
            yield from _given(value, given, (*path, key))
        elif isinstance(value, list) and any(isinstance(item, BaseModel) for item in value):
            for index, item in enumerate(value):
                yield from _given(item, given[index], (*path, key, index))
        else:
            yield (*path, key), section, field, given


def _reason(path: KeyPath, field: FieldInfo, value: Any, config: RunConfig, device: str) -> str | None:
    """Why the key has no effect; None if it has one or if its value requests nothing."""
    mark = marker(field)
    if isinstance(mark, Describes):
        return None
    if mark is not None and path[0] not in IN_CLUSTERS:
        return None if value in mark.neutral else mark.reason
    if value in ASKS_FOR_NOTHING and (mark is None or value in mark.neutral):
        return None
    if path[0] in IN_CLUSTERS and not config.use_parallel:
        return "use_parallel is False, one process"
    if mark is not None:
        return None if value in mark.neutral else mark.reason
    if path[0] == "callbacks" and path[-1] == "type" and value in CALLBACKS:
        return f"there is no {value} here; {CALLBACKS[value]}"
    if path == ("optimizer", "learning_rate") and config.lr_schedule.learning_rate not in (None, value):
        return "lr_schedule.learning_rate is given"
    if path[:2] == ("runner_wrapper", "scale_sense") and config.model.settings.compute_dtype != "float16":
        return "a loss scale is used only with float16"
    if value == "bfloat16" and device == "CPU" and path[-1] != "compute_dtype":
        return "tensors are float32 on CPU"
    if path[-1] == "checkpoint_name_or_path" and config.load_checkpoint != value:
        return "load_checkpoint is given" if config.load_checkpoint else "there is no such path; give load_checkpoint"
    model = config.model.settings
    if path[-2:-1] == ("pet_config",) and path[-1] != "pet_type" and model.pet_config is not None:
        if not str(path[-1]).startswith(PET_KEYS[model.pet_config.pet_type]):
            return f"it is not a key of {model.pet_config.pet_type}"
    if path[-1] in ("pad_token_id", "pad_token") and path[0] == "model" and model.pad_is_outside:
        return f"{value} is the first id outside the vocabulary, so no token is padding"
    return None
