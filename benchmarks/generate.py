"""Generation beside its peers, same random weights, one after the other: ``python -m benchmarks.generate``.

The peers are in the extra ``bench`` (llama.cpp is built from source, some minutes); those not installed are left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.generate_worker import ENGINES, NEW, PROMPT, THREADS
from benchmarks.record import write_result

VOCABULARY, HIDDEN, LAYERS, HEADS = 49152, 1024, 16, 16


def make_model(folder: Path) -> int:
    """A random GPT-BigCode with a vocabulary of nonsense; gives the bytes that a token's step reads in float32."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = GPTBigCodeConfig(
        vocab_size=VOCABULARY, n_embd=HIDDEN, n_layer=LAYERS, n_head=HEADS, n_positions=2048, multi_query=True
    )
    model = GPTBigCodeForCausalLM(config)
    model.save_pretrained(folder, safe_serialization=True)
    words = Tokenizer(models.WordLevel({f"t{index}": index for index in range(VOCABULARY)}, unk_token="t0"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="t0", bos_token="t0", eos_token="t0").save_pretrained(
        folder
    )
    return 4 * sum(weight.numel() for name, weight in model.named_parameters() if "wpe" not in name)


def read_bandwidth() -> float:
    """Bytes a second that all threads together read from memory."""
    values = np.ones(250_000_000, np.float32)
    parts = np.array_split(values, THREADS)
    best = 1e9
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(6):
            began = time.perf_counter()
            list(pool.map(lambda part: np.dot(part, part), parts))
            best = min(best, time.perf_counter() - began)
    return values.nbytes / best


def main() -> None:
    """Run all and print a table."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        step_bytes = make_model(folder)
        bandwidth = read_bandwidth()
        figures = {}
        for name in ENGINES:
            command = [sys.executable, "-m", "benchmarks.generate_worker", name, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True)
            line = next((line for line in done.stdout.splitlines() if line.startswith("FIGURES ")), None)
            if line is None:
                print(f"{name}: left out ({(done.stderr.strip().splitlines() or ['no output'])[-1]})")
                continue
            figures[name] = json.loads(line.removeprefix("FIGURES "))
    bound = bandwidth / step_bytes
    print(f"read bandwidth {bandwidth / 1e9:.1f} GB/s; float32 weights {step_bytes / 1e9:.2f} GB: {bound:.1f} tokens/s")
    print(f"{'':24} prefill {PROMPT} (s)  tokens/s  ÷ bound  batch 8 tokens/s  same tokens as transformers")
    reference = figures.get("transformers fp32", {}).get("1", {}).get("tokens")
    for name, batches in figures.items():
        one, eight = batches["1"], batches.get("8")
        rate = one["tokens_per_second"]
        several = f"{eight['tokens_per_second']:.1f}" if eight else "-"
        same = "yes" if one["tokens"] == reference else "no"
        print(f"{name:24} {one['first_token_seconds']:15.3f} {rate:9.1f} {rate / bound:8.2f} {several:>17}  {same}")
    for batches in figures.values():
        for item in batches.values():
            del item["tokens"]
    settings = {"prompt": PROMPT, "new_tokens": NEW, "threads": THREADS}
    path = write_result(
        "generate", {"settings": settings, "bandwidth": bandwidth, "bound_tokens_per_second": bound, "engines": figures}
    )
    print(f"figures in {path}")


if __name__ == "__main__":
    main()
