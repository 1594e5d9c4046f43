"""ATB-Models' ``run_pa.py`` and ``run_fa.py``: answer texts with the weights of a folder, by the original flags.

Both are one thing here: the key-value cache is paged and attention is one fused operator, whatever the name says.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from pathlib import Path

from mindcoder.cli.arguments import boolean, positive
from mindcoder.cli.guard import guarded
from mindcoder.cli.logs import start_logging
from mindcoder.cli.parser import StrictParser
from mindcoder.errors import UserError
from mindcoder.files import read_text

QUESTION = "What's deep learning?"  # the original's default


def run_pa_script(prog: str) -> int:
    """``run_pa.py --model_path DIR --input_text TEXT``."""
    parser = StrictParser(prog=prog, description="Answer texts; no template is put around them.")
    parser.add_argument("--model_path", required=True, metavar="DIR", help="Hugging Face folder, run or checkpoint")
    parser.add_argument("--input_text", "--input_texts", dest="texts", nargs="+", default=[QUESTION], metavar="TEXT")
    parser.add_argument("--input_file", metavar="FILE", help="token ids instead, the ids of a prompt in every line")
    parser.add_argument("--max_input_length", type=positive, default=1024, metavar="N", help="tokens of a prompt")
    parser.add_argument("--max_output_length", type=positive, default=20, metavar="N", help="tokens of an answer")
    parser.add_argument(
        "--max_batch_size",
        "--batch_size",
        dest="batch",
        type=positive,
        default=1,
        metavar="N",
        help="answered together",
    )
    parser.add_argument("--is_bf16", action="store_true", help="weights in bfloat16 instead of float16")
    parser.add_argument("--is_flash_causal_lm", type=boolean, metavar="BOOL", help="accepted; there is one way here")
    parser.add_argument("--use_refactor", nargs="?", const=True, type=boolean, metavar="BOOL", help="accepted likewise")
    parser.add_argument("--device_target", choices=["auto", "CPU", "Ascend"], default="auto")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    arguments = parser.parse_args()
    return guarded(lambda: _answer(arguments), arguments.debug)


def _answer(arguments: argparse.Namespace) -> int:
    start_logging()
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise UserError(
            f"torchrun started {processes} processes: layers are divided over cards by scripts/pipeline_dist.sh"
        )
    from mindcoder.backend.device import interruptible, setup_device
    from mindcoder.generate.model import ModelRequest, open_model

    given = _token_ids(Path(arguments.input_file)) if arguments.input_file else None
    setup_device(arguments.device_target, int(os.environ.get("DEVICE_ID", "0")))
    with interruptible():
        model = open_model(
            ModelRequest(
                arguments.model_path,
                template="plain",
                dtype="bfloat16" if arguments.is_bf16 else "float16",
                max_length=arguments.max_input_length + arguments.max_output_length,
                batch=arguments.batch,
            )
        )
        prompts = [model.tokenizer.encode(text) for text in arguments.texts] if given is None else given
        for index, prompt in enumerate(prompts):
            if len(prompt) > arguments.max_input_length:
                raise UserError(
                    f"prompt {index} has {len(prompt)} tokens; --max_input_length is {arguments.max_input_length}"
                )
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
