"""Weights of 8 and 4 bits, activations and caches of 8, beside floats and peers.

``python -m benchmarks.quantize [bigcode|llama ...]``

Random weights, one engine after the other, each in a process of its own. The bound of decoding is the memory's: a step
reads all weights once. ``--engines 'MindCoder int8,…'`` measures some of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.generate import read_bandwidth
from benchmarks.quantize_worker import ENGINES, LONG, SHORT, THREADS
from benchmarks.record import RESULTS, write_result

MODELS = ("bigcode", "llama")


def make_model(name: str, folder: Path) -> None:
    """A random GPT-BigCode of 222 M parameters or a Llama of 1.1 B, in float16, with a vocabulary of nonsense."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import (
        GPTBigCodeConfig,
        GPTBigCodeForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(0)
    if name == "bigcode":
        config = GPTBigCodeConfig(vocab_size=49152, n_embd=1024, n_layer=16, n_head=16, n_positions=2304)
        model = GPTBigCodeForCausalLM(config)
    else:
        config = LlamaConfig(
            vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
            num_key_value_heads=4, max_position_embeddings=2304,
        )  # fmt: skip
        model = LlamaForCausalLM(config)
    model.half().save_pretrained(folder, safe_serialization=True)
    words = Tokenizer(models.WordLevel({f"t{index}": index for index in range(config.vocab_size)}, unk_token="t0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="t0", bos_token="t0", eos_token="t0")
    tokenizer.save_pretrained(folder)


def measure(name: str, engines: list[str], bandwidth: float) -> dict[str, Any]:
    """Figures of each engine that is there."""
    figures = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        make_model(name, folder)
        for engine in engines:
            command = [sys.executable, "-m", "benchmarks.quantize_worker", engine, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True)
            line = next((line for line in done.stdout.splitlines() if line.startswith("FIGURES ")), None)
            if line is None:
                print(f"{engine}: left out ({(done.stderr.strip().splitlines() or ['no output'])[-1]})")
                continue
            figures[engine] = own = json.loads(line.removeprefix("FIGURES "))
            own["share_of_bound"] = own["tokens_per_second_1"] * own["step_bytes"] / bandwidth
            eight = f"{own['tokens_per_second_8']:8.1f}" if "tokens_per_second_8" in own else f"{'':8}"
            print(
                f"{name:8} {engine:30} {own[f'prefill_{SHORT}']:8.3f} {own[f'prefill_{LONG}']:8.2f} s"
                f" {own['tokens_per_second_1']:8.1f} {eight} tokens/s"
                f" {own['step_bytes'] / 1e9:6.2f} GB a step {own['share_of_bound']:6.1%}"
                f" {own['memory'] / 1e9:6.2f} GB",
                flush=True,
            )
    return figures


def main() -> None:
    """Run all, print a table; figures of models and engines that are not asked for stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS, choices=MODELS)
    parser.add_argument("--engines", default=",".join(ENGINES), help="names, with commas between them")
    arguments = parser.parse_args()
    engines = arguments.engines.split(",")
    file = RESULTS / "quantize.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    models = kept.get("models", {})
    bandwidth = read_bandwidth()
    print(f"{'model':8} {'engine':30} prefill {SHORT}, {LONG}; decode, batch 1, 8; read {bandwidth / 1e9:.1f} GB/s")
    for name in arguments.models:
        models.setdefault(name, {}).update(measure(name, engines, bandwidth))
        settings = {"threads": THREADS, "prompt": SHORT, "long_prompt": LONG, "bandwidth": bandwidth}
        path = write_result("quantize", {"settings": settings, "models": models})
    print(f"figures in {path}")


if __name__ == "__main__":
    main()
