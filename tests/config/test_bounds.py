"""Hostile and mistyped files: each ends in one line that names the file, within a moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import REPOSITORY

from mindcoder.cli.main import main
from mindcoder.config.load import load_config
from mindcoder.errors import UserError

TINY = REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml"

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi")
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n" for before, name in zip("abcdefgh", "bcdefghi")
)
NO_YAML: dict[str, tuple[bytes, str]] = {
    "aliases that multiply": (LAUGHS.encode(), "aliases counted"),
    "merges that multiply": (MERGES.encode(), "unknown key 'a'"),
    "an alias of itself": (b"a: &a [*a]\n", "more than 32 deep, aliases counted"),
    "a mapping that holds itself": (b"a: &a {b: *a}\n", "more than 32 deep, aliases counted"),
    "lists in lists": (b"a: " + b"[" * 50_000, "nested more than 32 deep"),
    "sections in sections": (b"".join(b" " * i + b"a:\n" for i in range(200)), "nested more than 32 deep"),
    "UTF-16": ("seed: 1\n".encode("utf-16"), "is UTF-16, expected UTF-8"),
    "Latin-1": ("# caf\xe9\nseed: 1\n".encode("latin-1"), ":1: is not UTF-8 text"),
    "binary": (bytes(range(256)), "is not UTF-8 text"),
    "a control character": (b"seed: 1\nrun_mode: a\x07b\n", ":2: is not valid YAML: character 0x7 is not allowed"),
    "a long number": (b"seed: 1\nlr: " + b"9" * 5000, ":2: a value looks like int but is invalid: it is too long"),
    "no date": (b"seed: 2024-13-45\n", ":1: a value looks like timestamp but is invalid: month must be in 1..12"),
    "a list as key": (b"? [a, b]\n: 1\n", ":1: expected a scalar key"),
    "code": (
        b"seed: !!python/object/apply:os.system [ls]\n",
        ":1: is not valid YAML: the tag 'tag:yaml.org,2002:python",
    ),
    "two documents": (b"seed: 1\n---\nseed: 2\n", "is not valid YAML: but found another document"),
    "a text": (b"hello\n", "expected keys and values at the top, found str"),
    "a large file": (b"# " + b"x" * (1 << 20), "is longer than 256 KiB"),
    "too many keys": (b"".join(b"k%d: 1\n" % i for i in range(12_000)), "more than 20000 values"),
}


@pytest.mark.parametrize("name", list(NO_YAML))
def test_what_is_no_yaml_of_ours_is_refused(name, tmp_path):
    text, expected = NO_YAML[name]
    path = tmp_path / "a.yaml"
    path.write_bytes(text)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}:") and expected in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_folder_a_device_and_nothing_are_no_files(tmp_path):
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "none.yaml", Path("a\0b")):
        with pytest.raises(UserError):
            load_config(path)


OUT_OF_BOUNDS = [
    ("model.model_config.num_layers=1000000000", "found 1000000000, expected at most 1,000"),
    ("model.model_config.num_layers=0", "found 0, expected at least 1"),
    ("model.model_config.hidden_size=100000000000000000000000", "expected at most 16,777,216"),
    ("model.model_config.vocab_size=-1", "found -1, expected at least 1"),
    ("model.model_config.num_heads=2000000", "expected at most 1,048,576"),
    ("model.model_config.seq_length=1", "found 1, expected at least 2"),
    ("model.model_config.temperature=1e-400", "found 0.0, expected a number above 0"),
    ("model.model_config.attention_probs_dropout_prob=1.0", "expected a number below 1"),
    ("model.model_config.initializer_range=.nan", "found nan, expected a finite number"),
    ("model.model_config.layernorm_epsilon=0", "expected a number above 0"),
    ("lr_schedule.learning_rate=.inf", "found inf, expected a finite number"),
    ("lr_schedule.learning_rate=.nan", "found nan, expected a finite number"),
    ("lr_schedule.learning_rate=-1e-5", "expected at least 0"),
    ("lr_schedule.learning_rate=1e9", "expected at most 1,000"),
    ("lr_schedule.warmup_steps=1000000000000", "expected at most 1,000,000,000"),
    ("lr_schedule.warmup_ratio=1.5", "expected at most 1"),
    ("runner_config.epochs=1e23", "found 1e+23, expected a whole number"),
    ("runner_config.epochs=100000000000000000000000", "expected at most 1,000,000"),
    ("runner_config.batch_size=0", "expected at least 1"),
    ("runner_config.batch_size=1000000000", "expected at most 1,048,576"),
    ("runner_config.gradient_accumulation_steps=1000000000", "expected at most 1,048,576"),
    ("runner_config.max_steps=0", "expected at least 1"),
    ("callbacks.1.save_checkpoint_steps=0", "callbacks.1.save_checkpoint_steps: found 0, expected at least 1"),
    ("callbacks.1.keep_checkpoint_max=0", "expected at least 1"),
    ("callbacks.0.per_print_times=0", "expected at least 1"),
    ("optimizer.eps=.inf", "found inf, expected a finite number"),
    ("optimizer.betas=[0.9, 2.0]", "expected a number below 1"),
    ("optimizer.weight_decay=.nan", "expected a finite number"),
    ("runner_wrapper.max_grad_norm=.inf", "expected a finite number"),
    ("parallel_config.data_parallel=1000000000000", "expected at most 1,048,576"),
    ("seed=99999999999999999999", "expected a number below 2,147,483,648"),
    ("context.max_call_depth=100000000000", "expected at most 10,000,000"),
    ("loss_health.spike_factor=.nan", "expected a finite number"),
    ("eval_step_interval=100000000000", "expected at most 1,000,000,000"),
    ("output_dir=''", "expected string should have at least 1 character"),
]


@pytest.mark.parametrize("change, expected", OUT_OF_BOUNDS, ids=[change for change, _ in OUT_OF_BOUNDS])
def test_numbers_have_bounds(change, expected):
    with pytest.raises(UserError) as caught:
        load_config(TINY, [change])
    assert expected in str(caught.value) and change.split("=")[0] in str(caught.value)


@pytest.mark.parametrize("change", ["lr_schedule.learning_rate=.inf", "runner_config.epochs=1e23"])
def test_plan_refuses_them_too(change, capsys):
    assert main(["plan", "--config", str(TINY), "--set", change]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and change.split("=")[0] in lines[0]


@pytest.mark.parametrize("value", ["[" * 5000, "9" * 5000, "2024-13-45", "{a: *b}", "a: b: c"])
def test_a_value_of_set_is_read_within_the_same_bounds(value):
    with pytest.raises(UserError, match="--set: "):
        load_config(TINY, [f"seed={value}"])


@pytest.mark.parametrize(
    "key",
    ["optimizer.eps", "runner_wrapper.max_grad_norm", "runner_wrapper.scale_sense", "lr_schedule.learning_rate",
     "optimizer.learning_rate", "lr_schedule.lr_end", "model.model_config.temperature", "model.model_config.top_p",
     "model.model_config.repetition_penalty", "model.model_config.layernorm_epsilon", "optimizer.weight_decay"],
)  # fmt: skip
def test_numbers_that_float32_cannot_hold_are_refused(key):
    with pytest.raises(UserError, match=f"{key}: found 1e-320, expected a number of size 1.2e-38 to 3.4e.38"):
        load_config(TINY, [f"{key}=1e-320"])
    assert load_config(TINY, [f"{key}=2e-38"])


def test_lists_and_large_numbers_too_and_zero_stays():
    for text in ("optimizer.betas=[1e-320,0.9]", "runner_wrapper.max_grad_norm=1e39"):
        with pytest.raises(UserError, match="expected a number of size"):
            load_config(TINY, [text])
    assert load_config(TINY, ["optimizer.weight_decay=0.0", "lr_schedule.lr_end=0.0", "optimizer.beta1=0.0"])
