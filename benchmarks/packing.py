"""What packing saves: rows, and so steps of the same cost, of an instruction set padded and packed.

``python -m benchmarks.packing FILE VOCAB [--lengths 512,1024,2048]``
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.record import write_result
from mindcoder.data.encode import encode_record
from mindcoder.data.packing import pack_first_fit
from mindcoder.data.readers import Record, read_records
from mindcoder.tokenizer import load_tokenizer


def main() -> None:
    """Count and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("vocab", metavar="VOCAB")
    parser.add_argument("--lengths", default="512,1024,2048")
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.vocab)
    records = [item for item in read_records(Path(arguments.file)) if isinstance(item, Record)]
    figures = {}
    for length in map(int, arguments.lengths.split(",")):
        found = [encode_record(record, tokenizer, length) for record in records]
        examples = [item for item in found if item is not None]
        rows = list(pack_first_fit(examples, length, tokenizer.pad_id))
        tokens, labels = (sum(values) for values in zip(*((len(i.input_ids), i.answer_tokens) for i in examples)))
        figures[length] = {
            "padded_rows": len(examples),
            "packed_rows": len(rows),
            "speed_up": len(examples) / len(rows),
            "padding_when_packed": 1 - tokens / (len(rows) * length),
            "labelled_share": labels / (len(rows) * length),
        }
        item = figures[length]
        print(
            f"{length:5} tokens: {item['padded_rows']} rows padded, {item['packed_rows']} packed: "
            f"{item['speed_up']:.2f} x fewer steps, padding {item['padding_when_packed']:.1%}, "
            f"labels at {item['labelled_share']:.1%} of the positions"
        )
    print(f"written to {write_result('packing', figures)}")


if __name__ == "__main__":
    main()
