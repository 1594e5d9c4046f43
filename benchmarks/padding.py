"""What is computed for nothing: an epoch of an instruction set padded, in length buckets, and packed.

``python -m benchmarks.padding FILE VOCAB [--records 320] [--seq_length 1024]``. The same records, network and rows a
batch, one after another in one process; seconds leave each graph's first step (its compilation) out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from benchmarks.networks import llama
from benchmarks.record import write_result
from mindcoder.backend.device import setup_device
from mindcoder.data.loader import BatchLoader
from mindcoder.data.preprocess import PreprocessOptions, preprocess
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.decoder import Decoder
from mindcoder.tokenizer import load_tokenizer
from mindcoder.train.objectives.causal_lm import CausalLM, head_tokens
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import MicroBatch, TrainStep

ROWS = 8
WAYS = ("padded", "buckets", "packed")


def epoch_seconds(loader: BatchLoader, config: TransformerConfig) -> tuple[float, int]:
    """Seconds of an epoch, and positions computed in it."""
    decoder = Decoder(config)
    objective = CausalLM(head_tokens(loader, 1))
    optimizer = AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions())
    step = TrainStep(decoder, optimizer, max_grad_norm=1.0, objective=objective)
    step.set_train(True)
    seconds: dict[int, list[float]] = {}
    positions = 0
    for batch, _ in loader.batches():
        length = batch.input_ids.shape[1]
        arrays = (batch.input_ids, batch.position_ids, batch.document_ids, batch.labels)
        extra = objective.extra_targets(batch)
        micro = MicroBatch(*map(Tensor, arrays), Tensor(0, ms.int32), Tensor(1.0, ms.float32), extra)
        began = time.perf_counter()
        step.run([micro], 1e-4, 1.0)
        seconds.setdefault(length, []).append(time.perf_counter() - began)
        positions += batch.input_ids.size
    # The first step of a length has its compilation in it: the others' mean stands for it.
    return sum(len(taken) * float(np.mean(taken[1:] or taken)) for taken in seconds.values()), positions


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("vocab", metavar="VOCAB")
    parser.add_argument("--records", type=int, default=320)
    parser.add_argument("--seq_length", type=int, default=1024)
    parser.add_argument("--buckets", default="128,192,256,384,512")
    arguments = parser.parse_args()
    setup_device("CPU")
    tokenizer = load_tokenizer(arguments.vocab)
    config = llama(tokenizer.vocab_size, 256, 4, 4, 688, arguments.seq_length)
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "records.json"
        source.write_text(json.dumps(json.loads(Path(arguments.file).read_text())[: arguments.records]))
        for way in WAYS:
            target = Path(folder) / f"{way}.mindrecord"
            options = PreprocessOptions(str(source), target, arguments.seq_length, way == "packed", show_progress=False)
            _, statistics = preprocess(options, tokenizer)
            buckets = [int(size) for size in arguments.buckets.split(",")] if way == "buckets" else []
            loader = BatchLoader(
                str(target), ROWS, arguments.seq_length, tokenizer.vocab_size, drop_remainder=False, buckets=buckets
            )
            seconds, positions = epoch_seconds(loader, config)
            figures[way] = {
                "seconds": seconds,
                "positions": positions,
                "padding": 1 - statistics.tokens / positions,
                "speed_up": figures["padded"]["seconds"] / seconds if figures else 1.0,
            }
            item = figures[way]
            print(
                f"{way:8} {item['seconds']:7.1f} s an epoch, {item['padding']:5.1%} padding, {item['speed_up']:.2f} x",
                flush=True,
            )
    print(f"written to {write_result('padding', figures)}")


if __name__ == "__main__":
    main()
