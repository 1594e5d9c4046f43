"""train, finetune, eval and predict: from flags to a run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mindcoder.api import finetune, pretrain
from mindcoder.cli.arguments import config_flags
from mindcoder.cli.logs import start_logging
from mindcoder.config.given import Configuration
from mindcoder.config.load import load_config
from mindcoder.config.schema import RunConfig
from mindcoder.errors import UserError
from mindcoder.generate.job import PredictRequest, run_prediction
from mindcoder.launch.options import RESTART_VARIABLE
from mindcoder.outputs import file_name, refuse_as_output
from mindcoder.train.job import TRAINING, run_evaluation


def run(run_mode: str, arguments: argparse.Namespace) -> int:
    """Run a verb; returns the exit code.

    Raises:
        UserError: see the message.
    """
    start_logging()
    configuration = Configuration(*load_config(arguments.config, arguments.set, config_flags(arguments, run_mode)))
    if run_mode in TRAINING:
        return _train(run_mode, configuration, arguments)
    if run_mode == "predict":
        return _predict(configuration, arguments)
    result = run_evaluation(configuration, arguments.debug)
    if os.environ.get("RANK_ID", "0") == "0" or not configuration.run.use_parallel:
        print(f"eval: {result}")
    return 0


def _train(run_mode: str, configuration: Configuration, arguments: argparse.Namespace) -> int:
    restarted = os.environ.get(RESTART_VARIABLE) == "1"
    train = finetune if run_mode == "finetune" else pretrain
    run = train(
        configuration,
        resume=bool(arguments.resume) or restarted,
        overwrite=arguments.overwrite and not restarted,
        allow_changes=arguments.allow_changes,
        verbose=arguments.debug,
    )
    if run.rank > 0 or run.updates == 0:
        return run.exit_code
    if run.result is not None:
        print(f"eval: {run.result}")
    curves = run.output_dir / "curves"
    print(f"loss curve: {curves / 'loss.png'}, {curves / 'loss.csv'}, TensorBoard: {run.output_dir / 'tensorboard'}")
    print(f"checkpoint: {run.checkpoint}")
    return run.exit_code


def _predict(configuration: Configuration, arguments: argparse.Namespace) -> int:
    config: RunConfig = configuration.run
    if not arguments.predict_data:
        raise UserError("predict needs --predict_data: a text or a file of prompts")
    if arguments.output_file:
        section = config.processor.tokenizer
        tokenizer = (section.vocab_file, section.tokenizer_file, section.merge_file, section.merges_file)
        files = configuration.source.files
        inputs = (arguments.predict_data, *files, config.load_checkpoint, *tokenizer)
        refuse_as_output([file_name(arguments.output_file)], inputs)
    request = PredictRequest(
        arguments.predict_data,
        arguments.raw,
        Path(arguments.output_file) if arguments.output_file else None,
        arguments.predict_length,
        arguments.predict_batch or config.model.settings.batch_size,
        tuple(arguments.adapter),
        arguments.kv,
    )
    run_prediction(configuration, request, sys.stdout, arguments.debug)
    return 0
