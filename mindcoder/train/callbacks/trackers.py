"""Weights & Biases and SwanLab, if requested and installed; offline unless configured otherwise."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mindcoder.errors import UserError
from mindcoder.train.callbacks.base import EVAL_SCALARS, STEP_SCALARS, Callback, StepRecord
from mindcoder.train.evaluate import EvalResult

TRACKERS = {"WandbMonitor": "wandb", "SwanLabMonitor": "swanlab"}  # callback type in the YAML file -> package


def tracker(kind: str, project: str, online: bool, output: Path, config: Mapping[str, Any]) -> Callback:
    """The callback of a `TRACKERS` type.

    Raises:
        UserError: its package is not installed.
    """
    name = TRACKERS[kind]
    try:
        module = importlib.import_module(name)
    except ImportError:
        raise UserError(f"callbacks: {kind} needs a package that is not installed: pip install {name}") from None
    return ExperimentTracker(module, project, online, output, config)


class ExperimentTracker(Callback):
    """Logs every update and evaluation to a package with ``init``, ``log`` and ``finish``.

    Args:
        module: wandb or swanlab.
        project: project name.
        online: send to its server; otherwise files stay in ``output``.
        output: output folder of the run; its name is the run's name.
        config: settings to log with the run.
    """

    def __init__(self, module: ModuleType, project: str, online: bool, output: Path, config: Mapping[str, Any]) -> None:
        self._module, self._project, self._online = module, project, online
        self._output, self._config = output, dict(config)

    def on_start(self, step: int, total_steps: int) -> None:
        name, folder = self._output.resolve().name, str(self._output)
        if self._module.__name__ == "wandb":
            mode = "online" if self._online else "offline"
            self._module.init(project=self._project, name=name, dir=folder, config=self._config, mode=mode)
            return
        folder = str(self._output / "swanlab")
        Path(folder).mkdir(parents=True, exist_ok=True)
        mode = "cloud" if self._online else "local"
        self._module.init(project=self._project, experiment_name=name, logdir=folder, config=self._config, mode=mode)

    def on_step(self, record: StepRecord) -> None:
        values = {f"train/{name}": getattr(record, name) for name in STEP_SCALARS}
        self._module.log(values, step=record.step)

    def on_eval(self, step: int, result: EvalResult) -> None:
        self._module.log({f"eval/{name}": getattr(result, name) for name in EVAL_SCALARS}, step=step)

    def on_end(self) -> None:
        self._module.finish()
