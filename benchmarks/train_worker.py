"""One side of the training benchmark in a process of its own, so that its peak memory is its own.

Prints one JSON line. ``python -m benchmarks.train_worker SIDE SIZE ROUNDS WEIGHTS``, SIDE one of torch, ours,
ours-recompute, torch-lora, ours-lora, and those of the first two and the last two with ``-bfloat16``. SIZE is one of
`SIZES`, or such a one with one row of another length: ``llama@8192``.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.record import peak_bytes


@dataclass(frozen=True)
class Size:
    """One architecture and batch of the comparison."""

    hidden: int
    heads: int
    layers: int
    vocab: int
    batch: int
    length: int
    family: str = "gpt_bigcode"


SIZES = {
    "large": Size(768, 12, 20, 49153, 2, 512),
    "tiny": Size(128, 4, 4, 1024, 8, 384),
    "starcoder2": Size(768, 12, 8, 49152, 2, 512, "starcoder2"),
    "llama": Size(768, 12, 8, 32000, 2, 512, "llama"),
    "long": Size(512, 8, 4, 8192, 1, 1024, "llama"),  # small enough for rows of 32k tokens on two cores
}
LONG = 8192  # tokens of a row from which one step warms up enough
RATE = 1e-4


def size_of(name: str) -> Size:
    """The size of that name."""
    base, _, length = name.partition("@")
    return replace(SIZES[base], batch=1, length=int(length)) if length else SIZES[base]


LORA_RANK, LORA_ALPHA = 16, 32.0  # on every linear layer but the head


def tokens(size: Size) -> np.ndarray:
    """The same random batch for both sides, ``[B, S + 1]``."""
    return np.random.default_rng(0).integers(0, size.vocab, (size.batch, size.length + 1)).astype(np.int32)


def huggingface_config(size: Size) -> dict:
    """``config.json`` of the family, without dropout; grouped-query attention where the family has it."""
    if size.family != "gpt_bigcode":
        return {
            "model_type": size.family,
            "vocab_size": size.vocab,
            "hidden_size": size.hidden,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.heads // 3 if size.heads % 3 == 0 else size.heads // 4,
            "intermediate_size": 4 * size.hidden if size.family == "starcoder2" else 8 * size.hidden // 3,
            "max_position_embeddings": max(1024, size.length),
            "sliding_window": 256 if size.family == "starcoder2" else None,
        }
    return {
        "model_type": size.family,
        "vocab_size": size.vocab,
        "n_embd": size.hidden,
        "n_layer": size.layers,
        "n_head": size.heads,
        "n_inner": 4 * size.hidden,
        "n_positions": max(1024, size.length),
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


def timed(step, rounds: int, length: int) -> tuple[list[float], list[float], float]:
    """Losses, seconds of each step after two to warm up (one with `LONG` rows), and the first step's seconds."""
    began = time.perf_counter()
    losses = [step()]
    first = time.perf_counter() - began
    if length < LONG:
        losses.append(step())
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        losses.append(step())
        seconds.append(time.perf_counter() - began)
    return losses, seconds, first


def run_torch(size: Size, rounds: int, weights: str, lora: bool, brain: bool) -> dict:
    """PyTorch + transformers, its default fastest choices (sdpa attention, fused AdamW).

    Args:
        brain: bfloat16 by autocast, with float32 weights; otherwise float32.
    """
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(weights)
    if lora:
        import peft

        options = peft.LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, lora_dropout=0.0, target_modules="all-linear")
        model = peft.get_peft_model(model, options)
    model.train()
    trained = [item for item in model.parameters() if item.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01, fused=True)
    batch = torch.tensor(tokens(size)).long()

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=brain):
            logits = model(input_ids=batch[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.view(-1, size.vocab), batch[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return loss.item()

    return report(size, *timed(step, rounds, size.length))


def run_ours(size: Size, rounds: int, weights: str, recompute: bool, lora: bool, brain: bool) -> dict:
    """The step of ``mindcoder finetune``; ``brain`` is ``compute_dtype: bfloat16``."""
    from mindcoder.backend.device import compile_ahead, setup_device

    setup_device("CPU")
    import mindspore as ms
    from mindspore import Tensor

    from mindcoder.checkpoint.huggingface import HuggingFaceFolder
    from mindcoder.checkpoint.load import load_weights
    from mindcoder.models.decoder import Decoder
    from mindcoder.peft.lora import add_lora
    from mindcoder.peft.options import LoraOptions
    from mindcoder.train.optimizer import AdamW, AdamWOptions
    from mindcoder.train.step import TrainStep

    config = HuggingFaceFolder(weights).transformer_config
    decoder = Decoder(replace(config, compute_dtype="bfloat16" if brain else "float32"), empty=True)
    load_weights(decoder, weights)
    if lora:
        add_lora(decoder, LoraOptions(LORA_RANK, LORA_ALPHA, target_modules=(".*",)), 0)
    train_step = TrainStep(
        decoder, AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions()), 1.0, recompute=recompute
    )
    train_step.set_train(True)
    batch = tokens(size)
    positions = np.tile(np.arange(size.length, dtype=np.int32), (size.batch, 1))
    inputs = (
        Tensor(batch[:, :-1]),
        Tensor(positions),
        Tensor(np.zeros_like(positions)),
        Tensor(batch[:, 1:]),
        Tensor(0, ms.int32),
        Tensor(RATE, ms.float32),
        Tensor(1.0, ms.float32),
        Tensor(1.0, ms.float32),
        Tensor(True),
    )
    began = time.perf_counter()
    compile_ahead(train_step, *inputs)
    compiling = time.perf_counter() - began

    def step() -> float:
        return float(train_step(*inputs)[0].asnumpy())

    result = report(size, *timed(step, rounds, size.length))
    result["first_step_s"] += compiling
    result["flops_per_token"] = decoder.config.flops_per_token(size.length)
    result["parameters"] = decoder.config.num_parameters()
    return result


def report(size: Size, losses: list[float], seconds: list[float], first: float) -> dict:
    """The figures both sides give. Memory is the process's peak resident set, the compiler's share included."""
    return {
        "losses": [round(loss, 5) for loss in losses],
        "median_step_s": float(np.median(seconds)),
        "tokens_per_s": size.batch * size.length / float(np.median(seconds)),
        "first_step_s": first,
        "peak_rss_gb": peak_bytes() / 1e9,
    }


if __name__ == "__main__":
    side, name, rounds, weights = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    if side.startswith("torch"):
        result = run_torch(size_of(name), rounds, weights, "lora" in side, "bfloat16" in side)
    else:
        result = run_ours(size_of(name), rounds, weights, "recompute" in side, "lora" in side, "bfloat16" in side)
    print(json.dumps(result))
