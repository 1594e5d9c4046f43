"""The plan's counts against the tensors that a run really holds."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import mindspore as ms
import pytest
from command import mindcoder
from conftest import REPOSITORY

from mindcoder.cli.main import main
from mindcoder.config.layout import check_layout, layout_of
from mindcoder.config.load import load_config
from mindcoder.config.shipped import is_part, shipped
from mindcoder.families.from_section import config_from_section
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.mesh import Mesh
from mindcoder.parallel.process_groups import ProcessGroups
from mindcoder.parallel.tensor_parallel import TensorParallel
from mindcoder.parallel.zero1 import owners
from mindcoder.parallel_layout import ParallelLayout
from mindcoder.peft.from_section import lora_options
from mindcoder.peft.options import adapter_shapes
from mindcoder.planning.activations import mask_bytes
from mindcoder.planning.layout import Machine, Workload, num_communicators, num_items, stage_shapes
from mindcoder.planning.plan import fitting_layouts, make_plan
from mindcoder.planning.step_time import stage_flops
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import TrainStep

MACHINE = Machine()
ORIGINAL_FILE = REPOSITORY / "research" / "wizardcoder" / "run_wizardcoder.yaml"


def tiny(model: str):
    config, _ = load_config(REPOSITORY / "configs" / model / "tiny_finetune.yaml")
    return config_from_section(config.model.settings)


def size_of(parameters) -> int:
    return sum(math.prod(item.shape) * item.itemsize for item in parameters)


@pytest.mark.parametrize("model", ["wizardcoder", "starcoder2", "llama"])
@pytest.mark.parametrize("tensor", [1, 2])
def test_parameters_of_a_rank_are_those_of_its_network(model, tensor):
    config = tiny(model)
    tp = TensorParallel(ProcessGroups(Mesh(ParallelLayout(tensor=2)), {}, False), config) if tensor == 2 else None
    decoder = Decoder(config, tp=tp) if tp else Decoder(config)
    held = sum(math.prod(item.shape) for item in decoder.get_parameters())
    (shapes,) = stage_shapes(config, ParallelLayout(1, tensor, 1))
    assert num_items(shapes) == held


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_gradients_and_states_are_those_of_the_step(dtype):
    config = replace(tiny("llama"), param_dtype=dtype, compute_dtype=dtype)
    decoder = Decoder(config)
    optimizer = AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions())
    step = TrainStep(decoder, optimizer, accumulates=True)
    (stage,) = make_plan(config, ParallelLayout(1, 1, 1), Workload(2, 64, 4, False), MACHINE).stages
    memory = stage.memory
    assert memory.weights == size_of(decoder.get_parameters())
    assert memory.gradients == size_of(step.buffers)
    assert memory.optimizer == size_of(item for name, item in optimizer.state().items() if name != "adam_steps")


def test_divided_states_are_those_of_the_rank_with_most_tensors():
    config = tiny("llama")
    decoder = Decoder(config)
    shapes = [tuple(item.shape) for item in decoder.trainable_params()]
    owner = owners(shapes, 2)
    heaviest = max(sum(8 * math.prod(s) for s, rank in zip(shapes, owner) if rank == own) for own in range(2))
    layout = ParallelLayout(2, shard_optimizer=True)
    (stage,) = make_plan(config, layout, Workload(2, 64, 1, False), MACHINE).stages
    assert stage.memory.optimizer == heaviest > 8 * sum(map(math.prod, shapes)) / 2


def test_a_step_holds_one_set_of_gradients_buffers_or_sums():
    config = replace(tiny("llama"), param_dtype="float16", embedding_dtype="", compute_dtype="float16")
    count = config.num_parameters()

    def gradients(data, micro_batches):
        (stage,) = make_plan(config, ParallelLayout(data, 1, 1), Workload(2, 64, micro_batches, False), MACHINE).stages
        return stage.memory.gradients

    # A scalar in float32 leaves a tensor's 16 bits. Buffers are in float32; those times a rank's share are another set
    # (`mindcoder.parallel.data_parallel`).
    assert [gradients(1, 1), gradients(1, 4)] == [2 * count, 4 * count]
    assert [gradients(2, 1), gradients(2, 4)] == [2 * count, 8 * count]


def test_more_data_ranks_than_tensors_are_refused():
    network = tiny("llama")
    with pytest.raises(ValueError, match="cannot be divided over"):
        make_plan(network, ParallelLayout(512, 1, 1, shard_optimizer=True), Workload(1, 64, 1, False), MACHINE)
    found = fitting_layouts(network, 64, 64, Workload(1, 64, 1, False), MACHINE)
    tensors = len(network.parameter_shapes())
    assert found and all(plan.layout.data <= tensors < 64 for plan in found)


def test_stages_together_hold_the_whole_model():
    config, _ = load_config(ORIGINAL_FILE)
    network = config_from_section(config.model.settings)
    table = network.vocab_size * network.hidden_size
    layout = ParallelLayout(1, 1, 5)
    assert layout.layer_counts(network.num_layers) == [8] * 5
    held = sum(map(num_items, stage_shapes(network, layout)))
    assert held == network.num_parameters() + table  # the tied head is on both ends


def test_the_original_layout_fits_eight_cards_of_64_gb():
    done = mindcoder("plan", "--config", ORIGINAL_FILE)
    assert done.returncode == 0, done.stderr
    assert "fits in 64 GB" in done.stdout
    assert "data 1 x tensor 4 x pipeline 2: " in done.stdout


def run_plan(capsys, *flags):
    code = main(["plan", "--config", *map(str, flags)])
    return code, capsys.readouterr()


def test_a_layout_that_does_not_fit_is_said(capsys):
    code, tight = run_plan(capsys, ORIGINAL_FILE, "--memory", "30GB")
    assert code == 0 and "does NOT fit in 30 GB" in tight.out and "none; more devices" in tight.out
    pool = run_plan(capsys, ORIGINAL_FILE, "--set", "context.max_device_memory=40GB")[1].out
    assert "does NOT fit in 64 GB with context.max_device_memory 42.9 GB" in pool  # MindSpore's GB are 2^30 bytes


def test_buffers_of_communicators_count(capsys, monkeypatch):
    config, _ = load_config(ORIGINAL_FILE)
    network = config_from_section(config.model.settings)
    layout = ParallelLayout(1, 4, 2)
    assert num_communicators(layout, tied_head=True) == 4  # world twice (init's and ours), tensor, pipeline
    assert num_communicators(ParallelLayout(2, 2, 2), tied_head=True) == 5
    assert num_communicators(ParallelLayout(1, 1, 1), tied_head=True) == 0
    work = Workload(1, 2048, 8, True)
    with_buffers, without = (make_plan(network, layout, work, Machine(communicator_buffer=size)) for size in (5e8, 0))
    assert with_buffers.peak - without.peak == 4 * 5e8
    monkeypatch.setenv("HCCL_BUFFSIZE", "100")
    assert f"{4 * 2 * 100 * 2**20 / 1e6:.0f} MB of it HCCL buffers" in run_plan(capsys, ORIGINAL_FILE)[1].out
    monkeypatch.setenv("HCCL_BUFFSIZE", "much")
    code, said = run_plan(capsys, ORIGINAL_FILE)
    assert code == 2 and "HCCL_BUFFSIZE: found 'much'" in said.err


def test_the_published_training_rate_of_the_original_layout_comes_out():
    """WizardCoder 15B on 8 cards: 798.7 tokens/s per card, in the table of the original MindFormers scripts."""
    config, _ = load_config(ORIGINAL_FILE)
    network = config_from_section(config.model.settings)
    layout = replace(layout_of(config), shard_optimizer=True, sequence=False, vocabulary=False)
    micro_batches = config.parallel_config.micro_batch_num
    work = Workload(config.runner_config.batch_size, config.model.settings.seq_length, micro_batches, True)
    plan = make_plan(network, layout, work, MACHINE)
    assert plan.tokens_per_second == pytest.approx(798.7, rel=0.05)


def test_a_pipeline_waits_for_its_longest_stage():
    """80 layers on 64 stages: one of two layers sets the pace."""
    config, _ = load_config(REPOSITORY / "configs/llama/llama2_70b_finetune.yaml")
    network = config_from_section(config.model.settings)
    work = Workload(1, 4096, 512, True)
    fast = Machine(bandwidth=1e18, bandwidth_between=1e18)
    uneven = make_plan(network, ParallelLayout(1, 1, 64), work, fast)
    stages = [stage_flops(network, uneven.layout, work, stage) / fast.flops for stage in range(64)]
    assert stages[0] == pytest.approx(2 * stages[62])
    assert uneven.seconds == pytest.approx(511 * stages[0] + sum(stages))
    assert uneven.seconds > 1.5 * make_plan(network, ParallelLayout(1, 1, 80), work, fast).seconds
    best = fitting_layouts(network, 64, 512, work, MACHINE)[0]
    assert best.layout.pipeline < 64


def test_groups_across_servers_are_slower():
    machine = Machine(bandwidth=80e9, bandwidth_between=20e9, per_server=8)
    assert machine.reach(devices=8, block=8) == machine.reach(devices=64, block=4) == 80e9
    assert machine.reach(devices=64, block=16) == machine.reach(devices=16, block=3) == 20e9
    config, _ = load_config(ORIGINAL_FILE)
    network, work = config_from_section(config.model.settings), Workload(1, 2048, 8, True)
    wide, narrow = (make_plan(network, ParallelLayout(1, size, 16 // size), work, machine) for size in (16, 8))
    assert wide.seconds > 2 * narrow.seconds  # a tensor group over two servers


def test_recomputing_an_adapters_step_costs_as_much_as_a_full_step():
    network, adapter = tiny("llama"), {"layers.0.attention.query.mindpet_delta_lora_a": (4, 128)}
    layout = ParallelLayout(1, 1, 1)
    full, lora, again = (
        stage_flops(network, layout, Workload(1, 64, 1, recompute, shapes), 0)
        for recompute, shapes in ((False, None), (False, adapter), (True, adapter))
    )
    head = 6 * network.vocab_size * network.hidden_size * 64
    assert full == network.flops_per_token(64) * 64
    assert lora == pytest.approx(full * 2 / 3) and again == pytest.approx(full - head / 3)


def test_tiny_models_have_digits(capsys):
    code, said = run_plan(capsys, REPOSITORY / "configs/wizardcoder/tiny_finetune.yaml")
    assert code == 0 and " 0.00" not in said.out and "0 tokens/s" not in said.out
    assert re.search(r"gpt_bigcode, \d+ k parameters", said.out) and re.search(r"\d µs per step", said.out)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--tflops", "nan"),
        ("--tflops", "-1"),
        ("--tflops", "inf"),
        ("--devices", "99999999"),
        ("--bandwidth", "0"),
        ("--memory", "much"),
    ],
)
def test_flags_out_of_bounds_are_one_line(capsys, flag, value):
    try:
        code, said = run_plan(capsys, REPOSITORY / "configs/wizardcoder/tiny_finetune.yaml", flag, value)
    except SystemExit as ended:
        code, said = ended.code, capsys.readouterr()
    assert code == 2 and flag in said.err and len(said.err.strip().splitlines()) == 1


def test_only_layouts_that_divide_the_model_are_proposed():
    network = tiny("llama")  # 4 heads on 2 key heads, 4 layers
    plans = fitting_layouts(network, 8, 16, Workload(1, 64, 1, False), MACHINE)
    assert plans and {plan.layout.tensor for plan in plans} <= {1, 2}
    assert {plan.layout.pipeline for plan in plans} <= {1, 2, 4}
    assert [plan.seconds for plan in plans] == sorted(plan.seconds for plan in plans)


def test_a_layout_that_cannot_be_is_one_line():
    sets = ["--set", "parallel_config.pipeline_stage=2", "--set", "model.model_config.offset=[1,2]"]
    done = mindcoder("plan", "--config", "configs/wizardcoder/tiny_finetune.yaml", *sets)
    assert done.returncode == 2 and "[1, 2] makes 3+4 layers of 4" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", [name for name in shipped() if not is_part(name)])
def test_every_shipped_recipe_has_a_layout_that_fits_64_gb(name):
    config, source = load_config(name)
    layout = replace(layout_of(config), sequence=False, vocabulary=False)
    check_layout(config, source, layout.devices)
    recompute = bool(config.recompute_config.recompute)
    work = Workload(config.runner_config.batch_size, config.model.settings.seq_length, 8, recompute)
    if config.run_mode != "predict":
        assert make_plan(config_from_section(config.model.settings), layout, work, MACHINE).peak < 64e9


def test_an_adapter_needs_gradients_and_states_for_itself_only():
    config, _ = load_config(REPOSITORY / "configs/wizardcoder/15b_lora.yaml")
    network, options = config_from_section(config.model.settings), lora_options(config)
    adapter = adapter_shapes(options, network)
    (stage,) = make_plan(network, ParallelLayout(1, 1, 1), Workload(1, 64, 1, False, adapter), MACHINE).stages
    (full,) = make_plan(network, ParallelLayout(1, 1, 1), Workload(1, 64, 1, False), MACHINE).stages
    trained = sum(math.prod(shape) for shape in adapter.values())
    assert trained == 40 * 16 * (2 * (6144 + 6144) + 2 * (6144 + 128) + 2 * (6144 + 24576))
    assert stage.memory.gradients == 4 * trained and stage.memory.optimizer == 8 * trained
    assert stage.memory.weights == full.memory.weights + 4 * trained
    cut = make_plan(network, ParallelLayout(1, 4, 2), Workload(1, 64, 8, False, adapter), MACHINE).stages
    assert sum(item.memory.optimizer for item in cut) < 8 * trained * 0.6  # one rank of each stage; one end is whole


def test_the_mask_of_a_prefix_grows_with_the_square_of_the_length():
    network, layout = replace(tiny("llama"), attention_dropout=0.0), ParallelLayout(1, 1, 1)
    plain, prefixed = (Workload(2, 32768, 1, False, None, prefix) for prefix in (0, 128))
    assert mask_bytes(network, layout, plain) == 2048**2
    assert mask_bytes(network, layout, prefixed) == 2 * 32768 * (128 + 32768)


def test_context_ranks_divide_activations_and_send_keys():
    """Four ranks a row against one: a quarter of the tokens each, the keys and values of all, the same weights."""
    network, work = replace(tiny("llama"), attention_dropout=0.0), Workload(2, 4096, 1, False)
    one, four = (make_plan(network, ParallelLayout(context=size), work, MACHINE) for size in (1, 4))
    assert four.tokens == one.tokens and four.stages[0].parameters == one.stages[0].parameters
    (alone,), (divided,) = one.stages, four.stages
    assert divided.memory.weights == alone.memory.weights
    assert alone.memory.activations / 4 < divided.memory.activations < alone.memory.activations / 2
    keys = work.tokens * 2 * network.kv_size * 4  # bytes of a layer
    gradients = 2 * 3 / 4 * one.stages[0].parameters * 4
    assert divided.sent == pytest.approx(network.num_layers * 2 * keys * 3 / 4 + gradients)
    assert num_communicators(ParallelLayout(context=4), False) == 2
    assert str(four.layout) == "data 1 x tensor 1 x pipeline 1 x context 4"
    sizes = {plan.layout.context for plan in fitting_layouts(network, 4, 2, replace(work, batch=1), MACHINE, {1, 4})}
    assert sizes == {1, 4}
