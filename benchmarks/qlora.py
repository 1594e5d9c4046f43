"""LoRA on a base in floats, int8, int4 and NF4, memory and time: ``python -m benchmarks.qlora [--layers 6]``.

A Llama of random weights with the width of TinyLlama 1.1B; each base in a process of its own. ``floats`` are float32,
the type in which CPU computes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import peak_bytes, write_result

HIDDEN, INNER, HEADS, KEY_HEADS, VOCAB = 2048, 5632, 32, 4, 32000
TOKENS, STEPS, RANK = 512, 4, 16
BASES = {
    "floats": None,
    "int8": {"method": "w8a16"},
    "int4": {"method": "w4a16", "group_size": 128},
    "nf4": {"method": "nf4"},
}


def make_model(folder: Path, layers: int) -> None:
    """A random Llama in float32."""
    from safetensors.numpy import save_file

    rng, keys = np.random.default_rng(0), HIDDEN // HEADS * KEY_HEADS
    shapes = {"model.embed_tokens": (VOCAB, HIDDEN), "lm_head": (VOCAB, HIDDEN)}
    for layer in range(layers):
        own = {"q": HIDDEN, "k": keys, "v": keys}
        shapes |= {f"model.layers.{layer}.self_attn.{part}_proj": (size, HIDDEN) for part, size in own.items()}
        shapes |= {f"model.layers.{layer}.self_attn.o_proj": (HIDDEN, HIDDEN)}
        shapes |= {f"model.layers.{layer}.mlp.{part}_proj": (INNER, HIDDEN) for part in ("gate", "up")}
        shapes |= {f"model.layers.{layer}.mlp.down_proj": (HIDDEN, INNER)}
    norms = ["model.norm", *(f"model.layers.{index}.{name}_layernorm" for index in range(layers)
                             for name in ("input", "post_attention"))]  # fmt: skip
    tensors = {f"{name}.weight": rng.standard_normal(shape, np.float32) * 0.02 for name, shape in shapes.items()}
    tensors |= {f"{name}.weight": np.ones(HIDDEN, np.float32) for name in norms}
    folder.mkdir()
    save_file({name: values.astype(np.float32) for name, values in tensors.items()}, folder / "model.safetensors")
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": VOCAB, "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_attention_heads": HEADS, "num_key_value_heads": KEY_HEADS,
        "num_hidden_layers": layers, "max_position_embeddings": 2048, "torch_dtype": "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))


def train(folder: Path) -> dict[str, Any]:
    """Some steps: seconds of the last ones, bytes after loading and at most."""
    import mindspore as ms
    from mindspore import Tensor

    from mindcoder.backend.device import resident_bytes, setup_device

    setup_device("CPU")
    from mindcoder.checkpoint.load import load_weights
    from mindcoder.checkpoint.weights import open_weights
    from mindcoder.models.decoder import Decoder
    from mindcoder.peft.lora import add_lora
    from mindcoder.peft.options import LoraOptions
    from mindcoder.train.optimizer import AdamW, AdamWOptions
    from mindcoder.train.step import MicroBatch, TrainStep

    decoder = Decoder(open_weights(folder).config, empty=True)
    before = resident_bytes()
    load_weights(decoder, folder)
    loaded = resident_bytes() - before
    add_lora(decoder, LoraOptions(RANK, 2.0 * RANK, target_modules=(".*",)), 3)
    decoder.set_train(True)
    trained = ms.ParameterTuple(decoder.trainable_params())
    step = TrainStep(decoder, AdamW(trained, AdamWOptions()), max_grad_norm=1.0, recompute=True)
    ids = np.random.default_rng(1).integers(0, VOCAB, (1, TOKENS)).astype(np.int32)
    places, documents = np.arange(TOKENS, dtype=np.int32)[None], np.zeros((1, TOKENS), np.int32)
    given = [Tensor(item) for item in (ids, places, documents, np.roll(ids, -1))]
    batch = MicroBatch(*given, Tensor(0, ms.int32), Tensor(1.0, ms.float32))
    seconds, losses = [], []
    for _ in range(STEPS):
        began = time.perf_counter()
        losses.append(float(step.run([batch], 1e-3, 1.0)[0]))
        seconds.append(time.perf_counter() - began)
    peak = peak_bytes()
    return {"loaded_bytes": loaded, "peak_bytes": peak, "step_seconds": min(seconds[1:]), "losses": losses}


def main() -> None:
    """Measure every base, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.base:
        print("FIGURES", json.dumps(train(arguments.base)))
        return
    import mindcoder

    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        floats = Path(place) / "floats"
        make_model(floats, arguments.layers)
        for name, options in BASES.items():
            folder = Path(place) / name
            if options is not None:
                mindcoder.quantize(floats, folder, progress=False, **options)
            command = [sys.executable, "-m", "benchmarks.qlora", "--base", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True)
            line = next((line for line in done.stdout.splitlines() if line.startswith("FIGURES ")), None)
            if line is None:
                raise SystemExit(f"{name}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
            figures[name] = own = json.loads(line.removeprefix("FIGURES "))
            print(
                f"{name:7} {own['loaded_bytes'] / 1e9:6.2f} GB loaded {own['peak_bytes'] / 1e9:6.2f} GB at most "
                f"{own['step_seconds']:7.2f} s a step  loss {own['losses'][0]:.4f} -> {own['losses'][-1]:.4f}",
                flush=True,
            )
    write_result("qlora", {"layers": arguments.layers, "tokens": TOKENS, "bases": figures})


if __name__ == "__main__":
    main()
