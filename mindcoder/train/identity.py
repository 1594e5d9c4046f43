"""Identity of a run: stored in its checkpoints and compared on resume.

A resumed run must be the one that was interrupted. Everything that determines its numbers is compared by group; a
difference is refused unless its group is allowed by name. Changes of layout or length only are reported in one line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mindcoder.config.schema import RunConfig
from mindcoder.data.text_format import TextFormat
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.parallel.mesh import Mesh
from mindcoder.train.objectives.registry import objective_keys
from mindcoder.train.request import CHANGE_GROUPS as GROUPS
from mindcoder.train.schedule import Schedule

STATE_KEY = "identity"
BASE, NO_BASE = "base", "no weights"
UNTOLD: tuple[Any, ...] = (None, "", [], ())
WHERE_KNOWN = ("content", "prompt_template", "tokenizer", BASE)  # compared only if both sides know them
SHOWN = 60  # characters of a value in a message

# Keys of lr_schedule that only state its length.
LENGTH_KEYS = ("total_steps",)


@dataclass(frozen=True)
class Identity:
    """Identity of a run.

    Attributes:
        groups: keys and values that determine its numbers, by the names of `GROUPS`.
        free: keys and values that may change.
        schedule: the learning-rate schedule, which also depends on the number of updates.
    """

    groups: Mapping[str, Mapping[str, Any]]
    free: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As data for JSON."""
        return {"groups": dict(self.groups), "free": dict(self.free), "schedule": dict(self.schedule)}


def identity_of(
    config: RunConfig,
    network: TransformerConfig,
    schedule: Schedule,
    mesh: Mesh,
    content: str,
    text_format: TextFormat,
    total_steps: int,
    base: str | None = None,
) -> Identity:
    """Identity of the run that a configuration describes.

    Args:
        content: digest of the data; empty if this process does not know it.
        text_format: how the texts of the data became token ids.
        total_steps: updates of the whole run.
        base: digest of the weights that the run depends on throughout (the base of an adapter, the reference of an
            objective), `NO_BASE` if it starts from none, and None if they do not matter.
    """
    groups = _groups(config, network, content, text_format, base)
    return Identity(groups, _free(config, mesh, total_steps), asdict(schedule))


def _groups(
    config: RunConfig, network: TransformerConfig, content: str, text_format: TextFormat, base: str | None
) -> dict[str, Mapping[str, Any]]:
    """See `Identity`."""
    data, wrapper = config.train_dataset, config.runner_wrapper
    peak = config.lr_schedule.learning_rate
    rates = config.lr_schedule.model_dump(mode="json", exclude={"learning_rate", *LENGTH_KEYS})
    trained = network.architecture()
    adapter = config.model.settings.pet_config
    return {
        "data": {
            "content": content,
            "prompt_template": text_format.template_identity,
            "tokenizer": "" if text_format.tokenizer is None else text_format.tokenizer.sha256,
            **data.data_loader.model_dump(
                mode="json", exclude={"dataset_dir", "dataset_files", "path", "phase", "type", "streaming"}
            ),
            "drop_remainder": data.drop_remainder,
            "streaming": data.data_loader.streaming,
        },
        "seed": {"seed": config.seed},
        "lr": {"learning_rate": config.optimizer.learning_rate if peak is None else peak, **rates},
        "optimizer": {
            **config.optimizer.model_dump(mode="json", exclude={"learning_rate"}),
            "max_grad_norm": wrapper.max_grad_norm if wrapper.use_clip_grad else None,
        },
        "model": {
            **{name: value for name, value in asdict(network).items() if name not in trained},
            "pet_config": None if adapter is None else adapter.model_dump(mode="json"),
            **({} if base is None else {BASE: base}),
        },
        "objective": objective_keys(config),
    }


