"""configs ls, show, cp and validate."""

from __future__ import annotations

import pytest
import yaml

from mindcoder.cli.main import main
from mindcoder.config.load import load_config
from mindcoder.config.shipped import is_part, shipped


def said(capsys, *command: object) -> tuple[int, str, str]:
    code = main(["configs", *map(str, command)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_ls_has_every_name_and_words_narrow_it(capsys):
    code, text, _ = said(capsys, "ls")
    names = [line.split()[0] for line in text.splitlines()]
    assert code == 0 and names == list(shipped()) and is_part(names[-1]) and not is_part(names[0])
    assert all(len(line.split()) > 1 for line in text.splitlines())
    _, text, _ = said(capsys, "ls", "llama2_7b", "lora")
    assert text.split() == [
        "llama/llama2_7b_lora", "models/llama2_7b,", "methods/lora,", "clusters/atlas_8x64gb_data2_tensor4",
    ]  # fmt: skip
    assert said(capsys, "ls", "gpt4") == (2, "", "mindcoder: error: no shipped configuration is named like 'gpt4'\n")


def test_show_prints_the_joined_file_with_comments_and_it_can_be_used(capsys, tmp_path):
    code, text, _ = said(capsys, "show", "wizardcoder/tiny_lora")
    assert code == 0 and text.startswith("# wizardcoder/tiny_lora, joined from ")
    assert "      lora_rank: 8  # lora: rank of the two matrices A and B (int, default: 8)\n" in text
    assert "base:" not in text and all("  # " in line or line.startswith("# ") for line in text.splitlines())
    (tmp_path / "whole.yaml").write_text(text)
    assert load_config(tmp_path / "whole.yaml")[0] == load_config("wizardcoder/tiny_lora")[0]


@pytest.mark.parametrize(
    "name", ["wizardcoder/15b_pretrain", "llama/tiny_lora", "models/starcoder2_3b", "methods/lora"]
)
def test_cp_begins_a_recipe_that_means_the_same(capsys, tmp_path, name):
    target = tmp_path / "new" / "mine.yaml"
    code, text, _ = said(capsys, "cp", name, target)
    assert code == 0 and str(target) in text
    assert load_config(target)[0] == load_config(name)[0]
    own = yaml.safe_load(target.read_text())
    assert own["base"] and len(target.read_text().splitlines()) < 20
    assert f"{target}: exists; add --overwrite" in said(capsys, "cp", name, target)[2]
    assert said(capsys, "cp", name, target, "--overwrite")[0] == 0
    assert "is a file of your own" in said(capsys, "cp", target, tmp_path / "other.yaml")[2]


def test_validate_gives_the_errors_of_a_run(capsys, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("base: [wizardcoder/tiny_finetune]\nrunner_config: {epochs: 2}\nmetric: {type: EmF1Metric}\n")
    code, text, _ = said(capsys, "validate", recipe, "wizardcoder/tiny_finetune_8p")
    assert code == 0 and text.splitlines()[0] == f"{recipe}: valid; finetune, gpt_bigcode, 891 k"
    assert f"  {recipe}:3: metric.type has no effect: eval reports loss" in text
    for key, expected in {
        "runner_config.epoch=1": "unknown key 'runner_config.epoch'; did you mean 'epochs'?",
        "model.model_config.num_heads=3": "hidden_size: 128 is not divisible by num_heads 3",
        "parallel_config.context_parallel=5": "context_parallel: seq_length 384 is not divisible by 5",
    }.items():
        flags = ["--set", key, "--set", "use_parallel=True"]
        code, _, error = said(capsys, "validate", recipe, *flags)
        assert code == 2 and expected in error and len(error.splitlines()) == 1
        assert main(["finetune", "--config", str(recipe), "--train_data", "x", *flags]) == 2
        assert capsys.readouterr().err == error
    code, _, error = said(capsys, "validate", "wizardcoder/tiny_fintune")
    assert code == 2 and "did you mean 'wizardcoder/tiny_finetune'?" in error


@pytest.mark.parametrize(
    "keys, message",
    [
        ("'(['", "target_modules: is not a regular expression"),
        ("nothing", "target_modules: 'nothing' matches no linear layer; available: layers.0.attention.query"),
    ],
)
def test_validate_tries_the_adapters_patterns(capsys, tmp_path, keys, message):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"base: [wizardcoder/tiny_lora]\nmodel: {{model_config: {{pet_config: {{target_modules: {keys}}}}}}}\n"
    )
    code, _, error = said(capsys, "validate", recipe)
    assert code == 2 and f"{recipe}:2: model.model_config.pet_config.{message}" in error


def test_cp_into_a_folder_that_cannot_be_written_names_the_target(capsys):
    code, _, error = said(capsys, "cp", "wizardcoder/tiny_lora", "/proc/mine.yaml")
    assert code == 2 and error.startswith("mindcoder: error: /proc/mine.yaml: cannot be written: ")
