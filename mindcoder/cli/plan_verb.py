"""plan: memory, messages and time of a layout, without starting anything."""

from __future__ import annotations

import argparse

from mindcoder.cli.arguments import number, positive
from mindcoder.cli.weight_verbs import byte_size
from mindcoder.config.layout import check_layout
from mindcoder.config.load import load_config
from mindcoder.config.schema import RunConfig
from mindcoder.errors import UserError
from mindcoder.models.from_section import config_from_section
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.parallel.plan import Layout, Machine, Plan, Workload, fitting_layouts, make_plan
from mindcoder.peft.from_section import lora_options, prefix_options
from mindcoder.peft.options import adapter_shapes, prefix_shapes

SHOWN_LAYOUTS = 8


def add_plan_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of plan."""
    parser.add_argument("--config", required=True, metavar="YAML", help="configuration file")
    parser.add_argument("--devices", type=positive, metavar="N", help="default: those of parallel_config")
    parser.add_argument(
        "--memory", type=byte_size, default=64 * 10**9, metavar="SIZE", help="of a device; default 64GB"
    )
    parser.add_argument(
        "--tflops",
        type=number(0, above=True),
        default=120.0,
        metavar="X",
        help="TFLOP/s a device reaches in training; default 120",
    )
    parser.add_argument(
        "--bandwidth", type=byte_size, default=25 * 10**9, metavar="SIZE", help="bytes/s between devices; default 25GB"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of the YAML file")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def plan_verb(arguments: argparse.Namespace) -> int:
    """Print the plan of the file's layout, then the layouts that fit."""
    config, source = load_config(arguments.config, arguments.set)
    network, mesh, runner = config_from_section(config.model.settings), config.parallel_config, config.runner_config
    model = config.model.settings
    layout = Layout(
        mesh.data_parallel,
        mesh.model_parallel,
        mesh.pipeline_stage,
        bool(mesh.optimizer_shard),
        bool(mesh.use_seq_parallel or model.use_seq_parallel),
        mesh.vocab_emb_dp is False,
        tuple(model.offset) if isinstance(model.offset, list) and mesh.pipeline_stage > 1 else None,
    )
    check_layout(config, source, layout.devices)
    micro = (mesh.micro_batch_num or 1) if layout.pipeline > 1 else 1
    work = Workload(
        runner.batch_size,
        model.seq_length,
        micro * runner.gradient_accumulation_steps,
        bool(config.recompute_config.recompute),
        _adapter_shapes(config, network),
    )
    machine = Machine(arguments.memory, arguments.tflops * 1e12, arguments.bandwidth)
    plan = make_plan(network, layout, work, machine)
    print(
        f"{network.model_type}, {network.num_parameters() / 1e9:.2f} B parameters, {layout}, {layout.devices} devices"
    )
    print(
        f"a step: {work.micro_batches} micro batches of {work.batch} x {work.length} tokens a data rank, "
        f"recompute {'on' if work.recompute else 'off'}"
    )
    print("stage  layers  parameters  weights  gradients  optimizer  activations     total  sent a step")
    for stage in plan.stages:
        sizes = (stage.weights, stage.gradients, stage.optimizer, stage.activations, stage.total, stage.sent)
        weights, gradients, optimizer, activations, total, sent = (f"{size / 1e9:.2f} GB" for size in sizes)
        print(
            f"{stage.stage:5}  {stage.layers:6}  {stage.parameters / 1e9:8.2f} B  {weights:>7}  {gradients:>9}  "
            f"{optimizer:>9}  {activations:>11}  {total:>8}  {sent:>11}"
        )
    fits = "fits" if plan.peak <= machine.memory else "does NOT fit"
    print(f"{fits} in {machine.memory / 1e9:.0f} GB: {plan.peak / 1e9:.1f} GB on the fullest rank")
    print(f"about {plan.seconds:.3g} s a step {_assumptions(machine)}")
    devices = arguments.devices or layout.devices
    global_batch = work.batch * work.micro_batches * layout.data
    found = fitting_layouts(network, devices, global_batch, work, machine)
    print(f"layouts of {devices} devices that fit, {global_batch} sequences a step, fastest first:")
    for item in found[:SHOWN_LAYOUTS]:
        print(f"  {_line(item)}")
    if not found:
        print("  none; more devices, recompute_config.recompute, or a smaller batch_size would help")
    return 0


def _adapter_shapes(config: RunConfig, network: TransformerConfig) -> dict[str, tuple[int, ...]] | None:
    """Of LoRA's matrices or a prefix; None where all weights are trained."""
    options, prefix = lora_options(config), prefix_options(config)
    if prefix is not None:
        return prefix_shapes(prefix, network)
    try:
        return None if options is None else adapter_shapes(options, network)
    except ValueError as error:
        raise UserError(f"model.model_config.pet_config.target_modules: {error}") from None


def _assumptions(machine: Machine) -> str:
    return f"at {machine.flops / 1e12:.0f} TFLOP/s and {machine.bandwidth / 1e9:.0f} GB/s, messages not overlapped"


def _line(plan: Plan) -> str:
    return f"{plan.layout}: {plan.peak / 1e9:.1f} GB, {plan.seconds:.3g} s a step"