def _free(config: RunConfig, mesh: Mesh, total_steps: int) -> dict[str, Any]:
    """See `Identity`."""
    runner = config.runner_config
    saving = next((item for item in config.callbacks if item.type.startswith("Checkpoint")), None)
    return {
        "layout": mesh.layout.sizes,
        "batch_size": runner.batch_size,
        "gradient_accumulation_steps": runner.gradient_accumulation_steps,
        "epochs": runner.epochs,
        "max_steps": runner.max_steps,
        "total_steps": total_steps,
        "save_checkpoint_steps": saving.save_checkpoint_steps if saving is not None else 0,
        "load_checkpoint": config.load_checkpoint,
    }


def compare(state: Mapping[str, Any], now: Identity, allowed: Collection[str], folder: Path) -> list[str]:
    """Compare with the ``state`` of a checkpoint; returns lines to print on resume.

    Args:
        allowed: groups in which changes are accepted.

    Raises:
        UserError: something that determines the numbers changed; names all differences.
    """
    saved, step = state.get(STATE_KEY), state["step"]
    if not isinstance(saved, Mapping) or not isinstance(saved.get("groups"), Mapping):
        seed = state.get("seed", now.groups["seed"]["seed"])
        before: Mapping[str, Any] = {"groups": {"seed": {"seed": seed}}}
        lines = [
            "the checkpoint is of an older version and does not say with which data, learning rate and optimizer it "
            "was made: whether they are the same cannot be compared"
        ]
    else:
        before, lines = saved, []
    changed = {group: _differences(before["groups"].get(group), values) for group, values in now.groups.items()}
    refused = [group for group in GROUPS if changed.get(group) and group not in allowed]
    if refused:
        told = "; ".join(text for group in refused for text in changed[group])
        raise UserError(
            f"would not be the same run as before step {step}: {told}. Put back what changed, or accept it with "
            f"--allow_changes {','.join(refused)}",
            folder,
        )
    taken = [text for group in GROUPS for text in changed.get(group, ())]
    if taken:
        lines.append(f"from step {step + 1} on, as allowed: {'; '.join(taken)}")
    free = _differences(before.get("free"), now.free)
    if free:
        lines.append(f"changed since step {step}, the same run: {'; '.join(free)}")
    if not changed["lr"]:
        lines += _schedule_note(before.get("schedule"), now.schedule, step)
    return lines


def _differences(before: Any, now: Mapping[str, Any]) -> list[str]:
    """``key old → new`` of keys that both have; a key that one version does not know is not a difference."""
    if not isinstance(before, Mapping):
        return []
    found = []
    for name, value in now.items():
        if name not in before or _same(before[name], value):
            continue
        if name in WHERE_KNOWN and (before[name] in UNTOLD or value in UNTOLD):
            continue
        if name == "content":
            found.append(f"the data have other contents (digest {_short(before[name])} → {_short(value)})")
        elif name == BASE:
            found.append(f"the base model has other weights (digest {_short(before[name])} → {_short(value)})")
        else:
            found.append(f"{name} {_shown(before[name])} → {_shown(value)}")
    return found


def _same(before: Any, now: Any) -> bool:
    """Equal as stored in JSON: tuples are lists, and missing equals empty."""
    if isinstance(now, tuple):
        now = list(now)
    if isinstance(now, Mapping) and isinstance(before, Mapping):
        return all(_same(before[name], value) for name, value in now.items() if name in before)
    return before == now or (before in UNTOLD and now in UNTOLD)


def _schedule_note(before: Any, now: Mapping[str, Any], step: int) -> list[str]:
    """A longer or shorter run changes a decaying learning rate: say by how much at the next update."""
    if not isinstance(before, Mapping) or dict(before) == dict(now):
        return []
    try:
        rates = [Schedule(**values).at(step) for values in (before, now)]
    except (TypeError, ValueError, ArithmeticError):
        return []
    if rates[0] == rates[1]:
        return []
    return [
        f"the run has another length, and its schedule with it: step {step + 1} has learning rate {rates[1]:.3e} "
        f"instead of {rates[0]:.3e}"
    ]


def _shown(value: Any) -> str:
    text = "none" if value in UNTOLD else str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def _short(digest: Any) -> str:
    return str(digest)[:12]
