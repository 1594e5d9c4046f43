"""``mbpp_gen_online.py``, ``mbpp_gen_mslite.py`` and ``mbpp_process.py``, with the original scripts' flags."""

from __future__ import annotations

import argparse
from pathlib import Path

from mindcoder.backend.device import interruptible, setup_device, signals_held
from mindcoder.cli.arguments import add_device_target_flag, not_negative, positive
from mindcoder.cli.logs import start_logging
from mindcoder.cli.model_context import context_of, fit_length
from mindcoder.cli.parser import StrictParser
from mindcoder.cli.scripts import script
from mindcoder.errors import UserError

SEQ_LENGTH = 2048  # the original's default


@script
def mbpp_generate_script(prog: str) -> int:
    """Generate answers to a range of problems, one file per answer."""
    parser = StrictParser(prog=prog, description="Answers to MBPP, one file per problem.")
    parser.add_argument("--start_index", type=not_negative, default=0, metavar="N", help="first problem; default: 0")
    parser.add_argument("--end_index", type=positive, metavar="N", help="end of the range (exclusive); default: all")
    parser.add_argument("--output_path", required=True, metavar="DIR", help="folder for 0.json, 1.json, ...")
    parser.add_argument("--mbpp_path", required=True, metavar="FILE", help="mbpp.test.jsonl")
    parser.add_argument(
        "--model_path",
        required=True,
        metavar="PATH",
        help=".ckpt, Hugging Face folder, run, or what export has written",
    )
    parser.add_argument(
        "--tokenizer_path", default="", metavar="DIR", help="with vocab.json and merges.txt; default: the model's own"
    )
    parser.add_argument("--device_id", type=not_negative, default=0, metavar="N", help="Ascend card; default: 0")
    parser.add_argument("--batch_size", type=positive, default=1, metavar="N", help="batch size; default: 1")
    parser.add_argument(
        "--seq_length",
        type=positive,
        metavar="N",
        help=f"prompt and answer, in tokens; default: {SEQ_LENGTH}, or the model's context where that is shorter",
    )
    add_device_target_flag(parser)
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    return _generate(parser.parse_args())


def _generate(arguments: argparse.Namespace) -> int:
    with signals_held():
        from mindcoder.checkpoint.weights import open_weights
        from mindcoder.evaluate.mbpp_files import chosen, numbered_problems, prompt_of, write_answer
        from mindcoder.generate.exported_manifest import read_exported_manifest
        from mindcoder.generate.model import Model, ModelRequest, open_model
        from mindcoder.locations import is_exported

    start_logging()
    problems = chosen(numbered_problems(Path(arguments.mbpp_path)), arguments.start_index, arguments.end_index)
    path = Path(arguments.model_path)
    context = read_exported_manifest(path).max_length if is_exported(path) else context_of(open_weights(path))
    length = fit_length("--seq_length", arguments.seq_length, SEQ_LENGTH, context)
    setup_device(arguments.device_target, arguments.device_id)
    request = ModelRequest(
        arguments.model_path,
        arguments.tokenizer_path or None,
        "wizardcoder",
        max_length=length,
        batch=arguments.batch_size,
    )
    folder = Path(arguments.output_path)
    folder.mkdir(parents=True, exist_ok=True)

    def answer(model: Model) -> None:
        from mindcoder.progress import tqdm

        with tqdm(total=len(problems), desc="generate", unit=" answers", disable=None) as progress:
            for first in range(0, len(problems), arguments.batch_size):
                batch = problems[first : first + arguments.batch_size]
                prompts = [model.tokenizer.encode(prompt_of(problem)) for problem in batch]
                fit = [len(prompt) < length for prompt in prompts]
                done = iter(model.engine.generate([prompt for prompt, fits in zip(prompts, fit) if fits]))
                for number, (prompt, fits) in enumerate(zip(prompts, fit), arguments.start_index + first):
                    ids = list(prompt)
                    if fits:
                        completion = next(done)
                        ids += completion.tokens
                        ids += [] if completion.stopped_by is None else [completion.stopped_by]
                    else:
                        progress.write(f"problem {number}: {len(prompt)} tokens leave no room for an answer")
                    write_answer(folder, number, model.tokenizer.decode(ids))
                    progress.update()

    with interruptible():
        answer(open_model(request))
    print(f"{len(problems)} answers in {folder}")
    return 0


@script
def mbpp_process_script(prog: str) -> int:
    """Extract the programs of all answers into one file; with ``--mbpp_path`` score them too."""
    parser = StrictParser(prog=prog, description="The programs in MBPP answers, in one file.")
    parser.add_argument("--path", required=True, metavar="DIR", help="with 0.json, 1.json, ...")
    parser.add_argument("--out_path", required=True, metavar="FILE", help="for bigcode-evaluation-harness")
    parser.add_argument("--mbpp_path", metavar="FILE", help="mbpp.test.jsonl: run the programs with its tests")
    parser.add_argument(
        "--allow-code-execution",
        "--allow_code_execution",
        action="store_true",
        help="required for --mbpp_path; runs them in the sandbox",
    )
    parser.add_argument(
        "--sandbox", choices=["namespaces", "limits"], default="namespaces", help="isolation; default: namespaces"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="concurrent programs; default: one per CPU")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    return _process(parser.parse_args())


def _process(arguments: argparse.Namespace) -> int:
    from mindcoder.evaluate.mbpp_files import PROTOCOL, numbered_problems, read_answers, unfenced, write_programs
    from mindcoder.evaluate.protocols.wizardlm import process_mbpp
    from mindcoder.evaluate.run import Execution
    from mindcoder.evaluate.sandbox import SandboxOptions

    answers = read_answers(Path(arguments.path))
    programs = {index: process_mbpp(text) for index, text in answers.items()}
    write_programs(programs.values(), Path(arguments.out_path))
    print(f"{len(programs)} files in {arguments.path}, {unfenced(answers.values())} with an open fence")
    print(f"programs: {arguments.out_path}")
    if arguments.mbpp_path is None:
        return 0
    problems = numbered_problems(Path(arguments.mbpp_path))
    if max(programs) >= len(problems):
        raise UserError(f"has {len(problems)} problems, there is an answer {max(programs)}.json", arguments.mbpp_path)
    sandbox = Execution(arguments.allow_code_execution, SandboxOptions(isolation=arguments.sandbox)).open()
    tested = [PROTOCOL.program(code, problems[index]) for index, code in programs.items()]
    outcomes = sandbox.run_all(tested, arguments.workers)
    passed = sum(outcome.passed for outcome in outcomes)
    print(f"pass@1: {passed / len(programs):.3f} ({passed} of {len(programs)} problems)")
    return 0
