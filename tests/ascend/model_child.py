"""Run by the tests in a process of its own on softcann: a network's loss, gradients and a few updates, or its tokens.

``python model_child.py CASE.json``: the case names a Hugging Face folder, the inputs (``.npz``) and where to write.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from mindcoder.backend.device import setup_device


def load(case: dict):
    """The folder's network with the case's dtypes and dropout."""
    from mindcoder.checkpoint.huggingface import HuggingFaceFolder
    from mindcoder.checkpoint.load import load_weights
    from mindcoder.models.decoder import Decoder

    config = replace(HuggingFaceFolder(Path(case["folder"])).transformer_config, **case["config"])
    decoder = Decoder(config, empty=True)
    load_weights(decoder, case["folder"])
    return decoder


def train(case: dict) -> dict[str, np.ndarray]:
    """Losses and gradient norms of ``case["steps"]`` updates on one batch; before them, if asked, all gradients."""
    import mindspore as ms
    from mindspore import Tensor

    from mindcoder.models.preference_loss import PreferenceOptions
    from mindcoder.train.optimizer import AdamW, AdamWOptions
    from mindcoder.train.step import MicroBatch, TrainStep

    class Gradients(ms.nn.Cell):
        def __init__(self, step: TrainStep) -> None:
            super().__init__(auto_prefix=False)
            self.step = step

        def construct(self, ids, positions, documents, labels, seed, scale, *extra):
            return self.step.gradients(ids, positions, documents, labels, seed, scale, *extra)

    decoder = load(case)
    adapt(decoder, case)
    optimizer = AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions(**case.get("optimizer", {})))
    step = TrainStep(
        decoder,
        optimizer,
        case.get("clip", 0.0),
        accumulates=bool(case.get("accumulates")),
        loss_scaled=case.get("loss_scale", 1.0) != 1.0,
        recompute=case["recompute"],
        preference=PreferenceOptions() if case.get("pairs") else None,
    )
    step.set_train(True)
    data = np.load(case["inputs"])
    arrays = [Tensor(data[name]) for name in ("input_ids", "position_ids", "document_ids", "labels")]
    seed, scale = Tensor(case.get("seed", 0), ms.int32), case.get("loss_scale", 1.0)
    extra = (Tensor(np.zeros((len(data["labels"]), 2), np.float32)),) if case.get("pairs") else ()
    found = {}
    if case.get("gradients"):
        loss, gradients = Gradients(step)(*arrays, seed, Tensor(scale, ms.float32), *extra)
        found["loss"] = loss.asnumpy()
        for weight, gradient in zip(step.weights, gradients):
            found[f"gradient.{weight.name}"] = gradient.astype(ms.float32).asnumpy() / scale
    micro = 2 if case.get("accumulates") else 1
    batches = [MicroBatch(*arrays, seed, Tensor(1.0 / micro, ms.float32), *extra)] * micro
    curve = [step.run(batches, case.get("rate", 1e-3), scale) for _ in range(case.get("steps", 0))]
    found["curve"] = np.array(curve, np.float64).reshape((-1, 2))  # loss and gradient norm
    return found


def dropped(case: dict) -> dict[str, np.ndarray]:
    """Hidden states for each of ``case["seeds"]`` in training, then without dropout."""
    import mindspore as ms
    from mindspore import Tensor

    decoder, data, found = load(case), np.load(case["inputs"]), []
    arrays = [Tensor(data[name]) for name in ("input_ids", "position_ids", "document_ids")]
    decoder.set_train(True)
    for seed in case["seeds"]:
        found.append(decoder(*arrays, Tensor(seed, ms.int32)).astype(ms.float32).asnumpy())
    decoder.set_train(False)
    found.append(decoder(*arrays, Tensor(0, ms.int32)).astype(ms.float32).asnumpy())
    return {"hidden": np.array(found)}


def adapt(decoder, case: dict) -> None:
    """Add the case's adapter."""
    if case.get("lora"):
        from mindcoder.peft.lora import add_lora
        from mindcoder.peft.options import LoraOptions

        add_lora(decoder, LoraOptions(4, 8.0, target_modules=(".*",), dropout=case["lora"]), 0)
    if case.get("prefix"):
        from mindcoder.peft.options import PrefixOptions
        from mindcoder.peft.prefix import add_prefix

        add_prefix(decoder, PrefixOptions(tokens=case["prefix"]), 0)


def generate(case: dict) -> dict[str, np.ndarray]:
    """Greedy tokens of ragged prompts through the engine."""
    from mindcoder.generate.engine import Engine

    decoder = load(case)
    decoder.set_train(False)
    prompts, new_tokens = case["prompts"], case["new_tokens"]
    engine = Engine(
        decoder,
        batch=case["batch"],
        max_length=max(map(len, prompts)) + new_tokens + 8,
        stop_ids=(),
        vocab_size=decoder.config.vocab_size,
        longest_prompt=case["chunk"],
    )
    completions = engine.generate(prompts, max_new_tokens=new_tokens)
    return {"tokens": np.array([item.tokens for item in completions]), "chunk": np.array(engine.chunk)}


def main() -> None:
    case = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    setup_device(case.get("device", "Ascend"))
    found = {"train": train, "generate": generate, "dropped": dropped}[case["what"]](case)
    np.savez(case["output"], **found)


if __name__ == "__main__":
    main()
