"""DPO and SimPO against trl on PyTorch; runs on pairs from the command line."""

from __future__ import annotations

import json
from subprocess import CompletedProcess
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
import torch
from command import mindcoder
from conftest import SAMPLES
from families import VOCAB, Gradients
from mindspore import Tensor

from mindcoder.data.encode import Example
from mindcoder.data.packing import pack
from mindcoder.data.readers import BadRecord, Pair, read_records
from mindcoder.families.registry import family_of
from mindcoder.train.objectives.pair_scores import PairStep
from mindcoder.train.objectives.preference import Preference
from mindcoder.train.objectives.preference_loss import PreferenceOptions
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import TrainStep

OPTIONS = {
    "dpo": PreferenceOptions("dpo", 0.3),
    "dpo, smoothed": PreferenceOptions("dpo", 0.3, label_smoothing=0.2),
    "simpo": PreferenceOptions("simpo", 2.0, gamma=0.6),
}
LENGTH = 48


def random_pairs(rng, count: int):
    """Rows of two documents with the same prompt; ids and first answer position of each document."""
    rows, singles = [], []
    for _ in range(count):
        prompt = rng.integers(1, VOCAB, rng.integers(3, 8))
        examples = []
        for _ in range(2):
            answer = rng.integers(1, VOCAB, rng.integers(4, 14))
            ids = np.concatenate([prompt, answer]).astype(np.int32)
            labels = ids.copy()
            labels[: len(prompt)] = -100
            examples.append(Example(ids, labels, False))
            singles.append((ids, len(prompt)))
        rows.append(pack(examples, LENGTH, 0))
    columns = [np.stack([getattr(row, name) for row in rows]) for name in ("input_ids", "position_ids", "document_ids")]
    labels = np.stack([row.labels for row in rows])
    shifted = np.full_like(labels, -100)
    shifted[:, :-1] = labels[:, 1:]
    return [Tensor(item) for item in (*columns, shifted)], singles


def torch_logps(model, singles) -> torch.Tensor:
    """Log-probability of every answer, one text at a time: ``[2 * pairs]``."""
    sums = []
    for ids, start in singles:
        tokens = torch.tensor(ids).long()[None]
        logps = torch.log_softmax(model(tokens).logits[0], -1)
        sums.append(logps[start - 1 : -1].gather(1, tokens[0, start:, None]).sum())
    return torch.stack(sums)


def trl_losses(options, logps, reference, lengths):
    """trl's own functions on PyTorch's log-probabilities."""
    trl = pytest.importorskip("trl")
    chosen, rejected = logps[0::2], logps[1::2]
    if options.kind == "dpo":
        trainer = SimpleNamespace(
            accelerator=SimpleNamespace(device="cpu"), reference_free=False, beta=options.beta, f_divergence_type=None,
            label_smoothing=options.label_smoothing, use_weighting=False, f_divergence_params={},
            aux_loss_enabled=False,
        )  # fmt: skip
        return trl.DPOTrainer.dpo_loss(trainer, chosen, rejected, reference[0::2], reference[1::2])[0]
    trainer = SimpleNamespace(
        alpha=0.0, accelerator=SimpleNamespace(device="cpu"), loss_type="simpo", beta=options.beta,
        simpo_gamma=options.gamma, label_smoothing=options.label_smoothing,
    )  # fmt: skip
    return trl.CPOTrainer.cpo_loss(trainer, chosen / lengths[0::2], rejected / lengths[1::2])[0]


# `make test` has every loss with one family: how a family computes is the same for each.
CASES = [
    ("dpo", "gpt_bigcode", False),
    ("dpo", "llama", True),
    ("dpo, smoothed", "gpt_bigcode", False),
    ("simpo", "llama", True),
]
OTHERS = [("dpo, smoothed", "llama", True), ("simpo", "gpt_bigcode", False)]


@pytest.mark.parametrize(
    "case, family, recompute", [*CASES, *(pytest.param(*item, marks=pytest.mark.long) for item in OTHERS)]
)
def test_loss_and_gradients_equal_trls(case, family, recompute, hf_folder, rng):
    options = OPTIONS[case]
    model, decoder, _ = hf_folder(family, layers=1)
    inputs, singles = random_pairs(rng, 3)
    logps = torch_logps(model, singles)
    lengths = torch.tensor([len(ids) - start for ids, start in singles])
    reference = logps.detach() + torch.tensor(rng.standard_normal(6), dtype=torch.float32)
    expected = trl_losses(options, logps, reference, lengths).mean()
    model.zero_grad()
    expected.backward()

    sums, counts = PairStep(decoder)(*inputs)
    np.testing.assert_allclose(sums.asnumpy().reshape(-1), logps.detach().numpy(), rtol=1e-5, atol=1e-4)
    assert counts.asnumpy().reshape(-1).tolist() == lengths.tolist()
    optimizer = AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions())
    step = TrainStep(decoder, optimizer, recompute=recompute, objective=Preference(options))
    pairs = Tensor(reference.numpy().reshape(-1, 2))
    loss, grads = PairGradients(step)(*inputs, Tensor(0, ms.int32), Tensor(1.0, ms.float32), pairs)
    assert abs(float(loss.asnumpy()) - float(expected)) < 1e-5
    weights = family_of(decoder.config.model_type).weights
    named = dict(model.named_parameters())
    wanted = {}
    for rule in weights.expand(decoder.config):
        wanted.update(weights.to_ours(rule, named[rule.huggingface].grad.numpy(), decoder.config))
    for weight, gradient in zip(step.weights, grads):
        norm = max(np.linalg.norm(wanted[weight.name]), 1e-3)
        assert np.linalg.norm(gradient.asnumpy() - wanted[weight.name]) / norm < 1e-4, weight.name


