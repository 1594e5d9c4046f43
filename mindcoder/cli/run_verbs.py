"""train, finetune, eval and predict: from flags to a run."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

from mindcoder.backend.device import check_device
from mindcoder.cli.arguments import config_flags
from mindcoder.cli.logs import start_logging
from mindcoder.cli.sources import with_registered_data
from mindcoder.cli.text_formats import as_trained, format_of_run, tell_of_models_template
from mindcoder.config.effects import notes_on_effects
from mindcoder.config.layout import check_layout
from mindcoder.config.load import load_config
from mindcoder.config.schema import RunConfig
from mindcoder.config.source import YamlSource
from mindcoder.data.text_format import TextFormat
from mindcoder.errors import UserError
from mindcoder.folder_lock import folder_lock
from mindcoder.outputs import file_name, refuse_as_output
from mindcoder.parallel.launch import RESTART_VARIABLE
from mindcoder.places import place_of
from mindcoder.temporary import clear_abandoned
from mindcoder.tokenizer import CodeTokenizer, load_tokenizer
from mindcoder.tokenizer.load import find_tokenizer

log = logging.getLogger("mindcoder.cli")


def run(run_mode: str, arguments: argparse.Namespace) -> int:
    """Validate everything possible, then import MindSpore and run; returns the exit code.

    Raises:
        UserError: see the message.
    """
    config, source = load_config(arguments.config, arguments.set, config_flags(arguments, run_mode))
    rank = 0
    if config.use_parallel:
        check_layout(config, source, int(os.environ.get("RANK_SIZE", "1")))
        rank = int(os.environ.get("RANK_ID", "0"))
    if config.load_checkpoint:
        place_of(config.load_checkpoint)  # its tokenizer is looked up next
    tokenizer = _tokenizer(config, required=run_mode == "predict")
    if tokenizer is not None and tokenizer.vocab_size > config.model.settings.vocab_size:
        place, line = source.place(("model", "model_config", "vocab_size"))
        raise UserError(
            f"model.model_config.vocab_size: {config.model.settings.vocab_size} is smaller than the "
            f"tokenizer's {tokenizer.vocab_size}",
            place,
            line,
        )
    config = with_registered_data(config)
    _check_paths(config, run_mode, arguments)
    check_device(config.context.device_target, *source.place(("context", "device_target")))
    output = Path(config.output_dir)
    writes = run_mode in ("train", "finetune") and rank == 0  # rank 0 locks the folder for all of them
    with folder_lock(output) if writes else nullcontext():
        if writes:
            _clear_up(output)
        return _run(run_mode, config, source, arguments, tokenizer, rank)


def _run(
    run_mode: str,
    config: RunConfig,
    source: YamlSource,
    arguments: argparse.Namespace,
    tokenizer: CodeTokenizer | None,
    rank: int,
) -> int:
    """Run a validated configuration; returns the exit code."""
    trains = run_mode in ("train", "finetune")
    log_file = start_logging(Path(config.output_dir) / "log" if trains and rank == 0 else None)
    if run_mode in ("eval", "predict"):
        config = as_trained(config, tokenizer)
    if run_mode == "predict" and tokenizer is not None and not arguments.raw:
        tell_of_models_template(config, tokenizer)
    config = _with_prepared_texts(config, run_mode, tokenizer, rank == 0)
    text_format = format_of_run(config, run_mode, tokenizer)

    from mindcoder.backend.device import setup_device

    mode = 1 if config.context.mode in (1, "PYNATIVE_MODE") else 0
    device = setup_device(
        config.context.device_target,
        int(os.environ.get("DEVICE_ID", "0")) if config.use_parallel else config.context.device_id,
        mode,
        max_call_depth=config.context.max_call_depth,
    )
    notes = notes_on_effects(config, source, device)
    shown = logging.INFO if arguments.debug and not trains else logging.DEBUG
    for note in notes:
        log.log(shown, note)
    if notes and rank == 0 and shown == logging.DEBUG:
        log.info("keys without effect here: %d; see %s", len(notes), log_file or "--debug")
    if trains:
        return _train(config, arguments, tokenizer, text_format)
    if run_mode == "eval":
        from mindcoder.backend.device import interruptible
        from mindcoder.train.run import evaluate_run

        with nullcontext() if config.use_parallel else interruptible():  # the launcher stops ranks
            result = evaluate_run(config)
        if rank == 0:
            print(f"eval: {result}")
        return 0
    assert tokenizer is not None
    if rank == 0:
        return _predict(config, arguments, tokenizer, sys.stdout)
    arguments.output_file = None  # every rank computes the answers, rank 0 prints them
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        return _predict(config, arguments, tokenizer, nowhere)


def _clear_up(output: Path) -> None:
    """Remove incomplete files of a killed run; no one else writes here."""
    from mindcoder.checkpoint.store import clear_partial

    clear_partial(output / "checkpoint")
    for folder in (output, *(output / name for name in ("checkpoint", "curves", "data", "log", "tokenizer"))):
        clear_abandoned(folder)


def _train(
    config: RunConfig, arguments: argparse.Namespace, tokenizer: CodeTokenizer | None, text_format: TextFormat
) -> int:
    from mindcoder.train.run import TrainRequest, train

    restarted = os.environ.get(RESTART_VARIABLE) == "1"
    request = TrainRequest(
        bool(arguments.resume) or restarted, arguments.overwrite and not restarted, arguments.allow_changes
    )
    trainer, result = train(config, request, tokenizer, text_format)
    output = Path(config.output_dir)
    if trainer.mesh.rank > 0 or trainer.updates == 0:
        return trainer.exit_code
    if result is not None:
        print(f"eval: {result}")
    print(
        f"loss curve: {output / 'curves' / 'loss.png'}, {output / 'curves' / 'loss.csv'}, TensorBoard: "
        f"{output / 'tensorboard'}"
    )
    print(f"checkpoint: {output / 'checkpoint' / f'step_{trainer.step:08d}'}")
    return trainer.exit_code


def _predict(config: RunConfig, arguments: argparse.Namespace, tokenizer: CodeTokenizer, out: TextIO) -> int:
    from mindcoder.backend.device import interruptible
    from mindcoder.generate.run import PredictRequest, predict

    request = PredictRequest(
        arguments.predict_data,
        arguments.raw,
        Path(arguments.output_file) if arguments.output_file else None,
        arguments.predict_length,
        arguments.predict_batch or config.model.settings.batch_size,
        tuple(arguments.adapter),
    )
    with nullcontext() if config.use_parallel else interruptible():  # the launcher stops ranks
        predict(config, request, tokenizer, out)
    return 0


def _tokenizer(config: RunConfig, required: bool) -> CodeTokenizer | None:
    """The tokenizer of the YAML file or the flags; by default the one beside the checkpoint."""
    section = config.processor.tokenizer
    options: dict[str, Any] = {"pad_token": section.pad_token or None, "add_bos": section.add_bos_token}
    if section.is_given:
        merges = section.merge_file or section.merges_file
        return load_tokenizer(section.vocab_file or None, merges or None, section.tokenizer_file or None, **options)
    if config.load_checkpoint:
        path = Path(config.load_checkpoint)
        for folder in (path, path / "tokenizer", path.parent / "tokenizer", path.parent.parent / "tokenizer"):
            file = find_tokenizer(folder)
            if file is not None:
                return load_tokenizer(file, **options)
    return load_tokenizer() if required else None


def _with_prepared_texts(
    config: RunConfig, run_mode: str, tokenizer: CodeTokenizer | None, is_first: bool
) -> RunConfig:
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
        pairs = config.preference is not None and name == "train_dataset"
        infill = infill_options(section.data_loader, config.seed)
        template = config.processor.prompt_template
        options = TextOptions(config.model.settings.seq_length, template, pairs, infill, reading)
        files = prepare_texts(locations, tokenizer, options, Path(config.output_dir) / "data", is_first)
        loader = section.data_loader.model_copy(update={"dataset_dir": "", "dataset_files": files})
        changed[name] = section.model_copy(update={"data_loader": loader})
    return config.model_copy(update=changed)


def _check_paths(config: RunConfig, run_mode: str, arguments: argparse.Namespace) -> None:
    """Check for missing files before anything heavy is imported."""
    if run_mode in ("eval", "predict") and not config.load_checkpoint:
        raise UserError(f"{run_mode} needs weights: --load_checkpoint")
    if run_mode == "predict" and not arguments.predict_data:
        raise UserError("predict needs --predict_data: a text or a file of prompts")
    if run_mode == "predict" and arguments.output_file:
        section = config.processor.tokenizer
        tokenizer = (section.vocab_file, section.tokenizer_file, section.merge_file, section.merges_file)
        inputs = (arguments.predict_data, arguments.config, config.load_checkpoint, *tokenizer)
        refuse_as_output([file_name(arguments.output_file)], inputs)
    data = {"train": config.train_dataset, "finetune": config.train_dataset, "eval": config.eval_dataset}
    if run_mode in data:
        locations = data[run_mode].data_loader.locations
        if not locations:
            flag = "--eval_dataset" if run_mode == "eval" else "--train_data"
            raise UserError(f"{run_mode} needs a dataset: {flag}, or data_loader.dataset_dir in the YAML file")
        from mindcoder.data.mindrecord_file import find_dataset
        from mindcoder.data.prepared import is_text

        for location in locations:
            if not is_text(location):
                find_dataset(location)
