"""The shipped configurations: what the 82 files before them said, in parts, with a comment on every key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mindcoder.config.describe import key_at
from mindcoder.config.load import load_config
from mindcoder.config.recipe import read_recipe
from mindcoder.config.schema import RunConfig
from mindcoder.config.shipped import find_config, is_part, shipped, shipped_folder
from mindcoder.config.source import KeyPath

# Keys with an effect of the 82 files: [path, value], and for each file the numbers of its keys.
BEFORE = json.loads(Path(__file__).with_name("recipes_before.json").read_text(encoding="utf-8"))
FILES = sorted(shipped_folder().rglob("*.yaml"))


def before(name: str) -> dict[str, Any]:
    """What a file said, as nested data."""
    data: dict[str, Any] = {}
    for number in BEFORE["files"][name]:
        path, value = BEFORE["keys"][number]
        section = data
        for key in path[:-1]:
            section = section.setdefault(key, {})
        section[path[-1]] = value
    return data


@pytest.mark.parametrize("name", BEFORE["files"])
def test_a_recipe_means_what_its_file_meant(name):
    old, (new, _) = RunConfig.model_validate(before(name)), load_config(name)
    assert new == old
    for section in ("runner_config", "optimizer", "lr_schedule", "train_dataset"):
        assert getattr(new, section) == getattr(old, section)
    asked = ["prompt_template" in config.processor.model_fields_set for config in (old, new)]
    assert asked[0] == asked[1]  # a model's own template counts where the file gives none


def test_there_are_82_recipes_and_one_name_for_each():
    assert set(BEFORE["files"]) == {name for name in shipped() if not is_part(name)} and len(BEFORE["files"]) == 82


@pytest.mark.parametrize("file", [file for file in FILES if file.name != "recipes.yaml"], ids=lambda file: file.stem)
def test_every_key_has_a_comment(file):
    """The comment of its declaration: `test_reference` compares them."""
    for line in file.read_text(encoding="utf-8").splitlines():
        is_name = line.rstrip(":") in shipped() or line.startswith("  base: ")  # of a collection
        assert not line or line.startswith("#") or "  # " in line or is_name, line


def given_keys(data: Any, path: KeyPath = ()) -> list[KeyPath]:
    if isinstance(data, list):
        return [key for index, item in enumerate(data) for key in given_keys(item, (*path, index))]
    if not isinstance(data, dict):
        return []
    return [key for name, item in data.items() for key in ((*path, name), *given_keys(item, (*path, name)))]


@pytest.mark.parametrize("name", [name for name in shipped() if is_part(name)])
def test_a_part_has_only_keys_with_an_effect(name):
    data = read_recipe(name).data
    for path in given_keys(data):
        key = key_at(path, data)
        assert key is not None and key.is_live, path


def test_parts_make_the_original_lora_run(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("base: [models/wizardcoder_15b, methods/lora, clusters/atlas_8x64gb]\n")
    mine, original = load_config(recipe)[0], load_config("wizardcoder/15b_lora")[0]
    assert mine.adapter == original.adapter and mine.runner_wrapper == original.runner_wrapper
    assert mine.lr_schedule == original.lr_schedule
    assert mine.parallel_config.model_parallel == original.parallel_config.model_parallel == 4
    changes = {"use_seq_parallel": None}
    assert mine.model.settings == original.model.settings.model_copy(update=changes)


def test_a_file_of_a_collection_is_found_by_its_old_path():
    config = find_config("configs/llama/llama2_7b_lora.yaml")
    assert config.entry == "llama/llama2_7b_lora" and config.file.name == "recipes.yaml"
    source = read_recipe("configs/llama/llama2_7b_lora.yaml")
    file, line = source.location(("output_dir",))
    assert "lora_llama_llama2_7b" in Path(file).read_text().splitlines()[line - 1]
    file, line = source.location(("model", "model_config", "intermediate_size"))
    assert (
        Path(file).name == "llama.yaml" and "intermediate_size: 11008" in Path(file).read_text().splitlines()[line - 1]
    )
