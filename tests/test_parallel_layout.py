"""Sizes of all kinds of parallelism: stated in the YAML file, held by one class."""

from __future__ import annotations

import pytest
from conftest import REPOSITORY

from mindcoder.config.layout import active_layout, layout_of
from mindcoder.config.load import load_config
from mindcoder.models.stage import stage_of
from mindcoder.parallel_layout import ParallelLayout, spread_layers


def test_layers_spread_evenly_or_by_a_list():
    assert spread_layers(40, 2) == [20, 20] and spread_layers(10, 4) == [3, 3, 2, 2]
    assert spread_layers(10, 4, [0, 1, 1, 0]) == [2, 3, 3, 2]
    stage = stage_of([3, 3, 2, 2], 2)
    assert list(stage.layers) == [6, 7] and not stage.is_first and not stage.is_last
    with pytest.raises(ValueError, match="3 numbers for 2 pipeline stages"):
        spread_layers(10, 2, [0, 0, 0])


def test_a_layout_counts_ranks_and_layers():
    layout = ParallelLayout(data=2, tensor=4, pipeline=3, shard_optimizer=True, vocabulary=True, offsets=(1, 0, -1))
    assert (layout.devices, layout.devices_per_replica) == (24, 12)
    assert layout.layer_counts(9) == [4, 3, 2]
    assert str(layout) == "data 2 x tensor 4 x pipeline 3, optimizer, vocabulary divided"
    assert str(ParallelLayout(shard_optimizer=True, sequence=True)) == "data 1 x tensor 1 x pipeline 1"
    with pytest.raises(ValueError, match="data 1 x tensor 0 x pipeline 1: every size must be at least 1"):
        ParallelLayout(tensor=0)


def test_the_section_of_a_file_becomes_a_layout():
    sizes = ["parallel_config.data_parallel=2", "parallel_config.model_parallel=4", "parallel_config.pipeline_stage=2"]
    more = ["parallel_config.vocab_emb_dp=False", "model.model_config.offset=[1,-1]", "use_parallel=False"]
    config, _ = load_config(REPOSITORY / "configs/wizardcoder/tiny_finetune.yaml", [*sizes, *more])
    layout = layout_of(config)
    assert (layout.data, layout.tensor, layout.pipeline) == (2, 4, 2)
    assert layout.vocabulary and layout.offsets == (1, -1)
    assert active_layout(config) == ParallelLayout()
