"""Describes a run beside its output: configuration and environment."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mindcoder.config.schema import RunConfig
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.files import write_text

DESCRIPTION_FILE = "run.json"
PACKAGES = ("mindcoder", "mindspore", "mindformers", "mindpet", "numpy", "tokenizers", "safetensors")


def environment() -> dict[str, Any]:
    """Versions and machine."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} processors",
        "system": platform.platform(),
        "host": platform.node(),
    }


def write_run_description(config: RunConfig, network: TransformerConfig, output: Path) -> None:
    """Write ``run.json``: command, device in use, configuration with all defaults, size and FLOPs, environment."""
    import mindspore as ms

    values = {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": sys.argv,
        "device": ms.get_context("device_target"),
        "config": config.model_dump(exclude_none=True),
        "parameters": network.num_parameters(),
        "flops_per_token": network.flops_per_token(config.model.settings.seq_length),
        "environment": environment(),
    }
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / DESCRIPTION_FILE, json.dumps(values, indent=2, default=str) + "\n")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
