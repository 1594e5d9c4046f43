"""Recipes: files joined by ``base``, and shipped configurations by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import REPOSITORY

from mindcoder.config.given import read_configuration
from mindcoder.config.load import load_config
from mindcoder.config.recipe import MOST_FILES, read_recipe
from mindcoder.config.write import as_yaml
from mindcoder.errors import UserError


def write(folder: Path, **files: str) -> Path:
    """Files below ``folder``; ``__`` in a name is a slash. Returns the last one."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return path


def refusal(file: Path | str, *sets: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(file, sets)
    return str(caught.value)


def test_sections_are_joined_key_by_key_and_the_later_wins(tmp_path):
    recipe = write(
        tmp_path,
        one="optimizer: {beta1: 0.8, beta2: 0.9}\ncallbacks: [{type: MFLossMonitor}, {type: ObsMonitor}]\nseed: 1",
        parts__two="base: [../one.yaml]\noptimizer: {beta2: 0.7}\nseed: 2",
        recipe="base: [one.yaml, parts/two.yaml]\ncallbacks: [{type: MFLossMonitor, per_print_times: 3}]\nseed: 3",
    )
    source = read_recipe(recipe)
    assert source.data == {
        "optimizer": {"beta1": 0.8, "beta2": 0.7},
        "callbacks": [{"type": "MFLossMonitor", "per_print_times": 3}],
        "seed": 3,
    }
    assert source.location(("optimizer", "beta1")) == (str(tmp_path / "one.yaml"), 1)
    assert source.location(("optimizer", "beta2")) == (str(tmp_path / "parts" / "two.yaml"), 2)
    assert source.location(("seed",)) == (str(recipe), 3)
    assert [Path(file).name for file in source.files] == ["one.yaml", "two.yaml", "recipe.yaml"]


def test_a_short_recipe_on_a_shipped_one(tmp_path):
    recipe = write(tmp_path, mine="base: [wizardcoder/tiny_finetune]\nrunner_config: {epochs: 7}\n")
    base, _ = load_config("wizardcoder/tiny_finetune")
    mine, _ = load_config(recipe, ["seed=4"])
    assert mine.runner_config.epochs == 7 and mine.runner_config.batch_size == base.runner_config.batch_size
    assert mine.model == base.model and mine.seed == 4


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a": "seed: 1\nbase:\n  - models/lama2_7b"}, "a.yaml:3: base: no shipped configuration 'models/lama2_7b'"),
        ({"a": "base: [nothing/like_it_at_all]"}, "a.yaml:1: base: no shipped configuration 'nothing/like_it_at_all'"),
        ({"a": "base: [./b.yaml]"}, "a.yaml:1: base: no such file as"),
        ({"b": "seed: 1", "a": "base: [b]"}, "a.yaml:1: base: no shipped configuration 'b'; a file is named with its"),
        ({"a": "\nbase: {b: 1}"}, "a.yaml:2: base: expected names such as [models/llama2_7b, methods/lora], found"),
        ({"a": "base: [[b.yaml]]"}, "a.yaml:1: base: expected names"),
        ({"b": "base: a.yaml", "a": "base: b.yaml"}, "b.yaml:1: base 'a.yaml' is circular: a.yaml → b."),
        ({"a": "base: [a.yaml]"}, "a.yaml:1: base 'a.yaml' is circular: a.yaml → a.yaml"),
        ({"b": "seed: 1\nseed: 2", "a": "base: [b.yaml]"}, "b.yaml:2: key 'seed' is given twice"),
        ({"b": "[1]", "a": "base: [b.yaml]"}, "b.yaml:1: expected keys and values at the top"),
        ({"b": "seed: 1\noptimizer:\n  beta3: 1", "a": "base: [b.yaml]"}, "b.yaml:3: unknown key 'optimizer.beta3'"),
        ({"b": "optimizer: {eps: 1.0}", "a": "base: [b.yaml]\noptimizer: {eps: x}"}, "a.yaml:2: optimizer.eps: found"),
        ({"b": "x: 1\ny: 2", "a": "base: [b.yaml]\n\n\nz: 1"}, "a.yaml:4: unknown key 'z'"),
        (
            {"b": "train_dataset: {drop_remainder: True}", "a": "base: b.yaml\ntrain_dataset_task: {dataset_config: {}}"},  # noqa: E501
            "a.yaml:2: train_dataset_task.dataset_config differs from train_dataset",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_the_file_and_line_it_came_from(tmp_path, files, expected):
    said = refusal(write(tmp_path, **files))
    assert expected in said and said.startswith(str(tmp_path)) and "\n" not in said


def test_bases_that_multiply_end(tmp_path):
    files = {f"f{number}": f"base: [f{number + 1}.yaml, f{number + 1}.yaml]" for number in range(12)}
    write(tmp_path, f12="seed: 1", **files)
    assert f"more than {MOST_FILES} files are joined" in refusal(tmp_path / "f0.yaml")


def test_base_cannot_be_set_and_names_are_suggested():
    assert "--set base=[methods/lora]: base is a key of files" in refusal(
        "wizardcoder/tiny_finetune", "base=[methods/lora]"
    )
    assert "no such configuration file; did you mean 'wizardcoder/tiny_finetune'?" in refusal(
        "wizardcoder/tiny_finetun"
    )
    assert "configs/llama/none.yaml: no such configuration file" in refusal("configs/llama/none.yaml")


@pytest.mark.parametrize("given", ["wizardcoder/tiny_lora", "configs/wizardcoder/tiny_lora.yaml"])
def test_a_shipped_recipe_is_found_anywhere(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    config, source = load_config(given)
    assert config.adapter is not None and config.adapter.lora_rank == 8
    assert all(Path(file).is_file() for file in source.files)


def test_a_file_wins_over_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, configs__wizardcoder__tiny_lora="base: [wizardcoder/tiny_lora]\nseed: 9")
    assert load_config("configs/wizardcoder/tiny_lora.yaml")[0].seed == 9
    (tmp_path / "wizardcoder" / "tiny_lora").mkdir(parents=True)  # a folder is not a configuration
    assert load_config("wizardcoder/tiny_lora")[0].seed == 0


def test_mindformers_file_can_be_a_base(tmp_path):
    """Its train_dataset_task repeats train_dataset, and goes on doing so when a recipe changes the latter."""
    whole = REPOSITORY / "research" / "wizardcoder" / "run_wizardcoder.yaml"
    text = f"base: [{os.path.relpath(whole, tmp_path)}]\ntrain_dataset: {{drop_remainder: False}}\n"
    config, source = load_config(write(tmp_path, mine=text))
    assert not config.train_dataset.drop_remainder and not config.train_dataset_task.dataset_config.drop_remainder
    copy = tmp_path / "copy.yaml"
    copy.write_text(as_yaml(source.data))
    assert load_config(copy)[0] == config and copy.read_text().count("  # ") > 100


def test_python_takes_bases_as_a_recipe_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, mine="runner_config: {epochs: 9}")
    bases = ["models/tiny_llama", "methods/tiny_lora", "./mine.yaml"]
    run = read_configuration({"base": bases, "runner_config": {"batch_size": 2}}).run
    assert (run.runner_config.epochs, run.runner_config.batch_size, run.adapter.lora_rank) == (9, 2, 8)
    assert read_configuration("llama/tiny_lora").run.model == run.model
    for given, expected in {
        "models/tiny_lama": "config: base: no shipped configuration 'models/tiny_lama'; did you mean 'models/tiny_ll",
        "./none.yaml": "config: base: no such file as none.yaml",
    }.items():
        with pytest.raises(UserError, match=expected):
            read_configuration({"base": [given]})
    with pytest.raises(UserError, match="config: runner_config.epochs: found 'x'"):
        read_configuration({"base": bases, "runner_config.epochs": "x"})


def test_a_key_twice_in_a_dictionary_is_refused():
    twice = {"base": "wizardcoder/tiny_lora", "runner_config": {"epochs": 2}, "runner_config.epochs": 3}
    with pytest.raises(UserError, match="config: runner_config.epochs: found twice, nested and by its path"):
        read_configuration(twice)


def test_a_key_of_another_family_is_named_as_such(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("base: [models/tiny_wizardcoder, models/codellama_7b, methods/lora]\n")
    with pytest.raises(UserError) as error:
        read_configuration(file)
    assert "unknown key 'model.model_config.n_position'; n_position is not a key of CodeLlamaConfig" in str(error.value)
    assert "nearest" not in str(error.value)


def test_a_null_byte_is_no_text():
    with pytest.raises(UserError, match=r"output_dir: found 'a\\x00b', expected a text without null bytes"):
        read_configuration({"base": "wizardcoder/tiny_lora", "output_dir": "a\0b"})
