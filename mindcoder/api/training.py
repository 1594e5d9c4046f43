"""Training runs, and a forecast of what they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindcoder.api.arguments import byte_count, check_choice, check_positive, optional_path
from mindcoder.errors import UserError, shown, user_errors

if TYPE_CHECKING:
    from mindcoder.config.given import Config
    from mindcoder.planning.estimate import Estimate
    from mindcoder.train.callbacks.base import Callback
    from mindcoder.train.given_data import Data
    from mindcoder.train.job import Run


@user_errors()
def finetune(
    config: Config,
    data: Data | None = None,
    *,
    eval_data: Data | None = None,
    model: str | Path | None = None,
    tokenizer: str | Path | None = None,
    output_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    allow_changes: Iterable[str] = (),
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
) -> Run:
    """Fine-tune a model; the verb finetune.

    Args:
        config: YAML file, or its keys as a dictionary (`mindcoder.config.given.read_configuration`); or what that
            function has read, without more keys.
        data: MindRecord, JSON or JSONL, a list of such files, a registered name, or the records themselves as a list
            of dictionaries; by default ``train_dataset`` of ``config``.
        eval_data: the same for evaluation.
        model: weights to start from, all that `load` reads; by default ``load_checkpoint`` of ``config``, else random.
        tokenizer: vocabulary file or folder; by default that of ``config``, else the one beside ``model``.
        output_dir: everything that the run writes; by default that of ``config``.
        overrides: key path -> value, such as ``{"runner_config.epochs": 3}``.
        resume: continue from the latest intact checkpoint of ``output_dir``.
        overwrite: start over, replacing the checkpoints of ``output_dir``.
        allow_changes: of data, seed, lr, optimizer, model and objective, those that may differ from the run before.
        callbacks: `mindcoder.train.callbacks.base.Callback`; told of every update, evaluation and checkpoint.
        verbose: log keys of ``config`` without effect one by one.

    Returns:
        A `mindcoder.Run` with ``losses``, ``checkpoint`` and ``evaluate()``. In the main thread SIGINT and SIGTERM end
        the run after the current update, with a checkpoint.

    Raises:
        UserError: config, data, weights, tokenizer or output folder do not fit.
    """
    given = {"data": data, "eval_data": eval_data, "model": model, "tokenizer": tokenizer, "output_dir": output_dir}
    return _train("finetune", config, given, overrides, (resume, overwrite, allow_changes), callbacks, verbose)


@user_errors()
def pretrain(
    config: Config,
    data: Data | None = None,
    *,
    eval_data: Data | None = None,
    model: str | Path | None = None,
    tokenizer: str | Path | None = None,
    output_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    allow_changes: Iterable[str] = (),
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
) -> Run:
    """Pretrain a model; the verb train. Arguments and result are those of `finetune`."""
    given = {"data": data, "eval_data": eval_data, "model": model, "tokenizer": tokenizer, "output_dir": output_dir}
    return _train("train", config, given, overrides, (resume, overwrite, allow_changes), callbacks, verbose)


def _train(
    mode: str,
    config: Config,
    given: Mapping[str, Any],
    overrides: Mapping[str, Any] | None,
    continuing: tuple[bool, bool, Iterable[str]],
    callbacks: Sequence[Callback],
    verbose: bool,
) -> Run:
    from mindcoder.config.given import Configuration, read_configuration
    from mindcoder.train.given_data import argument_keys
    from mindcoder.train.job import run_training
    from mindcoder.train.refused import refusals_leave_nothing
    from mindcoder.train.request import CHANGE_GROUPS, TrainRequest

    resume, overwrite, allow_changes = continuing
    if not isinstance(allow_changes, Iterable):
        raise UserError(f"allow_changes: expected names of {', '.join(CHANGE_GROUPS)}, found {shown(allow_changes)}")
    changes = frozenset([allow_changes] if isinstance(allow_changes, str) else allow_changes)
    for name in changes:
        check_choice("allow_changes", name, CHANGE_GROUPS)

    for name in ("model", "tokenizer", "output_dir"):
        optional_path(name, given[name])

    with ExitStack() as stack:

        def data_folder() -> Path:
            output = Path(given["output_dir"] or read_configuration(config, overrides).run.output_dir)
            stack.enter_context(refusals_leave_nothing(output))
            return output / "data"

        keys = argument_keys(given, data_folder)
        if not isinstance(config, Configuration):
            keys["run_mode"] = "run_mode", mode
        configuration = read_configuration(config, overrides, keys)
        return run_training(configuration, mode, TrainRequest(resume, overwrite, changes), callbacks, verbose)


@user_errors()
def plan(
    config: Config,
    *,
    overrides: Mapping[str, Any] | None = None,
    devices: int | None = None,
    memory: float | str = "64GB",
    tflops: float = 150.0,
    bandwidth: float | str = "84GB",
    bandwidth_between: float | str = "25GB",
    devices_per_server: int = 8,
) -> Estimate:
    """Estimate memory, communication and time of a layout, and find those that fit; the verb plan. Starts nothing.

    Args:
        config: YAML file, or its keys as a dictionary.
        overrides: key path -> value, such as ``{"parallel_config.model_parallel": 8}``.
        devices: number of devices to look for layouts of; by default those of ``parallel_config``.
        memory: of a device, in bytes or as in ``"64GB"``.
        tflops: 10^12 floating point operations per second that a device achieves in the products of a training step.
        bandwidth, bandwidth_between: bytes per second that a device sends to others in its server, to other servers.
        devices_per_server: number of devices in a server.

    Returns:
        A `mindcoder.planning.estimate.Estimate` with ``fits``, ``plan`` and ``layouts``; ``print`` shows the table.

    Raises:
        UserError: the configuration is not valid or its layout does not divide the model.
    """
    if devices is not None:
        check_positive("devices", devices)
    check_positive("devices_per_server", devices_per_server)
    if isinstance(tflops, bool) or not isinstance(tflops, int | float) or not 0 < tflops < 1e9:
        raise UserError(f"tflops: expected a number above 0, found {shown(tflops)}")
    sizes = {"memory": memory, "bandwidth": bandwidth, "bandwidth_between": bandwidth_between}
    from mindcoder.config.given import read_configuration
    from mindcoder.planning.estimate import estimate

    return estimate(
        read_configuration(config, overrides),
        devices,
        flops=tflops * 1e12,
        per_server=devices_per_server,
        **{name: byte_count(name, value) for name, value in sizes.items()},
    )
