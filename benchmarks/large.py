"""A model of random weights that fills the machine, quantized by streaming, and what it answers with:
``python -m benchmarks.large FOLDER [--layers 40] [--method w8a16]``.

The sizes are WizardCoder 15B's (31 GB in float16, 16 GB in int8), with fewer layers if asked. Weights are written layer
by layer. FOLDER, which must not exist yet, needs room for both; the floats are removed when they are quantized, and all
of it at the end. Peak memory is that of a process of its own for each step.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import peak_bytes, write_result

HIDDEN, HEADS, POSITIONS, VOCAB, LAYERS = 6144, 48, 8192, 49152, 40
BLOCK = (1 << 24) + 43  # random numbers, repeated
PROMPT, NEW = 128, 32  # tokens
SPARE = 3e9  # bytes beside the weights: the process, the cache, other programs


def shapes(layers: int) -> list[dict[str, tuple[int, ...]]]:
    """Hugging Face's tensors of GPT-BigCode, in the order of files: the embeddings, a layer each, the last norm."""
    head = HIDDEN // HEADS
    own = {
        "ln_1.weight": (HIDDEN,),
        "ln_1.bias": (HIDDEN,),
        "attn.c_attn.weight": (HIDDEN + 2 * head, HIDDEN),
        "attn.c_attn.bias": (HIDDEN + 2 * head,),
        "attn.c_proj.weight": (HIDDEN, HIDDEN),
        "attn.c_proj.bias": (HIDDEN,),
        "ln_2.weight": (HIDDEN,),
        "ln_2.bias": (HIDDEN,),
        "mlp.c_fc.weight": (4 * HIDDEN, HIDDEN),
        "mlp.c_fc.bias": (4 * HIDDEN,),
        "mlp.c_proj.weight": (HIDDEN, 4 * HIDDEN),
        "mlp.c_proj.bias": (HIDDEN,),
    }
    files: list[dict[str, tuple[int, ...]]] = [
        {"transformer.wte.weight": (VOCAB, HIDDEN), "transformer.wpe.weight": (POSITIONS, HIDDEN)}
    ]
    files += [{f"transformer.h.{layer}.{name}": shape for name, shape in own.items()} for layer in range(layers)]
    return [*files, {"transformer.ln_f.weight": (HIDDEN,), "transformer.ln_f.bias": (HIDDEN,)}]


def write_model(folder: Path, layers: int) -> int:
    """Write the floats, and a vocabulary of nonsense; the bytes of all tensors."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models

    folder.mkdir(parents=True)
    numbers = (np.random.default_rng(0).standard_normal(BLOCK, np.float32) * 0.02).astype(np.float16)
    weight_map, total, at = {}, 0, 0
    for index, tensors in enumerate(shapes(layers)):
        file, values = f"model-{index:05d}.safetensors", {}
        for name, shape in tensors.items():
            size = int(np.prod(shape))
            values[name] = np.resize(np.roll(numbers, -at), shape)
            if name.split(".")[-2].startswith("ln_"):
                values[name] = np.full(shape, name.endswith("weight"), np.float16)
            at, total, weight_map[name] = (at + size) % BLOCK, total + 2 * size, file
        save_file(values, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config = {
        "model_type": "gpt_bigcode", "architectures": ["GPTBigCodeForCausalLM"], "n_embd": HIDDEN, "n_layer": layers,
        "n_head": HEADS, "n_positions": POSITIONS, "n_inner": 4 * HIDDEN, "vocab_size": VOCAB, "multi_query": True,
        "activation_function": "gelu_pytorch_tanh", "torch_dtype": "float16", "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    Tokenizer(models.WordLevel({f"t{index}": index for index in range(VOCAB)}, unk_token="t0")).save(
        str(folder / "tokenizer.json")
    )
    special = dict.fromkeys(("unk_token", "bos_token", "eos_token"), "t0")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}))
    return total


def memory_there() -> float:
    """Bytes that programs may take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1e3 * next(float(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def quantize(source: Path, target: Path, method: str) -> dict[str, Any]:
    """The step in a process: seconds."""
    import mindcoder

    done = mindcoder.quantize(source, target, method=method, progress=False)
    return {"quantize_seconds": done.seconds, "quantized_bytes": done.report.bytes_after}


def answer(folder: Path) -> dict[str, Any]:
    """The step in a process: seconds of loading and of a prompt, tokens a second."""
    import mindcoder

    began = time.perf_counter()
    model = mindcoder.load(folder, dtype="float16", max_length=PROMPT + NEW + 16, batch=1)
    loaded = time.perf_counter() - began
    prompt = list(range(1, PROMPT + 1))
    began = time.perf_counter()
    model.generate([prompt], max_new_tokens=1)
    first = time.perf_counter() - began
    began = time.perf_counter()
    found = model.generate([[*prompt[1:], 7]], max_new_tokens=NEW)[0]
    rest = time.perf_counter() - began - first
    tokens = len(found.tokens) - 1
    return {"load_seconds": loaded, "prefill_seconds": first, "tokens_per_second": tokens / max(rest, 1e-9)}


def apart(*words: object) -> dict[str, Any]:
    """Run a step in a process of its own; its figures, and its peak of memory."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.large", *map(str, words), "--step"], capture_output=True, text=True
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("FIGURES ")), None)
    if line is None:
        raise SystemExit(f"{words[0]}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    return json.loads(line.removeprefix("FIGURES "))


def main() -> None:
    """Run the steps, print and write their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--method", default="w8a16")
    parser.add_argument("--step", nargs="?", const="answer", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    floats, integers = arguments.folder / "floats", arguments.folder / "quantized"
    if arguments.step:
        figures = answer(integers) if integers.is_dir() else quantize(floats, integers, arguments.method)
        peak = peak_bytes()
        print("FIGURES", json.dumps({**figures, "peak_bytes": peak}))
        return
    words = (arguments.folder, "--method", arguments.method)
    arguments.folder.mkdir(parents=True)  # one that is there is not ours to remove
    try:
        began = time.perf_counter()
        size = write_model(floats, arguments.layers)
        print(f"{size / 1e9:.1f} GB of floats written in {time.perf_counter() - began:.0f} s", flush=True)
        quantized = apart(*words)
        shutil.rmtree(floats)
        print(
            f"quantized in {quantized['quantize_seconds']:.0f} s to {quantized['quantized_bytes'] / 1e9:.2f} GB, "
            f"at most {quantized['peak_bytes'] / 1e9:.2f} GB in memory",
            flush=True,
        )
        if memory_there() < quantized["quantized_bytes"] + SPARE:
            raise SystemExit(f"only {memory_there() / 1e9:.1f} GB of memory are there: it is not loaded")
        answered = apart(*words)
        print(
            f"loaded in {answered['load_seconds']:.0f} s, a prompt of {PROMPT} tokens in "
            f"{answered['prefill_seconds']:.1f} s, {answered['tokens_per_second']:.2f} tokens/s, at most "
            f"{answered['peak_bytes'] / 1e9:.2f} GB in memory"
        )
        figures = {"float_bytes": size, "quantize": quantized, "answer": answered}
        name = f"large_{arguments.layers}_layers_{arguments.method}"
        write_result(name, figures)
    finally:
        shutil.rmtree(arguments.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
