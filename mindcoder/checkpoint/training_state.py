"""Entries that MindSpore's training leaves in a ``.ckpt`` beside the weights, recognized by name.

Names of the states: MindSpore's optimizers and loss-scale cells, and MindFormers' optimizers (mindformers/core/optim,
mindformers/wrapper, research/wizardcoder and mindformers/models/llama of mindspore-lab/mindformers).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

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
