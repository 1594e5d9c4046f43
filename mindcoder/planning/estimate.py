"""The plan of a configuration, as the verb plan prints it and `mindcoder.plan` returns it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mindcoder.config.given import Configuration
from mindcoder.config.layout import check_layout, layout_of
from mindcoder.errors import UserError
from mindcoder.families.from_section import config_from_section
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.planning.from_section import workload_of
from mindcoder.planning.layout import Machine, Workload
from mindcoder.planning.plan import Plan, fitting_layouts, make_plan
from mindcoder.sizes import quantity

SHOWN_LAYOUTS = 8
MAX_DEVICES = 65536
MEBIBYTE, GIBIBYTE = 2**20, 2**30


@dataclass(frozen=True)
class Estimate:
    """Memory, communication and time of a configuration's layout; ``str`` of it is what the verb plan prints.

    Attributes:
        network: architecture.
        work: one step.
        machine: what a device can do.
        plan: of the configured layout; sizes in bytes, times in seconds.
        devices: that ``layouts`` divide.
        layouts: plans of all layouts of the devices that fit, fastest first.
    """

    network: TransformerConfig
    work: Workload
    machine: Machine
    plan: Plan
    devices: int
    layouts: tuple[Plan, ...]

    @property
    def fits(self) -> bool:
        """Whether the configured layout fits into the memory of a device."""
        return self.plan.fits(self.machine)

    @property
    def global_batch(self) -> int:
        """Sequences per step over all devices."""
        return self.work.batch * self.work.micro_batches * self.plan.layout.data

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """The configured layout stage by stage, whether it fits, and the layouts that do."""
        network, work, layout = self.network, self.work, self.plan.layout
        yield (
            f"{network.model_type}, {quantity(network.num_parameters())} parameters, {layout}, "
            f"{_devices(layout.devices)}"
        )
        yield (
            f"one step: {_count(work.micro_batches, 'micro batch', 'es')} of {work.batch} x {work.length} tokens per "
            f"data rank, recompute {'on' if work.recompute else 'off'}"
        )
        yield from self._stages()
        yield from self._verdict()
        yield from self._layouts()

    def _stages(self) -> Iterator[str]:
        """A line per pipeline stage."""
        yield "stage  layers  parameters     weights   gradients   optimizer  activations       total  sent per step"
        for stage in self.plan.stages:
            memory = stage.memory
            yield (
                f"{stage.stage:5}  {stage.layers:6}  {quantity(stage.parameters):>10}  {_bytes(memory.weights):>10}  "
                f"{_bytes(memory.gradients):>10}  {_bytes(memory.optimizer):>10}  {_bytes(memory.activations):>11}  "
                f"{_bytes(memory.total):>10}  {_bytes(stage.sent):>13}"
            )

    def _verdict(self) -> Iterator[str]:
        """Whether it fits, its speed, and the assumptions."""
        plan, machine = self.plan, self.machine
        limit = _bytes(machine.memory)
        if machine.pool:
            limit += f" with context.max_device_memory {_bytes(machine.pool)}"
        buffers = f", {_bytes(plan.buffers)} of it HCCL buffers" if plan.buffers else ""
        yield (
            f"{'fits' if self.fits else 'does NOT fit'} in {limit}: {_bytes(plan.peak)} on the fullest rank{buffers}"
        )
        yield (
            f"about {_speed(plan)} at {machine.flops / 1e12:g} TFLOP/s, {machine.bandwidth / 1e9:g} GB/s within and "
            f"{machine.bandwidth_between / 1e9:g} GB/s between servers of {_devices(machine.per_server)}; messages are "
            "not overlapped with computation"
        )

    def _layouts(self) -> Iterator[str]:
        """The fastest layouts that fit."""
        sequences = _count(self.global_batch, "sequence", "s")
        yield f"layouts of {_devices(self.devices)} that fit, {sequences} per step, fastest first:"
        for plan in self.layouts[:SHOWN_LAYOUTS]:
            yield f"  {plan.layout}: {_bytes(plan.peak)}, {_speed(plan)}"
        if not self.layouts:
            yield "  none; more devices, recompute_config.recompute, or a smaller batch_size would help"


def estimate(
    configuration: Configuration,
    devices: int | None = None,
    memory: float = Machine.memory,
    flops: float = Machine.flops,
    bandwidth: float = Machine.bandwidth,
    bandwidth_between: float = Machine.bandwidth_between,
    per_server: int = Machine.per_server,
) -> Estimate:
    """Plan the configured layout, and all layouts of ``devices``. Nothing is started.

    Args:
        devices: by default those of ``parallel_config``.
        memory, flops, bandwidth, bandwidth_between, per_server: see `mindcoder.planning.layout.Machine`.

    Raises:
        UserError: the layout does not divide the model, or there are too many devices.
    """
    config, source = configuration.run, configuration.source
    network, layout = config_from_section(config.model.settings), layout_of(config)
    check_layout(config, source, layout.devices)
    devices = devices or layout.devices
    if devices > MAX_DEVICES:
        raise UserError(f"--devices: found {devices}, expected at most {MAX_DEVICES}")
    work = workload_of(config, network)
    machine = Machine(
        memory,
        flops,
        bandwidth,
        bandwidth_between,
        per_server,
        _communicator_buffer(),
        _tensor_pool(configuration),
    )
    try:
        plan = make_plan(network, layout, work, machine)
    except ValueError as error:
        file, line = source.location(("parallel_config", "optimizer_shard"))
        raise UserError(f"parallel_config.optimizer_shard: {error}", file, line) from None
    global_batch = work.batch * work.micro_batches * layout.data
    found = fitting_layouts(network, devices, global_batch, work, machine, {1, layout.context})
    return Estimate(network, work, machine, plan, devices, tuple(found))


def _tensor_pool(configuration: Configuration) -> float:
    """``context.max_device_memory`` in bytes; 0 if it is not configured."""
    text = configuration.run.context.max_device_memory
    if not text:
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*GB", text.strip(), re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        file, line = configuration.source.location(("context", "max_device_memory"))
        raise UserError(f"context.max_device_memory: found {text!r}, expected a size such as '58GB'", file, line)
    return float(match[1]) * GIBIBYTE


def _communicator_buffer() -> float:
    """Bytes of a communicator's send and receive buffers, as HCCL_BUFFSIZE (MiB) configures them."""
    text = os.environ.get("HCCL_BUFFSIZE", "")
    if not text:
        return Machine.communicator_buffer
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
