"""Every block of Python on docs/python.md and every cell of the notebook runs, as a reader runs them."""

from __future__ import annotations

import ast
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from families import random_model

import mindcoder
from docs.pages import PAGES, TRANSLATIONS, python_blocks

PAGE = "docs/python.md"
NOTEBOOK = REPOSITORY / "examples" / "python_api.ipynb"
# Stands in for the quickstart's model: one small layer with random weights, under the page's configuration file.
SMALL = {"seq_length": 128, "n_position": 256, "hidden_size": 32, "num_layers": 1, "num_heads": 2}
QUICKSTART = {"vocab_size": 1024, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_inner": 128, "n_positions": 256}


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A working directory with the parts of the repository that the page and the notebook name."""
    os.symlink(REPOSITORY / "datasets", tmp_path / "datasets")
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    (tmp_path / "examples").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_pages_blocks_run_in_their_order(checkout, tokenizer_folder, capsys):
    folder, file = checkout / "output" / "quickstart", checkout / "configs" / "wizardcoder" / "tiny_finetune.yaml"
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    config.setdefault("model", {}).setdefault("model_config", {}).update(SMALL)
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    random_model(**QUICKSTART).save_pretrained(folder)
    for file in tokenizer_folder.iterdir():
        shutil.copy(file, folder)
    names: dict = {}
    for block in [*python_blocks("README.md"), *python_blocks(PAGE)]:
        assert not block.reason
        exec(compile(block.text, str(block), "exec"), names)
    printed = capsys.readouterr().out
    assert "config: unknown key 'runner_config.epcohs'; did you mean 'epochs'?" in printed
    assert "temperature: expected a number from 0" in printed
    assert isinstance(names["model"], mindcoder.Model) and isinstance(names["run"], mindcoder.Run)
    assert len(names["run"].losses) == 6 and names["logits"].shape[1] == QUICKSTART["vocab_size"]
    assert isinstance(names["tuned"], mindcoder.Model) and (checkout / "output" / "python_hf" / "config.json").is_file()


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)])
def test_blocks_of_python_are_python_and_translations_have_the_same(page):
    for block in python_blocks(page):
        ast.parse(block.text, str(block))
    if page in TRANSLATIONS:
        original = [block.text for block in python_blocks(TRANSLATIONS[page])]
        assert [block.text for block in python_blocks(page)] == original


def test_the_page_names_what_there_is():
    text = (REPOSITORY / PAGE).read_text(encoding="utf-8")
    for name in mindcoder.__all__:
        assert name.startswith("_") or f"`{name}" in text or f"mindcoder.{name}" in text, name


def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_the_notebook_runs_cell_by_cell(checkout, monkeypatch, capsys):
    """As Jupyter does, whose working directory is the notebook's; its own packages are not needed."""
    monkeypatch.chdir(checkout / "examples")
    names: dict = {}
    for number, cell in enumerate(cells()):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {number}", "exec"), names)
    assert Path.cwd() == checkout and (checkout / "output" / "notebook" / "hf" / "config.json").is_file()
    assert names["run"].losses[-1] < names["run"].losses[0]
    assert "did you mean 'epochs'?" in capsys.readouterr().out


def test_the_notebook_is_one_that_jupyter_opens():
    """nbformat 4.4, which is described in github.com/jupyter/nbformat: v4/nbformat.v4.4.schema.json."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 4)
    assert notebook["metadata"]["kernelspec"].keys() >= {"name", "display_name"}
    for cell in cells():
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "metadata", "source"} | code
        assert cell["cell_type"] in ("code", "markdown")
        assert all(isinstance(line, str) for line in cell["source"])
