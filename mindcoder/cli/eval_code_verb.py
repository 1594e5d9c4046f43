"""eval-code: pass@k on MBPP and HumanEval."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mindcoder.cli.arguments import not_negative, positive
from mindcoder.cli.logs import start_logging
from mindcoder.cli.model_flags import add_model_flags, add_sampling_flags, open_flagged_model
from mindcoder.errors import UserError
from mindcoder.evaluate.problems import MBPP_SPLITS, TASKS, Problem, read_problems
from mindcoder.evaluate.protocol import PROTOCOLS, STYLES, Protocol, check_protocol, digest, named_protocol
from mindcoder.evaluate.sandbox import Sandbox

CANONICAL = "canonical"  # instead of a model: the reference solutions of the problem set


def add_eval_code_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of eval-code."""
    add_model_flags(parser, batch=8)
    add_sampling_flags(parser)
    parser.add_argument("--task", choices=TASKS, required=True, help="benchmark")
    parser.add_argument("--data", required=True, metavar="FILE", help="the published problem file (.jsonl, .json, .gz)")
    parser.add_argument(
        "--split", choices=list(MBPP_SPLITS), default="test", help="split of MBPP; default: test (11 to 510)"
    )
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="plain",
        help="rules for prompts, stop strings, token limits and answer parsing; default: plain (MindCoder's own)",
    )
    parser.add_argument(
        "--prompt",
        choices=STYLES,
        help="instruct: ask in words; complete: continue code; default: the protocol's (plain: instruct)",
    )
    parser.add_argument(
        "--shots", type=not_negative, default=0, metavar="N", help="solved examples in the prompt (MBPP)"
    )
    parser.add_argument("--samples", type=positive, default=1, metavar="N", help="answers per problem")
    parser.add_argument("--k", default="1,10,100", metavar="K,K,..", help="values of k for pass@k; default: 1,10,100")
    parser.add_argument("--limit", type=positive, metavar="N", help="evaluate the first N problems only")
    parser.add_argument("--output_dir", default="output/eval_code", metavar="DIR", help="default: output/eval_code")
    parser.add_argument("--overwrite", action="store_true", help="discard existing answers")
    parser.add_argument("--generate_only", action="store_true", help="generate answers without running them")
    parser.add_argument("--allow-code-execution", action="store_true", help="run the answers, in the sandbox")
    parser.add_argument(
        "--sandbox", choices=["namespaces", "limits"], default="namespaces", help="isolation of the programs"
    )
    parser.add_argument("--timeout", type=positive, default=10, metavar="SECONDS", help="per program; default: 10")
    parser.add_argument("--memory_gb", type=positive, default=4, metavar="N", help="per program; default: 4")
    parser.add_argument("--workers", type=positive, metavar="N", help="concurrent programs; default: one per CPU")
    parser.add_argument("--shard", metavar="I/N", help="every N-th problem from I on; default under launch: its rank")


def eval_code_verb(arguments: argparse.Namespace) -> int:
    """Generate, run, report."""
    start_logging()
    from mindcoder.evaluate.run import Execution, judge, report, wait_for
    from mindcoder.evaluate.sandbox import SandboxOptions

    check_protocol(arguments.protocol, arguments.task, arguments.prompt, arguments.shots)
    problems = read_problems(Path(arguments.data), arguments.task, arguments.split)[: arguments.limit]
    shots = _shots(arguments)
    limits = SandboxOptions(arguments.timeout, arguments.memory_gb * 2**30, isolation=arguments.sandbox)
    execution = Execution(arguments.allow_code_execution, limits, arguments.workers, _ks(arguments.k))
    sandbox = None if arguments.generate_only else execution.open()  # fail before hours of generation
    if arguments.path == CANONICAL:
        return _score_canonical(problems, arguments.task, sandbox or execution.open(), arguments.workers)
    from mindcoder.backend.device import interruptible
    from mindcoder.evaluate.answers import begin, generate_answers, read_answers

    shard, folder = _shard(arguments.shard), Path(arguments.output_dir)
    model = open_flagged_model(arguments)
    protocol = _protocol(arguments, problems, model.template, model.engine.max_length)
    if shard.index == 0:
        begin(folder, str(Path(arguments.path).resolve()), protocol, arguments.overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    own = problems[shard.index :: shard.count]
    with interruptible():
        answers = generate_answers(model, own, protocol, shots, shard.file(folder), shard.index, shard.count)
    if sandbox is None or shard.index > 0:
        print(f"{len(answers)} answers in {shard.file(folder)}")
        return 0
    others = [shard.file(folder, index) for index in range(1, shard.count)]
    sizes = {
        shard.file(folder, index): len(problems[index :: shard.count]) * protocol.samples
        for index in range(shard.count)
    }
    wait_for(others, lambda file: len(read_answers(file)) >= sizes[file])
    for file in others:
        answers |= read_answers(file)
    judged = judge(sandbox, problems, answers, protocol, arguments.workers)
    print("\n".join(report(folder, model.name, problems, judged, protocol, execution)))
    print(f"report: {folder / 'report.json'}")
    return 0


def _score_canonical(problems: list[Problem], task: str, sandbox: Sandbox, workers: int | None) -> int:
    """Score the reference solutions, which should give 1.000 for every sandbox and every file."""
    from mindcoder.evaluate.scores import Judged, scores

    programs = [problem.canonical_program() for problem in problems]
    outcomes = list(sandbox.run_all(programs, workers))
    judged = [
        Judged(problem.task_id, 0, problem.solution, problem.solution, outcome.passed, outcome.reason)
        for problem, outcome in zip(problems, outcomes)
    ]
    for item in judged:
        if not item.passed:
            print(f"problem {item.task_id} fails: {item.reason}")
    found = scores(judged, [1])[0]
    print(f"canonical solutions of {task}: {found.value:.3f} ({len(problems)} problems)")
    return 0


def _shots(arguments: argparse.Namespace) -> list[Problem]:
    """Solved examples: the problems that MBPP reserves for prompting."""
    if arguments.shots == 0:
        return []
    if arguments.task != "mbpp" or arguments.shots < 0:
        raise UserError("--shots: only mbpp reserves examples for prompts (tasks 1 to 10)")
    found = read_problems(Path(arguments.data), "mbpp", "prompt")
    if arguments.shots > len(found):
        raise UserError(f"--shots {arguments.shots}: there are {len(found)}")
    return found[: arguments.shots]


def _ks(text: str) -> tuple[int, ...]:
    try:
        values = tuple(sorted({int(item) for item in text.split(",")}))
    except ValueError:
        values = ()
    if not values or values[0] < 1:
        raise UserError(f"--k: expected numbers such as 1,10, found {text!r}")
    return values


def _shard(text: str | None):
    from mindcoder.evaluate.answers import Shard

    if text is None:
        ranks = int(os.environ.get("MS_WORKER_NUM", "1"))
        return Shard(int(os.environ.get("RANK_ID", "0")) if ranks > 1 else 0, ranks)
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UserError(f"--shard: expected I/N with I below N, such as 0/4, found {text!r}")
    return Shard(int(index), int(count))


def _protocol(arguments: argparse.Namespace, problems: list[Problem], template: str, longest: int) -> Protocol:
    return named_protocol(
        arguments.protocol,
        arguments.task,
        template,
        arguments.prompt,
        longest,
        arguments.max_output_length,
        split=arguments.split if arguments.task.startswith("mbpp") else "all",
        problem_set=digest(problems),
        shots=arguments.shots,
        samples=arguments.samples,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        top_k=arguments.top_k,
        seed=arguments.seed,
    )
