"""One engine in a process of its own: ``-m benchmarks.quantize_worker ENGINE FOLDER``; JSON on stdout."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

THREADS, SHORT, LONG, NEW, GROUP = 2, 128, 2048, 33, 128
Tokens = list[list[int]]


@dataclass(frozen=True)
class Loaded:
    """A model that is ready.

    Attributes:
        answer: prompts and how many tokens -> the tokens.
        step_bytes: that a decode step reads of the weights.
        batches: how many prompts it answers together.
    """

    answer: Callable[[Tokens, int], Tokens]
    step_bytes: int
    batches: tuple[int, ...] = (1, 8)


def mindcoder(folder: Path, kind: str) -> Loaded:
    """Ours; weights that are not quantized are float16 beside integers."""
    from mindcoder.backend.device import setup_device

    setup_device("CPU", threads=THREADS)
    from benchmarks.integer_weights import to_integers, to_w8a8
    from mindcoder.checkpoint.load import load_weights
    from mindcoder.checkpoint.weights import open_weights
    from mindcoder.generate.engine import Engine
    from mindcoder.models.decoder import Decoder

    config = open_weights(folder).config.without_dropout()
    decoder = Decoder(replace(config, param_dtype="float32" if kind == "float32" else "float16"), empty=True)
    load_weights(decoder, folder)
    kind, _, cache = kind.partition(" kv ")
    decoder.kv_cache = cache or decoder.kv_cache
    if kind == "w8a8":
        to_w8a8(decoder)
    elif kind.startswith("int"):
        bits = int(kind.removeprefix("int"))
        to_integers(decoder, bits, GROUP if bits == 4 else 0)
    engines: dict[int, Engine] = {}

    def answer(given: Tokens, count: int) -> Tokens:
        rows = len(given)
        if rows not in engines:
            length = (SHORT if rows > 1 else LONG - 1) + NEW
            engines[rows] = Engine(decoder, rows, length, (), config.vocab_size, reuses_prefixes=False)
        return [item.tokens for item in engines[rows].generate(given, max_new_tokens=count)]

    # An untied table of tokens and the positions give a row a step.
    tables = [decoder.position_embedding] + ([] if config.tied_head else [decoder.token_embedding])
    unread = {id(table.weight) for table in tables if table is not None}
    read = sum(weight.nbytes for weight in decoder.get_parameters() if id(weight) not in unread)
    return Loaded(answer, read)


def transformers(folder: Path, kind: str) -> Loaded:
    """PyTorch's."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(THREADS)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, kind)).eval()

    def answer(given: Tokens, count: int) -> Tokens:
        ids = torch.tensor(given)
        with torch.inference_mode():
            done = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=count, max_new_tokens=count,
                eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        return done[:, ids.shape[1] :].tolist()

    return Loaded(answer, 4 * read_numbers(folder))


def ctranslate2(folder: Path, kind: str) -> Loaded:
    """With its own int8: of activations, too, and of the head."""
    import ctranslate2

    converted = folder / "ctranslate2"
    if not converted.exists():
        ctranslate2.converters.TransformersConverter(str(folder)).convert(str(converted), quantization="float16")
    generator = ctranslate2.Generator(str(converted), compute_type=kind, intra_threads=THREADS)

    def answer(given: Tokens, count: int) -> Tokens:
        done = generator.generate_batch(
            [[f"t{token}" for token in row] for row in given], max_length=count, min_length=count, sampling_topk=1,
            include_prompt_in_result=False, return_end_token=True,
        )  # fmt: skip
        return [item.sequences_ids[0] for item in done]

    return Loaded(answer, (1 if kind == "int8" else 4) * read_numbers(folder))


def llama_cpp(folder: Path, kind: str) -> Loaded:
    """llama.cpp, one prompt at a time, from the GGUF file that `mindcoder.convert` writes."""
    import mindcoder
    from benchmarks.llama_cpp_engine import greedy_answers

    file, bare = folder / f"{kind}.gguf", folder / "bare"
    if not file.exists():
        bare.mkdir(exist_ok=True)  # a folder without the vocabulary of nonsense
        for source in (folder / "config.json", *folder.glob("*.safetensors*")):
            if not (bare / source.name).exists():
                (bare / source.name).symlink_to(source)
        mindcoder.convert(bare, file, gguf_type=kind, progress=False)
    return Loaded(greedy_answers(file, LONG + NEW, THREADS), file.stat().st_size, (1,))


def read_numbers(folder: Path) -> int:
    """Weights that a decode step reads, from the folder's configuration and files."""
    from safetensors import safe_open

    config, total = json.loads((folder / "config.json").read_text()), 0
    unread = {"transformer.wpe.weight"} | (
        set() if config.get("tie_word_embeddings", True) else {"model.embed_tokens.weight"}
    )
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "numpy") as tensors:
            total += sum(int(np.prod(tensors.get_slice(name).get_shape())) for name in set(tensors.keys()) - unread)
    return total


ENGINES: dict[str, tuple[Callable[[Path, str], Loaded], str]] = {
    "MindCoder float32": (mindcoder, "float32"),
    "MindCoder float16": (mindcoder, "float16"),
    "MindCoder int8": (mindcoder, "int8"),
    f"MindCoder int4 g{GROUP}": (mindcoder, "int4"),
    "MindCoder w8a8": (mindcoder, "w8a8"),
    "MindCoder w8a8 KV int8": (mindcoder, "w8a8 kv int8"),
    "llama.cpp Q8_0": (llama_cpp, "q8_0"),
    "llama.cpp Q4_0": (llama_cpp, "q4_0"),
    "llama.cpp Q4_K_M": (llama_cpp, "q4_k_m"),
    "CTranslate2 float32": (ctranslate2, "float32"),
    "CTranslate2 int8": (ctranslate2, "int8"),
    "transformers float32": (transformers, "float32"),
}


def memory() -> int:
    """Bytes of memory that this process holds."""
    return 1024 * int(re.search(r"VmRSS:\s*(\d+)", Path("/proc/self/status").read_text()).group(1))


def main() -> None:
    """Seconds of a prefill, and tokens a second after it."""
    make, kind = ENGINES[sys.argv[1]]
    folder = Path(sys.argv[2])
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    loaded = make(folder, kind)

    def prompts(rows: int, length: int) -> Tokens:
        return np.random.default_rng(7).integers(1, vocabulary, (rows, length)).tolist()

    def seconds(given: Tokens, count: int, rounds: int) -> float:
        best = 1e9
        for _ in range(rounds):
            began = time.perf_counter()
            loaded.answer(given, count)
            best = min(best, time.perf_counter() - began)
        return best

    figures: dict[str, float] = {"step_bytes": loaded.step_bytes}
    for rows in loaded.batches:
        given = prompts(rows, SHORT)
        loaded.answer(given, 3)  # compiles
        first = seconds(given, 1, 2)
        figures[f"tokens_per_second_{rows}"] = rows * (NEW - 1) / (seconds(given, NEW, 2) - first)
        if rows == 1:
            figures[f"prefill_{SHORT}"] = first
    figures["memory"] = memory()
    figures[f"prefill_{LONG}"] = seconds(prompts(1, LONG - 1), 1, 1)
    print("FIGURES " + json.dumps(figures))


if __name__ == "__main__":
    main()
