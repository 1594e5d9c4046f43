"""A walk through the documentation: every command, as written, page by page, in a fresh copy of the repository.

``make test-docs`` runs it (about half an hour); the default suite leaves it out. Chinese pages have the commands of the
English ones, see `test_pages.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY, SHARED_DATA
from families import random_model

from docs.pages import PAGES, TRANSLATIONS, Block, blocks

pytestmark = pytest.mark.docs
SECONDS = 1500  # of one block, make quickstart and make test-docs' slow machine included
# Folders that the pages take from ~/models, and what stands in for them: the family in a small size, random weights.
MODELS = {
    "starcoder2-3b": "starcoder2",
    "starcoderbase-1b": "gpt_bigcode",
    "wizardcoder": "gpt_bigcode",
    "CodeLlama-7b-hf": "llama",
}


@pytest.fixture(scope="module")
def walk(tmp_path_factory, tokenizer_folder):
    """A fresh clone with ``make quickstart`` done, and a home with model folders."""
    clone, home = tmp_path_factory.mktemp("walk") / "mindcoder", tmp_path_factory.mktemp("home")
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(clone)], check=True)
    files = subprocess.run(
        ["git", "ls-files", "-mo", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True
    )
    for name in files.stdout.split():  # what is not committed yet is documented too
        if (REPOSITORY / name).is_file() and not name.startswith(".venv"):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, clone / name)
    for library in (REPOSITORY / "mindcoder" / "native").glob("*.so"):
        shutil.copy(library, clone / "mindcoder" / "native")
    stand_in_environment(clone / ".venv")
    for name in ("code_alpaca_2k.json", "mbpp.jsonl", "HumanEval.jsonl.gz"):
        if (SHARED_DATA / name).is_file():
            shutil.copy(SHARED_DATA / name, clone)
    for name, family in MODELS.items():
        folder = home / "models" / name
        random_model(family, vocab_size=701).save_pretrained(folder)
        for file in tokenizer_folder.iterdir():
            shutil.copy(file, folder)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTEST_CURRENT_TEST", "VIRTUAL_ENV")},
        "HOME": str(home),
        "PATH": f"{clone / '.venv' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(clone),
        "NO_COLOR": "1",
    }
    return clone, environment


def stand_in_environment(folder: Path) -> None:
    """This interpreter's packages under the name that the Makefile and the pages use; nothing is installed again."""
    (folder / "bin").mkdir(parents=True)
    for name in os.listdir(Path(sys.executable).parent):
        os.symlink(Path(sys.executable).parent / name, folder / "bin" / name)
    os.symlink(Path(sys.prefix) / "lib", folder / "lib")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
    for made in ("runtime", "testing", "linting"):
        (folder / made).touch()
        os.utime(folder / made, (time.time() + 1e6,) * 2)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in TRANSLATIONS])
def test_every_command_of_the_page_works(page, walk):
    clone, environment = walk
    clear_outputs(clone)
    made_here = any("make quickstart" in block.text for block in blocks(page))
    if not made_here and not (clone / "output" / "quickstart").exists():
        run(Block("Makefile", 1, "make quickstart"), clone, environment)
    start_over(clone / "output")  # a page and its translation write to the same places
    servers, assignments = [], ""
    try:
        for block in blocks(page):
            assignments += "".join(f"{line}\n" for line in block.text.splitlines() if re.fullmatch(r"[A-Z]+=\S+", line))
            block = replace(block, text=assignments + block.text)
            missing = [name for name in ("code_alpaca_2k.json", "mbpp.jsonl") if name in block.text]
            if block.reason or any(not (clone / name).exists() for name in missing):
                print(f"{block}: not run: {block.reason or missing}")
                continue
            if block.port:
                servers.append(start(block, clone, environment))
            else:
                run(block, clone, environment)
    finally:
        for server in servers:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


def start_over(output: Path) -> None:
    """Leave what ``make quickstart`` wrote and remove the rest: every page begins there."""
    for item in output.iterdir() if output.is_dir() else ():
        if item.name != "quickstart":
            shutil.rmtree(item) if item.is_dir() else item.unlink()


def clear_outputs(clone: Path) -> None:
    """Leave only the quickstart: readers follow one page, and pages write to the same places."""
    for folder in (clone / "output").glob("*"):
        if folder.name != "quickstart":
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()


def run(block: Block, clone: Path, environment: dict[str, str]) -> None:
    """Every command has to succeed."""
    began = time.monotonic()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{block} ended with {done.returncode}:\n{block.text}\n---\n{done.stdout[-3000:]}"
    print(f"{block}: {time.monotonic() - began:.0f} s")


def start(block: Block, clone: Path, environment: dict[str, str]) -> subprocess.Popen:
    """Start a server and wait until its port answers."""
    server = subprocess.Popen(
        ["bash", "-c", block.text], cwd=clone, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert server.poll() is None, f"{block} ended with {server.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", block.port)) == 0:
                return server
        time.sleep(0.5)
    raise AssertionError(f"{block}: port {block.port} does not answer")
