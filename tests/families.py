"""Random Hugging Face models of every family, and the comparisons that all of them must pass."""

from __future__ import annotations

import functools
import io
import json
from copy import deepcopy
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import Tensor

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.weights import open_weights
from mindcoder.config.load import load_config
from mindcoder.families.from_section import config_from_section
from mindcoder.families.registry import family_of
from mindcoder.generate.engine import Engine
from mindcoder.models.decoder import Decoder
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import TrainStep

BATCH, LENGTH, VOCAB = 2, 40, 131
GPT_BIGCODE = {
    "n_positions": 320,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 4,
    "n_inner": 112,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
ROTARY = {
    "max_position_embeddings": 320,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 112,
}


def random_model(family: str = "gpt_bigcode", layers: int = 3, **overrides):
    """A seeded random model of transformers whose biases and norms are not trivial, dropout off.

    Each layer of a graph with gradients takes MindSpore seconds to compile: tests of those ask for two.
    """
    import transformers

    prefix = family_of(family).class_prefix
    config_class, model_class = (getattr(transformers, f"{prefix}{kind}") for kind in ("Config", "ForCausalLM"))
    is_bigcode = family == "gpt_bigcode"
    settings = {**(GPT_BIGCODE if is_bigcode else ROTARY), "n_layer" if is_bigcode else "num_hidden_layers": layers}
    torch.manual_seed(0)
    common = {"vocab_size": VOCAB, "eos_token_id": 0, "bos_token_id": 0, "attn_implementation": "eager"}
    model = model_class(config_class(**{**common, **settings, **overrides}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _name, parameter in model.named_parameters():
            spread = 0.1 if parameter.dim() == 1 else 0.15
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
    return model.eval()


def long_but(variants: list, *quick: int) -> list:
    """Parameters of which `make test` has those of these numbers; the others are `long`."""
    return [item if number in quick else pytest.param(*item.values, id=item.id, marks=pytest.mark.long)
            for number, item in enumerate(variants)]  # fmt: skip


def one_batch(rng, vocab: int = VOCAB, length: int = LENGTH):
    """Random ids, labels of which a third do not count, and both as our step's inputs."""
    ids = rng.integers(0, vocab, (BATCH, length)).astype(np.int32)
    labels = np.where(rng.random((BATCH, length)) < 0.33, -100, ids).astype(np.int32)
    shifted = np.full_like(labels, -100)
    shifted[:, :-1] = labels[:, 1:]
    positions = np.tile(np.arange(length, dtype=np.int32), (BATCH, 1))
    return ids, labels, [Tensor(ids), Tensor(positions), Tensor(np.zeros_like(ids)), Tensor(shifted)]


class Gradients(ms.nn.Cell):
    """Loss and gradients of one `TrainStep`, compiled as the step is."""

    def __init__(self, step: TrainStep) -> None:
        super().__init__(auto_prefix=False)
        self.step = step

    def construct(self, ids, positions, documents, labels, seed, scale):
        return self.step.gradients(ids, positions, documents, labels, seed, scale)


def check_logits_loss_and_gradients(model, decoder: Decoder, rng, length: int = LENGTH, recompute: bool = False):
    """Logits within 1e-4, loss within 1e-5, every gradient within 1e-4 of its norm."""
    ids, labels, inputs = one_batch(rng, length=length)
    model.zero_grad()
    output = model(input_ids=torch.tensor(ids).long(), labels=torch.tensor(labels).long())
    output.loss.backward()

    hidden = decoder(*inputs[:3], Tensor(0, ms.int32))
    logits = decoder.logits(hidden).asnumpy().reshape(BATCH, length, -1)
    np.testing.assert_allclose(logits, output.logits.detach().numpy(), atol=1e-4)

    optimizer = AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions())
    step = TrainStep(decoder, optimizer, recompute=recompute)
    loss, grads = Gradients(step)(*inputs, Tensor(0, ms.int32), Tensor(1.0, ms.float32))
    assert abs(float(loss.asnumpy()) - float(output.loss)) < 1e-5

    weights = family_of(decoder.config.model_type).weights
    named = dict(model.named_parameters())
    expected = {}
    for rule in weights.expand(decoder.config):
        expected.update(weights.to_ours(rule, named[rule.huggingface].grad.numpy(), decoder.config))
    assert set(expected) == {weight.name for weight in step.weights}
    for weight, gradient in zip(step.weights, grads):
        want = expected[weight.name]
        # Without rotation the key bias moves all scores of a row alike: its true gradient is zero.
        norm = max(np.linalg.norm(want), 1e-3)
        error = np.linalg.norm(gradient.asnumpy() - want) / norm
        assert error < 1e-4, (weight.name, error)


def reference_tokens(model, prompts, new_tokens: int, use_cache: bool = True):
    """Greedy tokens of transformers on a left-padded batch."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=new_tokens,
        pad_token_id=0,
        eos_token_id=None,
        use_cache=use_cache,
    )
    return output[:, longest:].tolist()


def check_greedy_tokens(model, decoder: Decoder, rng, lengths=(5, 40, 23), new_tokens: int = 80):
    """A ragged batch, one row left idle, one prompt longer than the prefill chunk; answers longer than every window.

    Dynamic rotary scaling and longrope follow each text's own length, where transformers takes the longest of the
    batch: there the reference answers one prompt at a time, each with a fresh model (its scaling remembers the longest
    text it saw).
    """
    prompts = [rng.integers(1, VOCAB, length).tolist() for length in lengths]
    total = max(lengths) + new_tokens + 20
    engine = Engine(decoder, batch=len(lengths) + 1, max_length=total, stop_ids=(), vocab_size=VOCAB, longest_prompt=20)
    assert engine.chunk < max(lengths)
    completions = engine.generate(prompts, max_new_tokens=new_tokens)
    scaling = decoder.config.rope_scaling
    together = [[prompt] for prompt in prompts] if scaling and scaling.depends_on_length else [prompts]
    # Where longrope changes, transformers 4.57.1 fills its cache anew with the mask of one token: leave its cache out.
    use_cache = scaling is None or scaling.kind != "longrope"
    expected = [
        tokens for group in together for tokens in reference_tokens(deepcopy(model), group, new_tokens, use_cache)
    ]
    assert [item.tokens for item in completions] == expected


# Fields of config.json without effect on a network: what the class was saved as, and what another field overrides.
UNUSED = (
    "dtype architectures max_window_layers no_rope_layer_interval hidden_activation original_max_position_embeddings"
)


def check_every_weight_comes_back(family: str, dtype: str, folder: Path, **overrides) -> None:
    """Hugging Face to ours and back: the same bits, and a ``config.json`` that says the same."""
    import transformers

    model = random_model(family, **overrides).to(getattr(torch, dtype))
    model.save_pretrained(folder / "theirs")
    for source, target in (("theirs", "ours"), ("ours", "back")):
        convert(ConvertRequest(str(folder / source), folder / target, show_progress=False))
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder / "back", dtype="auto")
    after = loaded.state_dict()
    for name, before in model.state_dict().items():
        assert before.dtype == after[name].dtype and torch.equal(before, after[name]), name
    own = family_of(family)
    config = open_weights(folder / "theirs").config
    assert config.num_parameters() == sum(parameter.numel() for parameter in model.parameters())
    written = own.config_to_huggingface(config)
    assert own.config_from_huggingface(written) == config
    for theirs in (loaded.config.to_dict(), type(model.config)(**written).to_dict()):
        for name, value in model.config.to_dict().items():
            if name not in UNUSED.split() and not name.startswith("_"):
                assert theirs[name] == value, name


def check_defaults(family: str, **fields) -> None:
    """A file without a field means what transformers takes it for, and every field of its class is known.

    Args:
        fields: without a default that is implemented here.
    """
    import inspect

    import transformers

    own = family_of(family)
    config_class = getattr(transformers, f"{own.class_prefix}Config")
    theirs = config_class(**fields).to_dict()
    assert own.config_from_huggingface(fields) == own.config_from_huggingface(theirs)
    for name in inspect.signature(config_class.__init__).parameters:
        if name not in ("self", "kwargs"):
            try:
                own.config_from_huggingface({**fields, name: None})
            except ValueError as error:
                assert "unknown field" not in str(error)
    with pytest.raises(ValueError, match="unknown field 'hidden_sise'.*the nearest known field is hidden_size"):
        own.config_from_huggingface({**fields, "hidden_sise": 5})


def check_published_size(name: str, billions: float) -> None:
    """The part ``models/<name>`` has as many parameters as the published weights, in billions."""
    network = config_from_section(load_config(f"models/{name}")[0].model.settings)
    assert round(network.num_parameters() / 1e9, 2) == billions


def check_packed_documents(decoder: Decoder, rng) -> None:
    """Two documents in a row give what each gives alone, in a row that is filled up behind it."""
    first, second = rng.integers(0, VOCAB, 12), rng.integers(0, VOCAB, 20)
    rows = np.zeros((3, 3, 32), np.int32)  # ids, positions and documents of the packed row and of each alone
    rows[:, 0] = np.concatenate([first, second]), [*range(12), *range(20)], [0] * 12 + [1] * 20
    rows[1, 1:] = np.arange(32)
    rows[0, 1, :12], rows[0, 2, :20] = first, second
    hidden = decoder(*map(Tensor, rows), Tensor(0, ms.int32)).asnumpy().reshape(3, 32, -1)
    np.testing.assert_allclose(hidden[0], np.concatenate([hidden[1, :12], hidden[2, :20]]), atol=1e-5)


def to_bin(folder) -> None:
    """Turn a folder's safetensors into what older versions of transformers wrote: torch pickles and their index."""
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    for file in folder.glob("*.safetensors"):
        name = file.name.replace("model", "pytorch_model").replace(".safetensors", ".bin")
        torch.save(load_file(file), folder / name)
        file.unlink()
    if index.is_file():
        text = index.read_text().replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
        (folder / "pytorch_model.bin.index.json").write_text(text)
        index.unlink()


@functools.cache
def sentencepiece_model() -> bytes:
    """Llama's kind of ``tokenizer.model``: BPE of 900 pieces with bytes and Code Llama's infilling pieces."""
    import sentencepiece

    samples = Path(__file__).resolve().parent.parent / "datasets" / "samples.json"
    records = json.loads(samples.read_text(encoding="utf-8"))
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for record in records for text in record.values()] * 3),
        model_writer=buffer,
        model_type="bpe",
        vocab_size=900,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        character_coverage=0.99,
        user_defined_symbols=["▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"],
        minloglevel=2,
    )
    return buffer.getvalue()
