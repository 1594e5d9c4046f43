"""plan: memory, communication and time of a layout, without starting anything."""

from __future__ import annotations

import argparse
import os
import re

from mindcoder.cli.arguments import number, positive, quantity
from mindcoder.cli.weight_verbs import byte_size
from mindcoder.config.layout import check_layout
from mindcoder.config.load import load_config
from mindcoder.config.schema import RunConfig
from mindcoder.config.source import YamlSource
from mindcoder.errors import UserError
from mindcoder.models.from_section import config_from_section
from mindcoder.planning.from_section import layout_of, workload_of
from mindcoder.planning.layout import Machine
from mindcoder.planning.plan import Plan, fitting_layouts, make_plan

SHOWN_LAYOUTS = 8
ATLAS = Machine()
MAX_DEVICES = 65536
MEBIBYTE, GIBIBYTE = 2**20, 2**30


def add_plan_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of plan."""
    parser.add_argument("--config", required=True, metavar="YAML", help="configuration file")
    parser.add_argument("--devices", type=positive, metavar="N", help="default: those of parallel_config")
    parser.add_argument("--memory", type=byte_size, default="64GB", metavar="SIZE", help="memory of a device")
    parser.add_argument(
        "--tflops",
        type=number(0, above=True),
        default=ATLAS.flops / 1e12,
        metavar="X",
        help="TFLOP/s that a device achieves in the matrix products of a training step",
    )
    parser.add_argument(
        "--bandwidth",
        type=byte_size,
        default="84GB",
        metavar="SIZE",
        help="bytes/s that a device sends to others in its server",
    )
    parser.add_argument(
        "--bandwidth_between",
        type=byte_size,
        default="25GB",
        metavar="SIZE",
        help="bytes/s that a device sends to other servers",
    )
    parser.add_argument(
        "--devices_per_server", type=positive, default=ATLAS.per_server, metavar="N", help="devices per server"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of the YAML file")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def plan_verb(arguments: argparse.Namespace) -> int:
    """Print the plan of the configured layout, then the layouts that fit."""
    config, source = load_config(arguments.config, arguments.set)
    network, layout = config_from_section(config.model.settings), layout_of(config)
    check_layout(config, source, layout.devices)
    devices = arguments.devices or layout.devices
    if devices > MAX_DEVICES:
        raise UserError(f"--devices: found {devices}, expected at most {MAX_DEVICES}")
    work = workload_of(config, network)
    machine = Machine(
        arguments.memory,
        arguments.tflops * 1e12,
        arguments.bandwidth,
        arguments.bandwidth_between,
        arguments.devices_per_server,
        _communicator_buffer(),
        _tensor_pool(config, source),
    )
    try:
        plan = make_plan(network, layout, work, machine)
    except ValueError as error:
        place, line = source.place(("parallel_config", "optimizer_shard"))
        raise UserError(f"parallel_config.optimizer_shard: {error}", place, line) from None
    print(
        f"{network.model_type}, {quantity(network.num_parameters())} parameters, {layout}, {_devices(layout.devices)}"
    )
    print(
        f"one step: {_count(work.micro_batches, 'micro batch', 'es')} of {work.batch} x {work.length} tokens per data "
        f"rank, recompute {'on' if work.recompute else 'off'}"
    )
    _print_stages(plan)
    _print_verdict(plan, machine)
    global_batch = work.batch * work.micro_batches * layout.data
    _print_layouts(fitting_layouts(network, devices, global_batch, work, machine), devices, global_batch)
    return 0


def _print_stages(plan: Plan) -> None:
    """Print a line per pipeline stage."""
    print("stage  layers  parameters     weights   gradients   optimizer  activations       total  sent per step")
    for stage in plan.stages:
        memory = stage.memory
        print(
            f"{stage.stage:5}  {stage.layers:6}  {quantity(stage.parameters):>10}  {_bytes(memory.weights):>10}  "
            f"{_bytes(memory.gradients):>10}  {_bytes(memory.optimizer):>10}  {_bytes(memory.activations):>11}  "
            f"{_bytes(memory.total):>10}  {_bytes(stage.sent):>13}"
        )


def _print_verdict(plan: Plan, machine: Machine) -> None:
    """Print whether it fits, its speed, and the assumptions."""
    fits = "fits" if plan.fits(machine) else "does NOT fit"
    limit = _bytes(machine.memory)
    if machine.pool:
        limit += f" with context.max_device_memory {_bytes(machine.pool)}"
    buffers = f", {_bytes(plan.buffers)} of it HCCL buffers" if plan.buffers else ""
    print(f"{fits} in {limit}: {_bytes(plan.peak)} on the fullest rank{buffers}")
    print(
        f"about {_speed(plan)} at {machine.flops / 1e12:g} TFLOP/s, {machine.bandwidth / 1e9:g} GB/s within and "
        f"{machine.bandwidth_between / 1e9:g} GB/s between servers of {_devices(machine.per_server)}; messages are not "
        "overlapped with computation"
    )


def _print_layouts(found: list[Plan], devices: int, global_batch: int) -> None:
    """Print the fastest layouts that fit."""
    sequences = _count(global_batch, "sequence", "s")
    print(f"layouts of {_devices(devices)} that fit, {sequences} per step, fastest first:")
    for plan in found[:SHOWN_LAYOUTS]:
        print(f"  {plan.layout}: {_bytes(plan.peak)}, {_speed(plan)}")
    if not found:
        print("  none; more devices, recompute_config.recompute, or a smaller batch_size would help")


def _tensor_pool(config: RunConfig, source: YamlSource) -> float:
    """``context.max_device_memory`` in bytes; 0 if it is not configured."""
    text = config.context.max_device_memory
    if not text:
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*GB", text.strip(), re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        place, line = source.place(("context", "max_device_memory"))
        raise UserError(f"context.max_device_memory: found {text!r}, expected a size such as '58GB'", place, line)
    return float(match[1]) * GIBIBYTE


def _communicator_buffer() -> float:
    """Bytes of a communicator's send and receive buffers, as HCCL_BUFFSIZE (MiB) configures them."""
    text = os.environ.get("HCCL_BUFFSIZE", "")
    if not text:
        return ATLAS.communicator_buffer
    if not text.isdigit() or not 1 <= int(text) <= 10**6:
        raise UserError(f"HCCL_BUFFSIZE: found {text!r}, expected a whole number of MB of at least 1")
    return 2.0 * int(text) * MEBIBYTE


def _bytes(size: float) -> str:
    return f"{quantity(size, 'kMGT')}B"


def _speed(plan: Plan) -> str:
    """``2.54 s per step, 807 tokens/s per device``."""
    seconds, unit = plan.seconds, "s"
    for smaller in ("ms", "µs"):
        if seconds < 1:
            seconds, unit = seconds * 1e3, smaller
    rate = plan.tokens_per_second
    return f"{seconds:.3g} {unit} per step, {f'{rate:,.0f}' if rate >= 100 else f'{rate:.3g}'} tokens/s per device"


def _devices(number: int) -> str:
    return _count(number, "device", "s")


def _count(number: int, noun: str, plural: str) -> str:
    return f"{number} {noun}{plural if number != 1 else ''}"
