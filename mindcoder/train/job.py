"""From a validated configuration to a run: what train, finetune, eval and predict do before the network is built."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindcoder.backend.device import check_device, interruptible, setup_device
from mindcoder.config.effects import notes_on_effects
from mindcoder.config.given import Configuration
from mindcoder.config.layout import check_layout
from mindcoder.config.registry import lookup
from mindcoder.config.schema import RunConfig
from mindcoder.config.source import YamlSource
from mindcoder.data.sources import files_of, resolve
from mindcoder.data.text_format import UNKNOWN, TextFormat
from mindcoder.errors import UserError
from mindcoder.folder_lock import folder_lock
from mindcoder.graph_lock import GRAPH_LOCK
from mindcoder.locations import path_of
from mindcoder.run_log import run_log
from mindcoder.temporary import clear_abandoned
from mindcoder.tokenizer import CodeTokenizer, load_tokenizer
from mindcoder.tokenizer.load import find_tokenizer
from mindcoder.train.given_data import Data, loader_keys
from mindcoder.train.objectives.registry import objective_entry
from mindcoder.train.refused import refusals_leave_nothing
from mindcoder.train.request import TrainRequest
from mindcoder.train.text_formats import as_trained, format_of_run, tell_of_models_template, with_own_template

if TYPE_CHECKING:
    from mindcoder.train.callbacks.base import Callback, StepRecord
    from mindcoder.train.evaluate import EvalResult

log = logging.getLogger(__name__)

TRAINING = ("train", "finetune")


@dataclass(frozen=True)
class Job:
    """A run of one process, validated as far as that goes without MindSpore.

    Attributes:
        mode: train, finetune, eval or predict.
        config: as given; with `started`, what the run takes.
        source: where each key was given.
        tokenizer: of the configuration, else the one beside ``load_checkpoint``; None if there is none.
        rank: of this process.
        text_format: how texts become token ids; known once it is `started`.
    """

    mode: str
    config: RunConfig
    source: YamlSource
    tokenizer: CodeTokenizer | None
    rank: int
    text_format: TextFormat = UNKNOWN

    @property
    def trains(self) -> bool:
        """Whether it updates weights."""
        return self.mode in TRAINING

    @property
    def output(self) -> Path:
        """Where the run writes."""
        return Path(self.config.output_dir)

    def interruptible(self) -> AbstractContextManager[None]:
        """Within, Ctrl-C ends the computation; the launcher stops the ranks of a cluster."""
        return nullcontext() if self.config.use_parallel else interruptible()


@dataclass(frozen=True)
class Run:
    """A training run that has ended.

    Attributes:
        configuration: of the run, as it was given.
        output_dir: everything that it wrote.
        checkpoint: the last one, which `mindcoder.load` takes; None if nothing was saved.
        losses: of this call's updates, mean over the labeled tokens of each, in nats.
        records: the same updates with learning rate, gradient norm, speed and memory.
        step: updates in all, those before a resume included.
        result: of the last evaluation during the run; None without one.
        exit_code: 0, or 128 + the signal that ended the run early.
        rank: of this process; other ranks than 0 have no records.
    """

    configuration: Configuration = field(repr=False)
    output_dir: Path
    checkpoint: Path | None
    losses: list[float] = field(repr=False)
    records: list[StepRecord] = field(repr=False)
    step: int
    updates: int
    result: EvalResult | None
    exit_code: int
    rank: int

    def evaluate(self, data: Data | None = None) -> EvalResult:
        """Loss, perplexity and token accuracy of the last checkpoint, as the verb eval computes them.

        Args:
            data: files or records, as `mindcoder.finetune` takes them; by default the run's ``eval_dataset``.

        Raises:
            UserError: no data or no checkpoint, or they do not fit.
        """
        if self.checkpoint is None:
            raise UserError("has no checkpoint to evaluate", self.output_dir)
        config = self.configuration.run.model_copy(update={"load_checkpoint": str(self.checkpoint)})
        if data is not None:
            section = config.eval_dataset
            keys = loader_keys("data", data, lambda: self.output_dir / "data")
            loader = section.data_loader.model_copy(update=keys)
            config = config.model_copy(update={"eval_dataset": section.model_copy(update={"data_loader": loader})})
        return run_evaluation(Configuration(config, self.configuration.source))


def run_training(
    configuration: Configuration,
    mode: str,
    request: TrainRequest = TrainRequest(),
    callbacks: Sequence[Callback] = (),
    shows_effects: bool = False,
) -> Run:
    """Train or fine-tune; the verbs train and finetune.

    Args:
        mode: train or finetune.
        request: whether to resume or to overwrite.
        callbacks: told of every update, evaluation and checkpoint, beside the run's own.
        shows_effects: whether keys without effect are logged one by one.

    Raises:
        UserError: data, weights, tokenizer or output folder do not fit.
    """
    job = checked(mode, configuration)
    if job.rank > 0:  # rank 0 locks the folder for all of them
        return _train(configuration, started(job, shows_effects), request, callbacks)
    with refusals_leave_nothing(job.output), folder_lock(job.output):
        _clear_up(job.output)
        with run_log(job.output / "log") as log_file:
            return _train(configuration, started(job, shows_effects, log_file), request, callbacks)


def run_evaluation(configuration: Configuration, shows_effects: bool = False) -> EvalResult:
    """Evaluate ``load_checkpoint`` on ``eval_dataset``; the verb eval.

    Raises:
        UserError: no checkpoint or dataset, or they do not fit.
    """
    job = started(checked("eval", configuration), shows_effects)
    from mindcoder.train.run import evaluate_run

    with GRAPH_LOCK, job.interruptible():
        return evaluate_run(job.config)


def checked(mode: str, configuration: Configuration) -> Job:
    """Validate everything that can be before MindSpore is imported and anything is written.

    Raises:
        UserError: see the message.
    """
    config, source = configuration.run, configuration.source
    rank = 0
    if config.use_parallel:
        check_layout(config, source, int(os.environ.get("RANK_SIZE", "1")))
        rank = int(os.environ.get("RANK_ID", "0"))
    if config.load_checkpoint:
        path_of(config.load_checkpoint)  # its tokenizer is looked up next
    tokenizer = configured_tokenizer(config, required=mode == "predict")
    if tokenizer is not None and tokenizer.vocab_size > config.model.settings.vocab_size:
        file, line = source.location(("model", "model_config", "vocab_size"))
        raise UserError(
            f"model.model_config.vocab_size: {config.model.settings.vocab_size} is smaller than the "
            f"tokenizer's {tokenizer.vocab_size}",
            file,
            line,
        )
    config = with_registered_data(config)
    _check_data(config, mode)
    check_device(config.context.device_target, *source.location(("context", "device_target")))
    return Job(mode, config, source, tokenizer, rank)


def started(job: Job, shows_effects: bool = False, log_file: Path | None = None, raw: bool = False) -> Job:
    """Prepare texts, agree on the text format and set the device up.

    Args:
        shows_effects: whether keys without effect are logged one by one.
        log_file: where they are found otherwise.
        raw: whether prompts are taken without a template.

    Raises:
        UserError: datasets, tokenizer and template do not match, or the device does not start.
    """
    config, tokenizer = job.config, job.tokenizer
    config = with_own_template(config, tokenizer) if job.trains else as_trained(config, tokenizer)
    asks = job.mode == "predict" and not raw
    learns = job.trains and job.rank == 0 and bool(config.load_checkpoint)
    if tokenizer is not None and (asks or learns):
        tell_of_models_template(config, tokenizer)
    config = with_prepared_texts(config, job.mode, tokenizer, job.rank == 0)
    text_format = format_of_run(config, job.mode, tokenizer)
    with GRAPH_LOCK:
        device = setup_device(
            config.context.device_target,
            int(os.environ.get("DEVICE_ID", "0")) if config.use_parallel else config.context.device_id,
            1 if config.context.mode in (1, "PYNATIVE_MODE") else 0,
            max_call_depth=config.context.max_call_depth,
        )
    if job.rank == 0:
        chosen = " (auto: no Ascend card)" if config.context.device_target == "auto" and device == "CPU" else ""
        log.info("device: %s%s", device, chosen)
    notes = notes_on_effects(config, job.source, device)
    shown = logging.INFO if shows_effects and not job.trains else logging.DEBUG
    for note in notes:
        log.log(shown, note)
    if notes and job.rank == 0 and shown == logging.DEBUG:
        log.info("keys without effect here: %d; see %s", len(notes), log_file or "--debug")
    return replace(job, config=config, text_format=text_format)


def with_registered_data(config: RunConfig) -> RunConfig:
    """A run's configuration with registry names replaced by their datasets.

    Raises:
        UserError: an unknown name, or data in one section that are read differently.
    """
    from mindcoder.train.datasets import reading_of

    changed = {}
    for name in ("train_dataset", "eval_dataset"):
        section = getattr(config, name)
        loader = section.data_loader
        if not loader.locations or all(lookup(item) is None for item in loader.locations):
            continue
        found = resolve(loader.locations, reading_of(loader, name))
        update = {
            "dataset_dir": "",
            "dataset_files": [file for pattern in found.patterns for file in files_of(pattern)],
            "columns": ",".join(f"{field}={column}" for field, column in found.reading.columns),
            "record_format": found.reading.layout,
        }
        changed[name] = section.model_copy(update={"data_loader": loader.model_copy(update=update)})
    return config.model_copy(update=changed) if changed else config


def with_prepared_texts(config: RunConfig, run_mode: str, tokenizer: CodeTokenizer | None, is_first: bool) -> RunConfig:
    """The configuration with JSON and JSONL datasets replaced by their tokenized files."""
    from mindcoder.data.prepared import TextOptions, is_text, prepare_texts
    from mindcoder.data.readers import Reading
    from mindcoder.train.datasets import infill_options, reading_of

    changed = {}
    for name in ("train_dataset", "eval_dataset"):
        section = getattr(config, name)
        locations = section.data_loader.locations
        used = name == "eval_dataset" or run_mode in ("train", "finetune")
        streams = section.data_loader.streaming and name == "train_dataset"
        if not used or run_mode == "predict" or streams:
            continue
        if section.data_loader.fim_rate > 0 and not all(map(is_text, locations)):
            raise UserError(
                f"{name}.data_loader.fim_rate: the rows of a MindRecord are laid out; give JSON or JSONL here, or "
                "fim_rate to preprocess"
            )
        reading = reading_of(section.data_loader, name)
        if reading != Reading() and not all(map(is_text, locations)):
            raise UserError(
                f"{name}.data_loader: columns, record_format and desirable_only say how JSON and JSONL are read; give "
                "them to preprocess"
            )
        if not any(map(is_text, locations)):
            continue
        pairs = objective_entry(config).takes_pairs and name == "train_dataset"
        infill = infill_options(section.data_loader, config.seed)
        template = config.processor.prompt_template
        options = TextOptions(config.model.settings.seq_length, template, pairs, infill, reading)
        files = prepare_texts(locations, tokenizer, options, Path(config.output_dir) / "data", is_first)
        loader = section.data_loader.model_copy(update={"dataset_dir": "", "dataset_files": files})
        changed[name] = section.model_copy(update={"data_loader": loader})
    return config.model_copy(update=changed)


def _train(configuration: Configuration, job: Job, request: TrainRequest, callbacks: Sequence[Callback]) -> Run:
    from mindcoder.train.callbacks.base import History
    from mindcoder.train.run import train

    history = History()
    trainer, result = train(job.config, request, job.tokenizer, job.text_format, [history, *callbacks])
    checkpoint = job.output / "checkpoint" / f"step_{trainer.step:08d}"
    return Run(
        configuration,
        job.output,
        checkpoint if checkpoint.is_dir() else None,
        [record.loss for record in history.records],
        history.records,
        trainer.step,
        trainer.updates,
        result,
        trainer.exit_code,
        trainer.mesh.rank,
    )


def _clear_up(output: Path) -> None:
    """Remove incomplete files of a killed run; no one else writes here."""
    from mindcoder.checkpoint.store import clear_partial

    clear_partial(output / "checkpoint")
    for folder in (output, *(output / name for name in ("checkpoint", "curves", "data", "log", "tokenizer"))):
        clear_abandoned(folder)


def configured_tokenizer(config: RunConfig, required: bool) -> CodeTokenizer | None:
    """The tokenizer of the YAML file or the flags; by default the one beside the checkpoint.

    Raises:
        UserError: there is none although it is required, or it is damaged.
    """
    section = config.processor.tokenizer
    options: dict[str, Any] = {"pad_token": section.pad_token or None, "add_bos": section.add_bos_token}
    if section.is_given:
        merges = section.merge_file or section.merges_file
        return load_tokenizer(section.vocab_file or None, merges or None, section.tokenizer_file or None, **options)
    if config.load_checkpoint:
        from mindcoder.checkpoint.gguf.texts import gguf_text_files

        path = Path(config.load_checkpoint)
        folders = (path, path / "tokenizer", path.parent / "tokenizer", path.parent.parent / "tokenizer")
        files = [find_tokenizer(folder) for folder in folders]
        files.insert(0 if path.is_file() else len(files), gguf_text_files(path).get("tokenizer.json"))
        file = next(filter(None, files), None)
        if file is not None:
            return load_tokenizer(file, **options)
    return load_tokenizer() if required else None


def _check_data(config: RunConfig, mode: str) -> None:
    """Check for missing weights and data before anything heavy is imported."""
    if mode in ("eval", "predict") and not config.load_checkpoint:
        raise UserError(f"{mode} needs weights: --load_checkpoint")
    if mode == "predict":
        return
    section = config.eval_dataset if mode == "eval" else config.train_dataset
    locations = section.data_loader.locations
    if not locations:
        flag = "--eval_dataset" if mode == "eval" else "--train_data"
        raise UserError(f"{mode} needs a dataset: {flag}, or data_loader.dataset_dir in the YAML file")
    from mindcoder.data.mindrecord_file import find_dataset
    from mindcoder.data.prepared import is_text

    for location in locations:
        if not is_text(location):
            find_dataset(location)
