"""Shared fixtures: MindSpore on CPU, a random GPT-BigCode of Hugging Face, real data where it is present."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread each, set before a library starts its pool: threads of two processes that wait for one another by
    # spinning on two cores made the whole suite take twice as long.
    for _variable in ("MINDCODER_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(_variable, "1")

import numpy as np
import pytest
from order import is_further_case, is_long, place, unit
from served import offline, served_folder, served_tokenizer, server  # noqa: F401

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = Path(os.environ.get("MINDCODER_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
SAMPLES = REPOSITORY / "datasets" / "samples.json"


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "dist", "no") != "no" and not hasattr(config, "workerinput"):
        return  # the tests run in processes of xdist's; this one only counts, and need not import MindSpore
    from mindcoder.backend.device import setup_device

    setup_device("CPU")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in the order of `order`, its long cases marked, and those that check nothing new behind all others."""
    tests = REPOSITORY / "tests"
    own = [item for item in items if tests in item.path.parents]
    files = {item: item.path.relative_to(tests).as_posix() for item in own}
    names = {item: files[item] + item.nodeid[item.nodeid.index("::") :] for item in own}
    items.sort(key=lambda item: (is_further_case(names[item]), place(files[item])) if item in files else (False, 0))
    for item in own:
        if is_long(names[item]):
            item.add_marker(pytest.mark.long)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """As ``--dist loadfile``, with the units of `order`."""
    from xdist.scheduler import LoadFileScheduling

    class ByUnit(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid.removeprefix("tests/"))

    return ByUnit(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keeps the garbage collector off what is imported by now: MindSpore calls it before it compiles a graph."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what would start after MINDCODER_TESTS_UNTIL (seconds since 1970): CI's time is limited."""
    until = os.environ.get("MINDCODER_TESTS_UNTIL")
    if until and time.time() > float(until):
        pytest.skip("no time left (MINDCODER_TESTS_UNTIL)")


@pytest.fixture(autouse=True)
def execution_mode():
    """Puts MindSpore's execution mode back: MindFormers' Trainer changes it for the whole process."""
    import mindspore as ms

    mode = ms.get_context("mode")
    yield
    if ms.get_context("mode") != mode:
        ms.set_context(mode=mode)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with CodeAlpaca, MBPP and HumanEval; skips where it is absent (licences keep it out of the project)."""
    if not (SHARED_DATA / "code_alpaca_2k.json").is_file():
        pytest.skip(f"{SHARED_DATA} is absent: set MINDCODER_SHARED_DATA to a folder with code_alpaca_2k.json")
    return SHARED_DATA


@pytest.fixture(scope="session")
def small_tokenizer():
    """A tokenizer of 700 ids trained on the project's own samples."""
    import json

    from mindcoder.tokenizer.bpe import train_tokenizer

    records = json.loads(SAMPLES.read_text(encoding="utf-8"))
    return train_tokenizer([text for record in records for text in record.values()], 700)


@pytest.fixture(scope="session")
def tokenizer_folder(small_tokenizer, tmp_path_factory) -> Path:
    """`small_tokenizer` on disk."""
    folder = tmp_path_factory.mktemp("tokenizer")
    small_tokenizer.save(folder)
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Seeded."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory):
    """Saves a random model of transformers and loads it as our decoder.

    ``hf_folder(family, **config) -> (hf model, decoder, path)``
    """
    from families import random_model

    from mindcoder.checkpoint.huggingface import HuggingFaceFolder
    from mindcoder.checkpoint.load import load_weights
    from mindcoder.models.decoder import Decoder

    def make(family="gpt_bigcode", **overrides):
        model = random_model(family, **overrides)
        folder = tmp_path_factory.mktemp("hf")
        model.save_pretrained(folder)
        decoder = Decoder(HuggingFaceFolder(folder).transformer_config, empty=True)
        load_weights(decoder, str(folder))
        return model, decoder, folder

    return make