class PairGradients(Gradients):
    """`Gradients` with the reference behind."""

    def construct(self, ids, positions, documents, labels, seed, scale, reference):
        return self.step.gradients(ids, positions, documents, labels, seed, scale, reference)


def test_pairs_are_read_in_the_forms_they_come_in(tmp_path):
    def turns(answer):
        return [{"role": "user", "content": "Q"}, {"role": "assistant", "content": answer}]

    records = [
        {"instruction": "Q", "input": "", "chosen": "good", "rejected": "bad"},
        {"prompt": "Q", "chosen": "good", "rejected": "bad"},
        {"chosen": turns("good"), "rejected": turns("bad")},
        {"prompt": [{"role": "user", "content": "Q"}], "chosen": "good", "rejected": "bad"},
        {"prompt": "Q", "chosen": "same", "rejected": "same"},
        {"chosen": "good", "rejected": "bad"},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    found = list(read_records(file))
    for record in found[:4]:
        assert isinstance(record, Pair) and record.texts() == ("Q", "", "good", "bad")
    assert isinstance(found[4], BadRecord) and "are the same" in found[4].reason
    assert isinstance(found[5], BadRecord) and "expected a text" in found[5].reason


SIZES = {
    "runner_config.batch_size": 4,
    "model.model_config.seq_length": 512,
    "model.model_config.n_position": 512,
    "model.model_config.vocab_size": 700,
    "model.model_config.pad_token_id": 699,
    "model.model_config.hidden_size": 32,
    "model.model_config.num_layers": 1,
    "lr_schedule.learning_rate": 3e-3,
    "lr_schedule.warmup_steps": 0,
}
LORA = {"model.model_config.pet_config.lora_rank": 4, "model.model_config.pet_config.target_modules": ".*"}


def finetune(data, output, *flags, **sets) -> CompletedProcess:
    settings = [text for key, value in {**SIZES, **sets}.items() for text in ("--set", f"{key}={value}")]
    config = ("--config", "configs/wizardcoder/tiny_finetune.yaml", "--train_data", data, "--output_dir", output)
    return mindcoder("finetune", *config, *settings, *flags)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tokenizer_folder):
    """A base model, and pairs of the samples' answers against the same answers backwards."""
    folder = tmp_path_factory.mktemp("pairs")
    samples = json.loads(SAMPLES.read_text(encoding="utf-8"))
    pairs = [
        {"instruction": item["instruction"], "chosen": item["output"][:80], "rejected": item["output"][:80][::-1]}
        for item in samples
    ]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    for name, source, flag in (("texts", SAMPLES, "--packing"), ("pairs", folder / "pairs.json", "--pairs")):
        vocabulary = ("--vocab_file", tokenizer_folder / "tokenizer.json", "--seq_length", 512)
        done = mindcoder(
            "preprocess", "--input_glob", source, *vocabulary, "--output_file", folder / f"{name}.mindrecord", flag
        )
        assert done.returncode == 0, done.stderr
    base = finetune(folder / "texts.mindrecord", folder / "base", **{"runner_config.epochs": 2})
    assert base.returncode == 0, base.stderr
    return folder


def share(screen: str) -> float:
    return float(screen.split("likelier one in ")[1].split(" %")[0])


@pytest.mark.parametrize("kind", ["dpo", pytest.param("simpo", marks=pytest.mark.long)])
def test_an_adapter_learns_which_answers_are_preferred_and_resumes(kind, workspace, tmp_path):
    sets = {
        "preference.type": kind,
        "preference.beta": 0.5,
        "runner_config.epochs": 4,
        "callbacks.1.save_checkpoint_steps": 20,
        "callbacks.1.keep_checkpoint_max": 9,
        **LORA,
    }
    start = ("--load_checkpoint", workspace / "base")
    done = finetune(workspace / "pairs.mindrecord", tmp_path / "run", *start, **sets)
    assert done.returncode == 0, done.stderr
    curve = (tmp_path / "run" / "curves" / "loss.csv").read_text().splitlines()[1:]
    losses = [float(line.split(",")[2]) for line in curve]
    if kind == "dpo":
        assert losses[0] == pytest.approx(np.log(2), abs=1e-5)  # the adapter starts as the reference itself
    assert losses[-1] < losses[0] - 0.02 and share(done.stderr) > 90
    for step in sorted((tmp_path / "run" / "checkpoint").iterdir())[1:]:
        for file in step.iterdir():
            file.unlink()
        step.rmdir()
    again = finetune(workspace / "pairs.mindrecord", tmp_path / "run", *start, "--resume", **sets)
    assert again.returncode == 0 and "resuming after step 20" in again.stderr, again.stderr
    repeated = (tmp_path / "run" / "curves" / "loss.csv").read_text().splitlines()[1:]
    assert [float(line.split(",")[2]) for line in repeated] == losses


def test_pairs_and_texts_are_not_taken_for_each_other(workspace, tmp_path):
    def line(done) -> str:
        assert done.returncode == 2, done.stderr
        return done.stderr.strip().splitlines()[-1]

    start = ("--load_checkpoint", workspace / "base")
    assert "holds pairs of answers: add a preference section" in line(
        finetune(workspace / "pairs.mindrecord", tmp_path / "x", *start)
    )
    dpo = {"preference.type": "dpo"}
    assert "holds no pairs; preprocess it with --pairs" in line(
        finetune(workspace / "texts.mindrecord", tmp_path / "x", *start, **dpo)
    )
    assert "need a model to start from" in line(finetune(workspace / "pairs.mindrecord", tmp_path / "x", **dpo))
    wrong = mindcoder("preprocess", "--input_glob", SAMPLES, "--pairs", "--vocab_file", "x", "--output_file", "y")
    assert wrong.returncode == 2
