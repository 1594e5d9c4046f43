"""preprocess and train-tokenizer."""

from __future__ import annotations

import argparse

from mindcoder.cli.arguments import positive, seed_number
from mindcoder.cli.logs import start_logging
from mindcoder.cli.sources import INPUT_HELP, add_reading_flags, sources_of
from mindcoder.data.prompt import DEFAULT_TEMPLATE, TEMPLATE_NAMES
from mindcoder.data.readers import BadRecord, expand_glob, read_records
from mindcoder.errors import UserError
from mindcoder.outputs import file_name, refuse_as_output, refuse_present
from mindcoder.tokenizer import load_tokenizer
from mindcoder.tokenizer.bpe import train_tokenizer


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {text!r}")
    return value


def add_preprocess_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the original ``wizardcoder_preprocess.py``, and ours."""
    parser.add_argument("--input_glob", required=True, nargs="+", metavar="GLOB", help=INPUT_HELP)
    parser.add_argument("--output_file", required=True, metavar="FILE", help="MindRecord file to write")
    parser.add_argument(
        "--vocab_file", required=True, metavar="FILE", help="vocab.json, tokenizer.json, tokenizer.model, or a folder"
    )
    parser.add_argument("--merge_file", "--merges_file", dest="merge_file", metavar="FILE", help="merges.txt")
    parser.add_argument("--pad_token", metavar="TOKEN", help="padding token; default: the tokenizer's, else [PAD]")
    parser.add_argument(
        "--template",
        choices=TEMPLATE_NAMES,
        help=f"prompt template; default: the chat_template that lies with the tokenizer, else {DEFAULT_TEMPLATE}",
    )
    parser.add_argument("--seq_length", type=positive, default=2048, metavar="N", help="tokens per row")
    parser.add_argument(
        "--packing", action="store_true", help="pack several documents into a row; attention does not cross documents"
    )
    parser.add_argument(
        "--pairs", action="store_true", help="records with a chosen and a rejected answer, for preference tuning"
    )
    add_reading_flags(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output file")
    parser.add_argument(
        "--skip_bad", action="store_true", help="write bad records to a separate file instead of stopping"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="processes; default: all cores")
    parser.add_argument("--file_partition", type=positive, default=1, metavar="N", help="number of output files")
    parser.add_argument(
        "--fim_rate",
        type=share,
        default=0.0,
        metavar="R",
        help="share of code documents rearranged for fill-in-the-middle",
    )
    parser.add_argument(
        "--fim_spm_rate", type=share, default=0.5, metavar="R", help="share of those in SPM order (suffix first)"
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of the fill-in-the-middle splits"
    )
    parser.add_argument("--dataset_type", choices=["alpaca"], default="alpaca", help=argparse.SUPPRESS)
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def preprocess_verb(arguments: argparse.Namespace) -> int:
    """Write the dataset and print its statistics."""
    from mindcoder.data.infill import InfillOptions
    from mindcoder.data.own_template import own_or
    from mindcoder.data.preprocess import (
        PreprocessOptions,
        output_files,
        preprocess,
        rejects_path,
    )

    start_logging()
    sources, output = sources_of(arguments), file_name(arguments.output_file)
    written = output_files(output, arguments.file_partition)  # checked before anything slow
    refuse_as_output(written, [*expand_glob(sources.patterns), arguments.vocab_file, arguments.merge_file])
    refuse_present(written, arguments.overwrite)
    tokenizer = load_tokenizer(arguments.vocab_file, arguments.merge_file, pad_token=arguments.pad_token)
    options = PreprocessOptions(
        sources.patterns,
        output,
        arguments.seq_length,
        arguments.packing,
        arguments.skip_bad,
        arguments.workers or 0,
        arguments.file_partition,
        arguments.template or own_or(tokenizer, DEFAULT_TEMPLATE),
        pairs=arguments.pairs,
        infill=InfillOptions(arguments.fim_rate, arguments.fim_spm_rate, arguments.seed),
        reading=sources.reading,
        overwrite=arguments.overwrite,
    )
    info, statistics = preprocess(options, tokenizer)
    print("\n".join(statistics.lines()))
    for remark in statistics.remarks.lines():
        print(f"note: {remark}")
    if statistics.rejects:
        print(f"rejected records: {rejects_path(output)}")
    print(f"dataset: {output} ({sum(info.files.values()) / 1e6:.1f} MB)")
    return 0


def add_tokenizer_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of train-tokenizer."""
    parser.add_argument("--input_glob", required=True, nargs="+", metavar="GLOB", help=INPUT_HELP)
    parser.add_argument(
        "--vocab_size", type=positive, default=1000, metavar="N", help="number of ids, special tokens included"
    )
    parser.add_argument(
        "--output_dir", required=True, metavar="DIR", help="folder for vocab.json, merges.txt, tokenizer.json"
    )
    add_reading_flags(parser)
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def train_tokenizer_verb(arguments: argparse.Namespace) -> int:
    """Train a small tokenizer and report its compression.

    Raises:
        UserError: a record is invalid, or there is no text.
    """
    sources, texts, left_out = sources_of(arguments), [], 0
    for file in expand_glob(sources.patterns):
        for record in read_records(file, sources.reading):
            if not isinstance(record, BadRecord):
                texts += [text for text in record.texts() if text]
            elif record.broken:
                raise record.error()
            else:
                left_out += 1
    if not texts:
        raise UserError("holds no text", ", ".join(sources.patterns))
    tokenizer = train_tokenizer(texts, arguments.vocab_size)
    tokenizer.save(arguments.output_dir)
    size = sum(len(text.encode()) for text in texts)
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    if left_out:
        print(f"records left out: {left_out} without an answer or a text")
    print(f"tokenizer: {arguments.output_dir} ({tokenizer.vocab_size} ids, {size / max(tokens, 1):.2f} bytes a token)")
    return 0
