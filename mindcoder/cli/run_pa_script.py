"""ATB-Models' ``run_pa.py`` and ``run_fa.py``: complete texts with the weights of a folder, with the original flags.

Both are the same here: the KV cache is paged and attention is one fused operator, whatever the script is called.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import time
from pathlib import Path

from mindcoder.backend.device import interruptible, setup_device, signals_held
from mindcoder.cli.arguments import add_device_target_flag, boolean, positive
from mindcoder.cli.logs import start_logging
from mindcoder.cli.model_context import context_of, fit_length
from mindcoder.cli.parser import StrictParser
from mindcoder.cli.scripts import script
from mindcoder.errors import UserError
from mindcoder.files import read_text

log = logging.getLogger("mindcoder.cli")

QUESTION = "What's deep learning?"  # this and the following are the original's defaults
INPUT_LENGTH = 1024


@script
def run_pa_script(prog: str) -> int:
    """``run_pa.py --model_path DIR --input_text TEXT``."""
    parser = StrictParser(prog=prog, description="Complete texts; no prompt template is applied.")
    parser.add_argument("--model_path", required=True, metavar="DIR", help="Hugging Face folder, run or checkpoint")
    parser.add_argument(
        "--input_text",
        "--input_texts",
        dest="texts",
        nargs="+",
        default=[QUESTION],
        metavar="TEXT",
        help=f"prompts; default: {QUESTION}",
    )
    parser.add_argument("--input_file", metavar="FILE", help="file of token ids instead, one prompt per line")
    parser.add_argument(
        "--max_input_length",
        type=positive,
        metavar="N",
        help=f"tokens of a prompt; default: {INPUT_LENGTH}, or what the model's context leaves",
    )
    parser.add_argument(
        "--max_output_length", type=positive, default=20, metavar="N", help="maximum tokens of an answer; default: 20"
    )
    parser.add_argument(
        "--max_batch_size",
        "--batch_size",
        dest="batch",
        type=positive,
        default=1,
        metavar="N",
        help="batch size; default: 1",
    )
    parser.add_argument("--is_bf16", action="store_true", help="weights in bfloat16 instead of float16")
    parser.add_argument("--is_flash_causal_lm", type=boolean, metavar="BOOL", help="accepted without effect")
    parser.add_argument(
        "--use_refactor", nargs="?", const=True, type=boolean, metavar="BOOL", help="accepted without effect"
    )
    add_device_target_flag(parser)
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    return _answer(parser.parse_args(), prog.removesuffix(".py"))


def _answer(arguments: argparse.Namespace, name: str) -> int:
    start_logging()
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise UserError(
            f"torchrun started {processes} processes: layers are divided over cards by scripts/pipeline_dist.sh"
        )
    with signals_held():
        from mindcoder.checkpoint.weights import open_weights
        from mindcoder.generate.model import ModelRequest, open_model

    given = _token_ids(Path(arguments.input_file)) if arguments.input_file else None
    weights = open_weights(arguments.model_path)
    input_length = _input_length(arguments, context_of(weights))
    trained = weights.text_format.template
    if trained not in (None, "plain"):
        log.info(
            "%s uses the prompt without a template, as the original did; the model was trained with %s", name, trained
        )
    setup_device(arguments.device_target, int(os.environ.get("DEVICE_ID", "0")))
    with interruptible():
        model = open_model(
            ModelRequest(
                arguments.model_path,
                template=trained,  # no template: prompts are used as given
                dtype="bfloat16" if arguments.is_bf16 else "float16",
                max_length=input_length + arguments.max_output_length,
                batch=arguments.batch,
            )
        )
        prompts = [model.tokenizer.encode(text) for text in arguments.texts] if given is None else given
        for index, prompt in enumerate(prompts):
            if len(prompt) > input_length:
                raise UserError(f"prompt {index} has {len(prompt)} tokens; --max_input_length is {input_length}")
            if max(prompt) >= model.engine.vocab_size:
                raise UserError(f"prompt {index} has the id {max(prompt)}, the model {model.engine.vocab_size} ids")
        began = time.monotonic()
        completions = model.engine.generate(prompts, max_new_tokens=arguments.max_output_length)
    for index, (prompt, completion) in enumerate(zip(prompts, completions)):
        print(f"Question[{index}]: {model.tokenizer.decode(prompt, skip_special_tokens=True)}")
        print(f"Answer[{index}]: {model.tokenizer.decode(completion.tokens, skip_special_tokens=True)}")
        print(f"Generate[{index}] token num: ({len(prompt)}, {len(completion.tokens)})")
    print(f"Generate time: {time.monotonic() - began:.2f} s")
    return 0


def _input_length(arguments: argparse.Namespace, context: int | None) -> int:
    """Maximum prompt length; with the answer it fits the model's context."""
    answer = arguments.max_output_length
    if context is not None and answer >= context:
        raise UserError(f"--max_output_length: expected less than the model's context of {context}, found {answer}")
    room = None if context is None else context - answer
    beside = f" beside --max_output_length {answer}"
    return fit_length("--max_input_length", arguments.max_input_length, INPUT_LENGTH, room, beside)


def _token_ids(file: Path) -> list[list[int]]:
    prompts = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        if not re.fullmatch(r"\[?\s*\d{1,9}(?:[\s,]+\d{1,9})*\s*\]?", line.strip()):
            raise UserError("expected token ids such as 1, 15, 7", file, number)
        prompts.append([int(item) for item in re.findall(r"\d+", line)])
    if not prompts:
        raise UserError("holds no prompt", file)
    return prompts
