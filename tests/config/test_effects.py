"""Every key of the schema is read by someone, or says why not."""

from __future__ import annotations

import typing

import pytest
from conftest import REPOSITORY
from pydantic.fields import FieldInfo
from section_reads import classes_in, declared_fields, reads_of_package

from mindcoder.config.effects import marker, notes_on_effects
from mindcoder.config.load import load_config
from mindcoder.sections.section import Describes, Ignored, Only


def is_read(owner: type, name: str, reads: set) -> bool:
    return any(key == name and (issubclass(one, owner) or issubclass(owner, one)) for one, key in reads)


def has_one_value(field: FieldInfo) -> bool:
    """Whether there is nothing to read: one value is accepted, or the key holds a section whose keys count."""
    choices = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
    return (
        any(isinstance(item, Only) for item in field.metadata)
        or len(choices) == 1
        or bool(classes_in(field.annotation))
    )


def test_every_live_key_is_read_and_no_ignored_key_is():
    reads = reads_of_package()
    unread, read = set(), set()
    for owner, name, field in declared_fields():
        ignored = marker(field)
        if ignored is None and not has_one_value(field) and not is_read(owner, name, reads):
            unread.add(f"{owner.__name__}.{name}")
        if ignored is not None and not ignored.live and (owner, name) in reads:
            read.add(f"{owner.__name__}.{name}")
    assert not unread, f"accepted, and read by nobody: {sorted(unread)}"
    assert not read, f"marked as ignored, and read: {sorted(read)}"


def test_every_ignored_key_says_why():
    for owner, name, field in declared_fields():
        ignored = marker(field)
        if isinstance(ignored, Ignored) and not isinstance(ignored, Describes):
            assert len(ignored.reason) > 10 and not ignored.reason.endswith("."), f"{owner.__name__}.{name}"


@pytest.mark.parametrize(
    "changes, expected",
    [
        (["optimizer.betas=[0.9, 0.99]"], "optimizer.beta1 has no effect: betas is given"),
        (["lr_schedule.warmup_steps=9", "lr_schedule.warmup_ratio=0.0"], "warmup_steps has no effect: warmup_ratio is"),
        (["optimizer.learning_rate=0.5"], "optimizer.learning_rate has no effect: lr_schedule.learning_rate is given"),
        (
            ["callbacks=[{type: EvalCallBack}]"],
            "callbacks.0.type has no effect: there is no EvalCallBack here; do_eval",
        ),
        (["metric.type=EmF1Metric"], "metric.type has no effect: eval reports loss, perplexity, token accuracy"),
        (
            ["model.model_config.pet_config={pet_type: ptuning2, lora_rank: 4}"],
            "lora_rank has no effect: it is not a key of",
        ),
        (["runner_wrapper.enable_check_overflow=False"], "enable_check_overflow has no effect: gradients are always"),
        (["parallel.auto_pipeline=False", "use_parallel=True"], "parallel.auto_pipeline has no effect: the layout is"),
    ],
)
def test_what_a_run_does_not_follow_is_said_once(changes, expected):
    config, source = load_config(REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml", changes)
    assert sum(expected in note for note in notes_on_effects(config, source, "CPU")) == 1
