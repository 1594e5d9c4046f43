"""The plan's counts against the tensors that a run really holds."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import mindspore as ms
import pytest
from conftest import REPOSITORY

from mindcoder.config.layout import check_layout
from mindcoder.config.load import load_config
from mindcoder.models.decoder import Decoder
from mindcoder.models.from_section import config_from_section
from mindcoder.parallel.collectives import Collectives
from mindcoder.parallel.mesh import Mesh
from mindcoder.parallel.optimizer_shard import owners
from mindcoder.parallel.plan import Layout, Machine, Workload, fitting_layouts, make_plan, stage_parameters
from mindcoder.parallel.tensor_parallel import SlicedLayers
from mindcoder.peft.from_section import lora_options
from mindcoder.peft.options import adapter_shapes
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import TrainStep

MACHINE = Machine(64e9, 120e12, 25e9)
SEED_FILE = REPOSITORY / "research" / "wizardcoder" / "run_wizardcoder.yaml"


def tiny(model: str):
    config, _ = load_config(REPOSITORY / "configs" / model / "tiny_finetune.yaml")
    return config_from_section(config.model.settings)


def size_of(parameters) -> int:
    return sum(math.prod(item.shape) * item.itemsize for item in parameters)


@pytest.mark.parametrize("model", ["wizardcoder", "starcoder2", "llama"])
@pytest.mark.parametrize("tensor", [1, 2])
def test_parameters_of_a_rank_are_those_of_its_network(model, tensor):
    config = tiny(model)
    slices = SlicedLayers(Collectives(Mesh(tensor=2), {}, False), config) if tensor == 2 else None
    decoder = Decoder(config, slices=slices) if slices else Decoder(config)
    held = sum(math.prod(item.shape) for item in decoder.get_parameters())
    ((layers, planned),) = stage_parameters(config, Layout(1, tensor, 1, False))
    assert (layers, planned) == (4, held)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_gradients_and_states_are_those_of_the_step(dtype):
    config = replace(tiny("llama"), param_dtype=dtype, compute_dtype=dtype)
    decoder = Decoder(config)
    optimizer = AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions())
    step = TrainStep(decoder, optimizer, accumulates=True)
    (stage,) = make_plan(config, Layout(1, 1, 1, False), Workload(2, 64, 4, False), MACHINE).stages
    assert stage.weights == size_of(decoder.get_parameters())
    assert stage.gradients - stage.weights == size_of(step.buffers)
    assert stage.optimizer == size_of(item for name, item in optimizer.state().items() if name != "adam_steps")


def test_divided_states_are_close_to_an_even_share():
    config = tiny("llama")
    decoder = Decoder(config)
    shapes = [tuple(item.shape) for item in decoder.trainable_params()]
    owner = owners(shapes, 2)
    heaviest = max(sum(8 * math.prod(s) for s, rank in zip(shapes, owner) if rank == own) for own in range(2))
    (stage,) = make_plan(config, Layout(2, 1, 1, True), Workload(2, 64, 1, False), MACHINE).stages
    assert stage.optimizer == pytest.approx(heaviest, rel=0.15)


def test_stages_together_hold_the_whole_model():
    config, _ = load_config(SEED_FILE)
    network = config_from_section(config.model.settings)
    table = network.vocab_size * network.hidden_size
    stages = stage_parameters(network, Layout(1, 1, 5, False))
    assert [layers for layers, _ in stages] == [8] * 5
    assert sum(count for _, count in stages) == network.num_parameters() + table  # the tied head stands twice


def test_the_seeds_layout_fits_eight_cards_of_64_gb():
    command = [sys.executable, "-m", "mindcoder.cli.main", "plan", "--config", str(SEED_FILE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fits in 64 GB" in done.stdout and "data 1 x tensor 4 x pipeline 2: " in done.stdout
    tight = subprocess.run([*command, "--memory", "40GB"], capture_output=True, text=True)
    assert "does NOT fit in 40 GB" in tight.stdout and "none; more devices" in tight.stdout


def test_only_layouts_that_divide_the_model_are_proposed():
    network = tiny("llama")  # 4 heads on 2 key heads, 4 layers
    plans = fitting_layouts(network, 8, 16, Workload(1, 64, 1, False), MACHINE)
    assert plans and {plan.layout.tensor for plan in plans} <= {1, 2}
    assert {plan.layout.pipeline for plan in plans} <= {1, 2, 4}
    assert [plan.seconds for plan in plans] == sorted(plan.seconds for plan in plans)


def test_a_layout_that_cannot_be_is_one_line():
    sets = ["--set", "parallel_config.pipeline_stage=2", "--set", "model.model_config.offset=[1,2]"]
    command = [sys.executable, "-m", "mindcoder.cli.main", "plan", "--config", "configs/wizardcoder/tiny_finetune.yaml"]
    done = subprocess.run([*command, *sets], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2 and "[1, 2] makes 3+4 layers of 4" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("file", sorted((REPOSITORY / "configs").glob("*/*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_file_has_a_layout_that_fits_64_gb(file):
    config, source = load_config(file)
    mesh = config.parallel_config
    layout = Layout(mesh.data_parallel, mesh.model_parallel, mesh.pipeline_stage, bool(mesh.optimizer_shard))
    check_layout(config, source, layout.devices)
    recompute = bool(config.recompute_config.recompute)
    work = Workload(config.runner_config.batch_size, config.model.settings.seq_length, 8, recompute)
    if config.run_mode != "predict":
        assert make_plan(config_from_section(config.model.settings), layout, work, MACHINE).peak < 64e9


def test_an_adapter_needs_gradients_and_states_for_itself_only():
    config, _ = load_config(REPOSITORY / "configs/wizardcoder/15b_lora.yaml")
    network, options = config_from_section(config.model.settings), lora_options(config)
    adapter = adapter_shapes(options, network)
    (stage,) = make_plan(network, Layout(1, 1, 1, False), Workload(1, 64, 1, False, adapter), MACHINE).stages
    (full,) = make_plan(network, Layout(1, 1, 1, False), Workload(1, 64, 1, False), MACHINE).stages
    trained = sum(math.prod(shape) for shape in adapter.values())
    assert trained == 40 * 16 * (2 * (6144 + 6144) + 2 * (6144 + 128) + 2 * (6144 + 24576))
    assert stage.gradients == 4 * trained and stage.optimizer == 8 * trained
    assert stage.weights == full.weights + 4 * trained
    cut = make_plan(network, Layout(1, 4, 2, False), Workload(1, 64, 8, False, adapter), MACHINE).stages
    assert sum(item.optimizer for item in cut) < 8 * trained * 0.6  # one rank of each stage; one end is whole
