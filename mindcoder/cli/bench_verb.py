"""bench: latency of the first and of further tokens over lengths and batch sizes."""

from __future__ import annotations

import argparse

from mindcoder.bench.cases import Case, Row, parse_cases, write_table
from mindcoder.cli.logs import start_logging
from mindcoder.cli.model_flags import add_model_flags, open_flagged_model
from mindcoder.outputs import file_name, refuse_as_output

HEADER = f"{'batch':>6}{'in':>7}{'out':>7}{'first ms':>11}{'next ms':>10}{'tokens/s':>10}{'memory MB':>11}"


def add_case_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select the cases; shared with the PyTorch reference."""
    lengths = parser.add_mutually_exclusive_group()
    lengths.add_argument("--pairs", metavar="[[IN,OUT],..]", help='prompt and answer lengths; default: "[[256,256]]"')
    lengths.add_argument("--grid", metavar="A,B", help="every pair of the lengths 2^A ... 2^(B-1)")
    parser.add_argument("--batch", default="1", metavar="N,N,..", help="sequences computed together; default: 1")
    parser.add_argument(
        "--output_file", default="output/bench.csv", metavar="CSV", help="default: output/bench.csv, and a PNG"
    )


def add_bench_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of bench."""
    add_model_flags(parser)
    add_case_flags(parser)


def bench_verb(arguments: argparse.Namespace) -> int:
    """Measure every case and write the table."""
    start_logging()
    cases = parse_cases(arguments.pairs, arguments.grid, arguments.batch)
    arguments.max_batch_size = max(case.batch for case in cases)
    arguments.max_length = max(case.prompt + case.new for case in cases)
    table = file_name(arguments.output_file)
    refuse_as_output([table, table.with_suffix(".png")], [])
    from mindcoder.bench.measure import measure

    engine = open_flagged_model(arguments).engine
    engine.stop_ids, engine.pool.reuses_prefixes = frozenset(), False
    rows: list[Row] = []
    print(HEADER)
    for case in cases:
        measure(engine, Case(case.batch, min(case.prompt, 8), 2))
        rows.append(measure(engine, case))
        print(line(rows[-1]), flush=True)
        write_table(rows, table)
    print(f"{table}, {table.with_suffix('.png')}")
    return 0


def line(row: Row) -> str:
    """A table row under `HEADER`."""
    return (
        f"{row.batch:6d}{row.input_length:7d}{row.output_length:7d}{row.first_token_ms:11.1f}{row.next_token_ms:10.2f}"
        f"{row.tokens_per_second:10.1f}{row.memory_mb:11.0f}"
    )
