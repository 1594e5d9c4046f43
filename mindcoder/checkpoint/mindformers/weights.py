"""Reader of MindFormers' ``.ckpt``: which file of a folder, which of its entries are weights, of which family.

With ``--load_checkpoint ./ckpt`` each process of MindFormers loads the file in its own rank's folder, such as
``rank_0/wizardcoder_15B.ckpt``. Merging ranks that hold shards requires the strategy files of MindSpore's automatic
parallel mode, which is not done here. The trees that ``convert`` writes are those of `rank_tree`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mindcoder.checkpoint.companions import find_companions
from mindcoder.checkpoint.huggingface import WEIGHT_FILES, read_config
from mindcoder.checkpoint.mindformers.llama import NAMING as LLAMA
from mindcoder.checkpoint.mindformers.naming import Naming
from mindcoder.checkpoint.mindformers.wizardcoder import NAMING as WIZARDCODER
from mindcoder.checkpoint.mindspore_file import list_mindspore
from mindcoder.checkpoint.plan import FoundPlans
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.files import file_there

T = TypeVar("T")

NAMINGS: dict[str, Naming] = {naming.model_type: naming for naming in (WIZARDCODER, LLAMA)}
RANK_FOLDER = re.compile(r"rank_(\d+)")
SAVED_STEP = re.compile(r"(.+)-(\d+)_(\d+)\.ckpt")  # <prefix>-<epoch>_<step of the epoch>.ckpt

# Entries that MindSpore's training leaves in a ``.ckpt`` beside the weights. Names of MindSpore's optimizers and
# loss-scale cells, and of MindFormers' optimizers (mindformers/core/optim, mindformers/wrapper, research/wizardcoder
# and mindformers/models/llama of mindspore-lab/mindformers).
STATES = (
    "global_step",
    "learning_rate",
    "weight_decay",
    "beta1_power",
    "beta2_power",
    "scale_sense",
    "loss_scale",
    "current_iterator_step",
    "last_overflow_iterator_step",
    "epoch_num",
    "step_num",
    "batch_num",
    "remove_redundancy",
)
MOMENTS = (
    "adam_m.",
    "adam_v.",
    "moment1.",
    "moment2.",
    "moments.",
    "exp_avg.",
    "exp_avg_sq.",
    "max_exp_avg_sq.",
    "muon_m.",
)
GRADIENTS = ("accu_grads.", "grads.")
CACHES = (".key_past", ".value_past", ".key_cache", ".value_cache")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MindFormersWeights(Weights):
    """Weights of a file under MindFormers' names; ``config.json`` beside it states what the file does not.

    Attributes:
        naming: of the family.
        states: names of the file's other entries.
    """

    kind = "ckpt"
    title = "MindSpore checkpoint"

    naming: Naming
    states: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> MindFormersWeights | None:
        """Open a file, or the latest one of a folder; None if there is none, or if the folder is Hugging Face's.

        Raises:
            UserError: it is not clear which file is meant, or it is damaged, or of an unknown model, or ``config.json``
                is of another family.
        """
        if not path.is_dir():
            return cls._of(path, path) if path.suffix == ".ckpt" and path.is_file() else None
        if any((path / name).is_file() for names in WEIGHT_FILES for name in names):
            return None
        file = find_ckpt(path)
        return None if file is None else cls._of(path, file)

    @classmethod
    def _of(cls, path: Path, file: Path) -> MindFormersWeights:
        """The weights in ``file``, which ``path`` is or holds; files that belong to them may be in either's folder."""
        tensors, states = split_state(list_mindspore(file))
        naming = next((naming for naming in NAMINGS.values() if naming.recognizes(tensors)), None)
        if naming is None:
            first = next(iter(tensors), None)
            found = f"its first tensor is {first}" if first else f"it holds {describe_states(states)} only"
            raise UserError(f"holds no WizardCoder or Llama of MindFormers: {found}", file)
        try:
            config = naming.config_from_tensors(tensors, file)
        except ValueError as error:
            raise UserError(f"the shapes do not form a network: {error}", file) from None
        folder = path if path.is_dir() else file.parent
        described = next(filter(file_there, (beside / "config.json" for beside in (file.parent, folder))), None)
        values: dict[str, Any] | None = None
        if described is not None:
            values, told = read_config(described)
            if told.model_type != config.model_type:
                raise UserError(f"describes {told.model_type}, {file.name} beside it is {config.model_type}", described)
            config = replace(told, vocab_size=config.vocab_size)
        return cls(
            path=path,
            config=config,
            tensors=tensors,
            companions={**find_companions(folder), **find_companions(file.parent)},
            huggingface_config=values,
            naming=naming,
            states=tuple(states),
        )

    @property
    def skipped_entries(self) -> str:
        """What training and prediction have added to the file."""
        return describe_states(self.states)

    @property
    def unknown_fields(self) -> frozenset[str]:
        """Fields that only ``config.json`` would state."""
        return self.naming.unknown_fields if self.huggingface_config is None else frozenset()

    @property
    def required_fields(self) -> frozenset[str]:
        """Those of them that differ between models of the same shapes."""
        return self.naming.required_fields if self.huggingface_config is None else frozenset()

    def find_plans(self, config: TransformerConfig) -> FoundPlans:
        """The parameters by the family's naming, in the network's order."""
        plans, unexpected = self.naming.plans_to_ours(self.tensors, config)
        expected = config.parameter_shapes()
        return FoundPlans(
            {name: plans[name] for name in expected if name in plans},
            [name for name in expected if name not in plans],
            unexpected,
        )


