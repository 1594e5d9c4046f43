"""Checks that data, model, tokenizer and template of a run match."""

from __future__ import annotations

import logging
from pathlib import Path

from mindcoder.checkpoint.companions import find_companions
from mindcoder.checkpoint.gguf.texts import gguf_text_files
from mindcoder.checkpoint.trained_format import trained_format
from mindcoder.config.schema import RunConfig
from mindcoder.data.mindrecord_file import dataset_format
from mindcoder.data.models_template import remark_on
from mindcoder.data.own_template import own_or
from mindcoder.data.prompt import OWN, PLAIN
from mindcoder.data.text_format import UNKNOWN, TextFormat, agreed_format, check_tokenizer, format_with
from mindcoder.tokenizer import CodeTokenizer
from mindcoder.tokenizer.fingerprint import fingerprint

log = logging.getLogger(__name__)


def format_of_run(config: RunConfig, run_mode: str, tokenizer: CodeTokenizer | None) -> TextFormat:
    """Text format of a run, for train, finetune and eval; warns early about what chat will lack.

    Raises:
        UserError: the datasets, the tokenizer and the template do not match.
    """
    if run_mode == "predict":
        return UNKNOWN
    identity = None if tokenizer is None else fingerprint(tokenizer)
    trains = run_mode in ("train", "finetune")
    template = config.processor.prompt_template
    loaders = [section.data_loader for section in ((config.train_dataset,) if trains else ())]
    loaders.append(config.eval_dataset.data_loader)
    datasets = []
    for loader in loaders:
        for location in loader.locations:
            read = format_with(template, tokenizer, identity) if loader.streaming else None
            datasets.append((location, read or dataset_format(location)))
    if not trains:
        _check_eval(config, datasets)
        return TextFormat(None, identity)
    asked = _asked_template(config)
    agreed = agreed_format(datasets, identity, asked, format_with(asked, tokenizer).chat_template)
    if config.load_checkpoint:
        below = trained_format(config.load_checkpoint)
        before, now = below.tokenizer, agreed.tokenizer
        if before is not None and now is not None and before.sha256 != now.sha256:
            log.warning(
                "the data use another tokenizer (%s) than %s was trained with (%s): it has to learn new token ids",
                *(now, config.load_checkpoint, before),
            )
        agreed = agreed.over(TextFormat(below.template, None, below.chat_template))
    if tokenizer is None:
        log.warning(
            "no tokenizer is with this run; chat, serve and predict will need the one of the data: give --vocab_file "
            "now, which keeps it in %s, or name it then with --tokenizer (predict: --vocab_file)",
            f"{config.output_dir.rstrip('/')}/tokenizer",
        )
    return agreed


def as_trained(config: RunConfig, tokenizer: CodeTokenizer | None) -> RunConfig:
    """The configuration of eval or predict with the template that the model was trained with, unless one is given;
    where none is recorded, with the model's own.

    Raises:
        UserError: the tokenizer differs from the model's.
    """
    if not config.load_checkpoint:
        return config
    trained = trained_format(config.load_checkpoint)
    if tokenizer is not None and trained.tokenizer is not None:
        check_tokenizer(
            trained.tokenizer, fingerprint(tokenizer), "was trained with", "the one given", config.load_checkpoint
        )
    asked = _asked_template(config)
    if trained.template is None:
        return with_own_template(config, tokenizer)
    if trained.template == asked:
        return config
    if asked is not None:
        log.warning("template %s is used; the model was trained with %s", asked, trained.template)
        return config
    processor = config.processor.model_copy(update={"prompt_template": trained.template})
    return config.model_copy(update={"processor": processor})


def with_own_template(config: RunConfig, tokenizer: CodeTokenizer | None) -> RunConfig:
    """The configuration with the model's own chat template, if it has one and no template is given or recorded.

    It does not count as given: data made with another one decide.
    """
    recorded = trained_format(config.load_checkpoint).template if config.load_checkpoint else None
    if _asked_template(config) is not None or recorded is not None:
        return config
    processor = config.processor
    chosen = own_or(tokenizer, processor.prompt_template)
    if chosen == processor.prompt_template:
        return config
    values = {**dict(processor), "prompt_template": chosen}
    processor = type(processor).model_construct(_fields_set=set(processor.model_fields_set), **values)
    return config.model_copy(update={"processor": processor})


def tell_of_models_template(config: RunConfig, tokenizer: CodeTokenizer) -> None:
    """If the text format of a model is not recorded, report where its own chat template differs from the one used.

    Raises:
        UserError: its file is corrupt.
    """
    location = Path(config.load_checkpoint)
    if config.processor.prompt_template in (PLAIN, OWN) or trained_format(location).template is not None:
        return
    files = gguf_text_files(location) or find_companions(location if location.is_dir() else location.parent)
    remark = remark_on(config.processor.prompt_template, files, tokenizer)
    if remark is not None:
        log.warning(remark)


def _check_eval(config: RunConfig, datasets: list[tuple[str, TextFormat]]) -> None:
    """Check the evaluation data: another tokenizer makes the result meaningless, another template changes its
    meaning.
    """
    trained = trained_format(config.load_checkpoint)
    for location, found in datasets:
        check_tokenizer(found.tokenizer, trained.tokenizer, "was made with", "the model was trained with", location)
        if None not in (found.template, trained.template) and found.template != trained.template:
            log.warning("%s has template %s; the model was trained with %s", location, found.template, trained.template)


def _asked_template(config: RunConfig) -> str | None:
    """The template of the YAML file or the flag; None if neither is given."""
    return config.processor.prompt_template if "prompt_template" in config.processor.model_fields_set else None
