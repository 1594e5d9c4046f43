"""Preprocessing speed against the plain one-process loop over Hugging Face's tokenizer.

``python -m benchmarks.preprocess [FILE]``; FILE defaults to ../shared/data/code_alpaca_2k.json, repeated 5 times.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.record import write_result
from mindcoder.backend.device import quiet_environment
from mindcoder.data.preprocess import PreprocessOptions, preprocess
from mindcoder.data.prompt import build_prompt
from mindcoder.tokenizer.bpe import train_tokenizer

REPEATS, LENGTH = 5, 512


def plain_loop(records: list[dict], folder: Path) -> float:
    """Seconds of what the original MindFormers script does: two tokenizer calls per record, in one process."""
    from mindspore.mindrecord import FileWriter
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|endoftext|>")
    began = time.perf_counter()
    writer = FileWriter(str(folder / "plain.mindrecord"), 1, overwrite=True)
    writer.add_schema({name: {"type": "int32", "shape": [-1]} for name in ("input_ids", "labels")})
    rows = []
    for record in records:
        prompt = build_prompt(record["instruction"], record["input"])
        prefix = tokenizer(prompt)["input_ids"]
        ids = tokenizer(prompt + record["output"] + "<|endoftext|>")["input_ids"][:LENGTH]
        labels = [-100] * min(len(prefix), LENGTH) + ids[len(prefix) :]
        padding = LENGTH - len(ids)
        rows.append(
            {
                "input_ids": np.array(ids + [0] * padding, np.int32),
                "labels": np.array(labels + [-100] * (LENGTH - len(labels)), np.int32),
            }
        )
    writer.write_raw_data(rows)
    writer.commit()
    return time.perf_counter() - began


def main() -> None:
    """Measure both on the same records."""
    quiet_environment()
    default = Path(__file__).parents[2] / "shared" / "data" / "code_alpaca_2k.json"
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    records = json.loads(source.read_text()) * REPEATS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = train_tokenizer([record["instruction"] + record["output"] for record in records[:2000]], 8000)
        tokenizer.save(folder)
        (folder / "all.json").write_text(json.dumps(records))
        options = PreprocessOptions(
            str(folder / "all.json"), folder / "ours.mindrecord", LENGTH, show_progress=False, overwrite=True
        )
        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        import mindspore.mindrecord  # noqa: F401  both sides start with it imported

        for _ in range(3):
            began = time.perf_counter()
            preprocess(options, tokenizer)
            seconds["ours"].append(time.perf_counter() - began)
            seconds["plain"].append(plain_loop(records, folder))
    rates = {side: len(records) / min(values) for side, values in seconds.items()}
    ratio = rates["ours"] / rates["plain"]
    print(f"preprocess: {rates['ours']:.0f} records/s on all cores, plain loop {rates['plain']:.0f} ({ratio:.2f} x)")
    path = write_result(
        "preprocess",
        {"records": len(records), "records_per_s": rates, "ratio": ratio, "command": "python -m benchmarks.preprocess"},
    )
    print(f"written to {path}")


if __name__ == "__main__":
    main()