def naming_of(model_type: str) -> Naming:
    """The naming of a family.

    Raises:
        UserError: MindFormers has no names for it.
    """
    if model_type not in NAMINGS:
        raise UserError(f".ckpt naming of MindFormers is for {' and '.join(NAMINGS)}, not {model_type}")
    return NAMINGS[model_type]


def find_ckpt(folder: Path) -> Path | None:
    """The latest ``.ckpt`` in a folder or in its ``rank_0``; None if there is none.

    Raises:
        UserError: there are several files and none is clearly the latest, or the ranks hold shards.
    """
    own = _files(folder)
    ranks = sorted(
        (int(match[1]), path)
        for path in folder.iterdir()
        if (match := RANK_FOLDER.fullmatch(path.name)) and path.is_dir() and _files(path)
    )
    if own and ranks:
        raise UserError(f"holds {own[0].name} and {ranks[0][1].name}/: give one of them", folder)
    if own:
        return _newest(own, folder)
    if not ranks:
        return None
    if ranks[0][0] != 0:
        raise UserError(f"holds {ranks[0][1].name}/ but no rank_0/", folder)
    newest = [_newest(_files(path), path) for _, path in ranks]
    _check_copies(newest)
    return newest[0]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.ckpt") if file_there(path))


def _newest(files: list[Path], folder: Path) -> Path:
    if len(files) == 1:
        return files[0]
    steps = [SAVED_STEP.fullmatch(file.name) for file in files]
    if not all(steps) or len({match[1] for match in steps if match}) > 1:
        names = ", ".join(file.name for file in files[:5]) + (" …" if len(files) > 5 else "")
        raise UserError(f"holds {len(files)} .ckpt files: give one of {names}", folder)
    newest = max(zip(steps, files), key=lambda item: (int(item[0][2]), int(item[0][3])) if item[0] else (0, 0))[1]
    log.info("%s: using the latest of %d files, %s", folder, len(files), newest.name)
    return newest


def _check_copies(files: list[Path]) -> None:
    """Check that all ranks hold the same tensors; shards differ in shape from rank to rank, or lack layers."""
    shapes = []
    for file in files:
        weights, _ = split_state(list_mindspore(file))
        shapes.append({name: tensor.shape for name, tensor in weights.items()})
    for file, found in zip(files[1:], shapes[1:]):
        if found != shapes[0]:
            raise UserError(
                f"holds other tensors than {files[0]}: the ranks hold slices or stages; merge them first with "
                "MindSpore's transform_checkpoints and the run's strategy files",
                file,
            )
    if len(files) > 1:
        log.info("%d ranks hold the same tensors; reading %s", len(files), files[0])


def split_state(tensors: Mapping[str, T]) -> tuple[dict[str, T], list[str]]:
    """(the weights, names of everything that training or prediction added)."""
    weights, states = {}, []
    for name, tensor in tensors.items():
        if name in STATES or name.startswith(MOMENTS + GRADIENTS) or name.endswith(CACHES):
            states.append(name)
        else:
            weights[name] = tensor
    return weights, states


def describe_states(names: Iterable[str]) -> str:
    """One line: counts of moments, gradients and caches, and the other names; empty if there are none."""
    counts = {"optimizer moments": 0, "accumulated gradients": 0, "cached keys and values": 0}
    others = []
    for name in names:
        if name.startswith(MOMENTS):
            counts["optimizer moments"] += 1
        elif name.startswith(GRADIENTS):
            counts["accumulated gradients"] += 1
        elif name.endswith(CACHES):
            counts["cached keys and values"] += 1
        else:
            others.append(name)
    return ", ".join([f"{count} {title}" for title, count in counts.items() if count] + others)
