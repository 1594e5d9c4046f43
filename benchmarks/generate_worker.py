"""One engine in a process of its own: ``-m benchmarks.generate_worker ENGINE FOLDER``; JSON on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

THREADS, PROMPT, NEW, ROUNDS = 2, 128, 64, 3
Tokens = list[list[int]]
Answer = Callable[[Tokens, int], Tokens]  # prompts and how many tokens -> the tokens


def prompts(rows: int, vocabulary: int) -> Tokens:
    """The same random prompts for everybody."""
    import numpy as np

    return np.random.default_rng(7).integers(1, vocabulary, (rows, PROMPT)).tolist()


def mindcoder(folder: Path, dtype: str) -> Answer:
    from mindcoder.backend.device import setup_device

    setup_device("CPU", threads=THREADS)
    from dataclasses import replace

    from mindcoder.checkpoint.load import load_weights
    from mindcoder.checkpoint.weights import open_weights
    from mindcoder.generate.engine import Engine
    from mindcoder.models.decoder import Decoder

    config = replace(open_weights(folder).config.without_dropout(), param_dtype=dtype)
    decoder = Decoder(config, empty=True)
    load_weights(decoder, folder)
    engines: dict[int, Engine] = {}

    def answer(given: Tokens, count: int) -> Tokens:
        rows = len(given)
        if rows not in engines:
            # No reuse of prefixes: the same prompts are asked again.
            engines[rows] = Engine(decoder, rows, PROMPT + NEW + 1, (), config.vocab_size, reuses_prefixes=False)
        return [item.tokens for item in engines[rows].generate(given, max_new_tokens=count)]

    return answer


def transformers(folder: Path, dtype: str) -> Answer:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(THREADS)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    def answer(given: Tokens, count: int) -> Tokens:
        ids = torch.tensor(given)
        with torch.inference_mode():
            done = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                min_new_tokens=count,
                max_new_tokens=count,
                eos_token_id=None,
                pad_token_id=0,
            )
        return done[:, ids.shape[1] :].tolist()

    return answer


def ctranslate2(folder: Path, dtype: str) -> Answer:
    import ctranslate2

    converted = folder / "ctranslate2"
    if not converted.exists():
        ctranslate2.converters.TransformersConverter(str(folder)).convert(str(converted))
    generator = ctranslate2.Generator(str(converted), compute_type=dtype, intra_threads=THREADS)

    def answer(given: Tokens, count: int) -> Tokens:
        done = generator.generate_batch(
            [[f"t{token}" for token in row] for row in given],
            max_length=count,
            min_length=count,
            sampling_topk=1,
            include_prompt_in_result=False,
            return_end_token=True,
        )
        return [item.sequences_ids[0] for item in done]

    return answer


def llama_cpp(folder: Path, dtype: str) -> Answer:
    from benchmarks.llama_cpp_engine import greedy_answers

    return greedy_answers(gguf_file(folder, dtype), PROMPT + NEW + 8, THREADS)


def gguf_file(folder: Path, dtype: str) -> Path:
    """The weights as llama.cpp reads them, without a vocabulary."""
    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    quantized = {"F32": None, "F16": None, "Q8_0": gguf.GGMLQuantizationType.Q8_0}[dtype]
    path = folder / f"{dtype}.gguf"
    if path.exists():
        return path
    config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    writer = gguf.GGUFWriter(path, "starcoder")
    writer.add_name("random")
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_head_count(config["n_head"])
    writer.add_head_count_kv(1)
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config["vocab_size"])
    names = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
    inner = {
        "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    }  # fmt: skip
    tensors = {name.removeprefix("transformer."): values for name, values in tensors.items()}
    tensors.pop("lm_head.weight", None)
    tensors["output.weight"] = tensors["wte.weight"]
    for name, values in tensors.items():
        module, kind = name.rsplit(".", 1)
        if module.startswith("h."):
            _, layer, part = module.split(".", 2)
            target = f"blk.{layer}.{inner[part]}.{kind}"
        else:
            target = f"{names.get(module, module)}.{kind}"
        values = np.ascontiguousarray(values, np.float32)
        if quantized is not None and values.ndim == 2 and "position" not in target:
            writer.add_tensor(target, gguf.quants.quantize(values, quantized), raw_dtype=quantized)
        else:
            half = dtype == "F16" and values.ndim == 2 and "position" not in target
            writer.add_tensor(target, values.astype(np.float16) if half else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


ENGINES: dict[str, tuple[Callable[[Path, str], Answer], str, Sequence[int]]] = {
    "MindCoder fp32": (mindcoder, "float32", (1, 8)),
    "MindCoder fp16 weights": (mindcoder, "float16", (1, 8)),
    "transformers fp32": (transformers, "float32", (1, 8)),
    "CTranslate2 fp32": (ctranslate2, "float32", (1, 8)),
    "CTranslate2 int8": (ctranslate2, "int8", (1, 8)),
    "llama.cpp F32": (llama_cpp, "F32", (1,)),
    "llama.cpp F16": (llama_cpp, "F16", (1,)),
    "llama.cpp Q8_0": (llama_cpp, "Q8_0", (1,)),
}


def main() -> None:
    """Seconds to the first token, and tokens a second after it, for each batch."""
    make, dtype, batches = ENGINES[sys.argv[1]]
    folder = Path(sys.argv[2])
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    answer = make(folder, dtype)
    figures = {}
    for rows in batches:
        given = prompts(rows, vocabulary)
        answer(given, NEW)
        first, rate, tokens = 1e9, 0.0, []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            answer(given, 1)
            once = time.perf_counter() - began
            began = time.perf_counter()
            tokens = answer(given, NEW)
            more = time.perf_counter() - began - once
            first, rate = min(first, once), max(rate, rows * (NEW - 1) / more)
        figures[str(rows)] = {"first_token_seconds": first, "tokens_per_second": rate, "tokens": tokens}
    print("FIGURES " + json.dumps(figures))


if __name__ == "__main__":
    main()
