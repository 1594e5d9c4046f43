"""DPO with an adapter on layouts against one process."""

from __future__ import annotations

import pytest
from conftest import REPOSITORY

from mindcoder.data.preprocess import PreprocessOptions, preprocess
from parallel.test_data_parallel import assert_same_run, dataset, run_single  # noqa: F401
from parallel.test_layouts import RECOMPUTE, SEQUENCE, ZERO, layout, run

pytestmark = pytest.mark.long

DPO = {
    "preference.type": "dpo",
    "preference.beta": 0.5,
    "model.model_config.pet_config.lora_rank": 4,
    "model.model_config.pet_config.lora_dropout": 0.0,
    "model.model_config.pet_config.target_modules": ".*",
    "lr_schedule.learning_rate": 3e-3,
}


@pytest.fixture(scope="module")
def start(dataset, small_tokenizer, tmp_path_factory):  # noqa: F811
    """Pairs, a base model, and the run of one process."""
    folder = tmp_path_factory.mktemp("pairs")
    pairs = str(REPOSITORY / "datasets" / "sample_pairs.json")
    options = PreprocessOptions(pairs, folder / "p.mindrecord", 512, workers=1, show_progress=False, pairs=True)
    preprocess(options, small_tokenizer)
    run_single(dataset, folder / "base", 4, model="llama")
    sets = {**DPO, "model.model_config.seq_length": 512, "load_checkpoint": folder / "base"}
    run_single(folder / "p.mindrecord", folder / "single", 4, model="llama", **layout(1, 1, 1), **sets)
    return folder, sets


@pytest.mark.cluster
@pytest.mark.parametrize(
    "mesh, options", [((2, 1, 1), {}), ((1, 2, 1), {}), ((2, 2, 1), {**ZERO, **SEQUENCE, **RECOMPUTE})]
)
def test_pairs_on_a_layout_follow_one_process(mesh, options, start, tmp_path):
    folder, sets = start
    run(folder / "p.mindrecord", tmp_path, mesh, model="llama", **sets, **options)
    assert_same_run(tmp_path, folder / "single")
