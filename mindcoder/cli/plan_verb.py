"""plan: memory, communication and time of a layout, without starting anything."""

from __future__ import annotations

import argparse

from mindcoder.api import plan
from mindcoder.cli.arguments import number, positive
from mindcoder.cli.weight_verbs import byte_size
from mindcoder.config.given import Configuration
from mindcoder.config.load import load_config
from mindcoder.planning.layout import Machine


def add_plan_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of plan."""
    parser.add_argument(
        "--config", required=True, metavar="CONFIG", help="YAML file, or the name of a shipped configuration"
    )
    parser.add_argument("--devices", type=positive, metavar="N", help="default: those of parallel_config")
    parser.add_argument("--memory", type=byte_size, default="64GB", metavar="SIZE", help="memory of a device")
    parser.add_argument(
        "--tflops",
        type=number(0, above=True),
        default=Machine.flops / 1e12,
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
        "--devices_per_server", type=positive, default=Machine.per_server, metavar="N", help="devices per server"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of the YAML file")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def plan_verb(arguments: argparse.Namespace) -> int:
    """Print the plan of the configured layout, then the layouts that fit."""
    configuration = Configuration(*load_config(arguments.config, arguments.set))
    found = plan(
        configuration,
        devices=arguments.devices,
        memory=arguments.memory,
        tflops=arguments.tflops,
        bandwidth=arguments.bandwidth,
        bandwidth_between=arguments.bandwidth_between,
        devices_per_server=arguments.devices_per_server,
    )
    print(found)
    return 0
