"""The PyTorch reference of ``mindcoder bench``: transformers' generate, same arguments, same columns.

The original script's flags work too: one prompt, answered until prompt and answer have ``--seq_length`` tokens.

    python inference_wizardcoder_pytorch.py --base_model BASE_MODEL --batch_size 1 --seq_length 2048

``--random`` takes WizardCoder-15B's architecture with random weights, so that nothing has to be downloaded:

    python research/wizardcoder/inference_wizardcoder_pytorch.py --random --dtype float16 --device cuda --batch 32 \
        --pairs "[[32,32],[64,64],[128,128],[256,256],[512,512],[1024,1024],[2048,2048]]"
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from mindcoder.bench.cases import Case, Row, parse_cases, write_table
from mindcoder.cli.arguments import positive
from mindcoder.cli.bench_verb import HEADER, add_case_flags, line
from mindcoder.cli.guard import guarded
from mindcoder.cli.model_context import fit_length
from mindcoder.cli.parser import Parser
from mindcoder.errors import UserError

PROMPT = "使用python编写快速排序代码"  # the original script's only one
SEQ_LENGTH = 2048  # its default


def build_parser() -> Parser:
    """Flags."""
    parser = Parser(description="Generation speed of transformers on PyTorch.")
    parser.add_argument("path", nargs="?", metavar="PATH", help="Hugging Face folder")
    parser.add_argument("--base_model", metavar="PATH", help="the same, as the original script has it")
    parser.add_argument("--batch_size", type=positive, default=1, metavar="N", help="with --base_model; default: 1")
    parser.add_argument(
        "--seq_length",
        type=positive,
        metavar="N",
        help=f"with --base_model: prompt and answer together; default: {SEQ_LENGTH}, or the model's context",
    )
    parser.add_argument("--random", action="store_true", help="WizardCoder-15B's architecture with random weights")
    parser.add_argument(
        "--dtype", choices=["float32", "float16", "bfloat16"], default="float32", help="default: float32"
    )
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu or cuda; default: cpu")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    add_case_flags(parser)
    return parser


def original_case(arguments: argparse.Namespace) -> Case:
    """``--batch_size`` copies of the original script's prompt, answered up to ``--seq_length`` tokens."""
    from transformers import AutoConfig, AutoTokenizer

    if not Path(arguments.path, "config.json").is_file():
        raise UserError("is not a Hugging Face folder", arguments.path)
    context = getattr(AutoConfig.from_pretrained(arguments.path), "max_position_embeddings", None)
    length = fit_length("--seq_length", arguments.seq_length, SEQ_LENGTH, context)
    try:
        tokenizer = AutoTokenizer.from_pretrained(arguments.path)
    except (OSError, ValueError) as error:
        raise UserError(f"has no tokenizer: {str(error).splitlines()[0]}", arguments.path) from None
    prompt = len(tokenizer(PROMPT)["input_ids"])
    if length <= prompt:
        raise UserError(f"--seq_length: expected more than the prompt's {prompt} tokens, found {length}")
    return Case(arguments.batch_size, prompt, length - prompt)


def load(arguments: argparse.Namespace):
    """The model on its device."""
    import torch
    from transformers import AutoModelForCausalLM, GPTBigCodeConfig

    dtype = getattr(torch, arguments.dtype)
    if arguments.random:
        config = GPTBigCodeConfig(
            vocab_size=49153, n_embd=6144, n_layer=40, n_head=48, n_inner=24576, n_positions=8192, multi_query=True
        )
        with torch.device(arguments.device):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    elif arguments.path is None or not Path(arguments.path, "config.json").is_file():
        raise UserError("is not a Hugging Face folder; name one, or --random", arguments.path)
    else:
        model = AutoModelForCausalLM.from_pretrained(arguments.path, dtype=dtype).to(arguments.device)
    return model.eval()


def measure(model, case: Case) -> Row:
    """One case; the first token's time is that of a generation of one token."""
    import torch

    cuda = model.device.type == "cuda"
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, model.config.vocab_size, (case.batch, case.prompt), generator=generator).to(model.device)

    def seconds(tokens: int) -> float:
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                eos_token_id=None,
                pad_token_id=0,
            )
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    seconds(2)
    first, whole = seconds(1), seconds(case.new)
    memory = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Row(
        case.batch,
        case.prompt,
        case.new,
        1e3 * first,
        1e3 * (whole - first) / max(case.new - 1, 1),
        case.batch * case.new / whole,
        memory / 2**20,
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure every case and write the table."""
    if find_spec("torch") is None:
        raise UserError("needs PyTorch: pip install torch")
    original = arguments.base_model is not None
    if original:
        if arguments.path is not None or arguments.random:
            raise UserError("--base_model, PATH and --random each name the model: give one of them")
        arguments.path = arguments.base_model
        cases = [original_case(arguments)]
    else:
        cases = parse_cases(arguments.pairs, arguments.grid, arguments.batch)
    model = load(arguments)
    rows: list[Row] = []
    print(HEADER)
    for case in cases:
        rows.append(measure(model, case))
        print(line(rows[-1]), flush=True)
        write_table(rows, Path(arguments.output_file))
    if original:
        (row,) = rows
        tokens = row.batch * row.output_length
        print(f"generated: {tokens} tokens, {row.tokens_per_second:.1f} tokens/s")
    return 0


if __name__ == "__main__":
    given = build_parser().parse_args()
    sys.exit(guarded(lambda: run(given), given.debug))
