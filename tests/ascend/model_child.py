"""Run by the tests in a process of its own on softcann: a network's loss, gradients and a few updates, or its tokens.

``python model_child.py CASES.json``: by name, cases that name a Hugging Face folder, the inputs (``.npz``) and where to
write.
"""

from __future__ import annotations

import gc
import json
import os
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

    from mindcoder.train.objectives.preference import Preference
    from mindcoder.train.objectives.preference_loss import PreferenceOptions
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
        objective=Preference(PreferenceOptions()) if case.get("pairs") else None,
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
    batches = [MicroBatch(*arrays, seed, Tensor(1.0 / micro, ms.float32), extra)] * micro
    curve = [step.run(batches, case.get("rate", 1e-3), scale) for _ in range(case.get("steps", 0))]
    found["curve"] = np.array(curve, np.float64).reshape((-1, 2))  # loss and gradient norm
    return found


def scaled(case: dict) -> dict[str, np.ndarray]:
    """Updates with a dynamic loss scale, as the trainer makes them.

    Returns:
        ``curve``, ``[steps, 3]`` of loss, gradient norm and scale; ``kept``, whether no weight changed, ``[steps]``.
    """
    import mindspore as ms
    from mindspore import Tensor

    from mindcoder.train.optimizer import AdamW, AdamWOptions
    from mindcoder.train.precision import LossScale
    from mindcoder.train.step import MicroBatch, TrainStep

    decoder = load(case)
    optimizer = AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions(**case.get("optimizer", {})))
    step, scale = TrainStep(decoder, optimizer, loss_scaled=True), LossScale(**case["scale"])
    step.set_train(True)
    data, curve = np.load(case["inputs"]), []
    arrays = [Tensor(data[name]) for name in ("input_ids", "position_ids", "document_ids", "labels")]
    batches = [MicroBatch(*arrays, Tensor(0, ms.int32), Tensor(1.0, ms.float32))]
    before = [weight.asnumpy() for weight in step.weights]
    kept = []
    for _ in range(case["steps"]):
        loss, norm = step.run(batches, case["rate"], scale.value)
        curve.append((loss, norm, scale.value))
        after = [weight.asnumpy() for weight in step.weights]
        kept.append(all(np.array_equal(old, new) for old, new in zip(before, after)))
        before = after
        scale.update(bool(np.isfinite(norm)))
    return {"curve": np.array(curve, np.float64), "kept": np.array(kept)}


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


def requests(case: dict) -> dict[str, np.ndarray]:
    """Phases of requests through one engine, the requests of a phase together.

    Returns:
        For each phase ``answers`` (padded with -1), ``logprobs`` of the chosen tokens, ``reused`` prompt tokens of each
        request, and ``computed``, the tokens that the network was given.
    """
    from mindcoder.checkpoint.weights import open_adapter
    from mindcoder.generate.engine import Engine
    from mindcoder.generate.request import Request
    from mindcoder.generate.sampler import SamplingOptions

    decoder, found, given = load(case), {}, [0]
    decoder.set_train(False)
    adapters = {name: open_adapter(Path(folder), decoder.config) for name, folder in case["adapters"].items()}
    engine = Engine(
        decoder,
        batch=case["batch"],
        max_length=case["max_length"],
        stop_ids=(),
        vocab_size=decoder.config.vocab_size,
        longest_prompt=case["chunk"],
        adapters=adapters,
    )
    run = engine.runner.run

    def counted(pieces):
        given[0] += sum(len(piece.tokens) for piece in pieces)
        return run(pieces)

    engine.runner.run = counted
    for phase, asked in enumerate(case["phases"]):
        given[0], logprobs = 0, {}
        sequences = []
        for row, one in enumerate(asked):
            options = SamplingOptions(**one.get("options", {}))
            prompt = tuple(one["prompt"])
            request = Request(prompt, options, case["new_tokens"], logprobs=1, row=row, adapter=one.get("adapter"))
            sequences.append(engine.submit(request))
        while engine.busy:
            for event in engine.step():
                if event.choice is not None:
                    logprobs.setdefault(id(event.sequence), []).append(event.choice.logprob)
        found[f"answers.{phase}"] = np.array([sequence.answer for sequence in sequences])
        found[f"logprobs.{phase}"] = np.array([logprobs[id(sequence)] for sequence in sequences])
        found[f"reused.{phase}"] = np.array([sequence.reused for sequence in sequences])
        found[f"computed.{phase}"] = np.array(given[0])
    return found | {"chunk": np.array(engine.chunk)}


WHAT = {"train": train, "generate": generate, "dropped": dropped, "requests": requests, "scaled": scaled}


def main() -> None:
    """Compute the file's cases; beside it goes which part of the emulator's log is each one's."""
    file = Path(sys.argv[1])
    cases, log, ranges = json.loads(file.read_text(encoding="utf-8")), Path(os.environ["SOFTCANN_LOG"]), {}
    setup_device("Ascend")
    for name, case in cases.items():
        begin = log.stat().st_size
        np.savez(case["output"], **WHAT[case["what"]](case))
        ranges[name] = (begin, log.stat().st_size)
        gc.collect()  # the case's network
    Path(f"{file}.log").write_text(json.dumps(ranges), encoding="utf-8")


if __name__ == "__main__":
    main()
