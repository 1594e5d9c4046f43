"""What keys of the YAML file do inside the network."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
import torch
from families import check_greedy_tokens
from mindspore import Tensor, nn

from mindcoder.backend.operators import GeluTanh, QuickGelu
from mindcoder.checkpoint.huggingface import HuggingFaceFolder
from mindcoder.config.load import load_config
from mindcoder.families.from_section import config_from_section
from mindcoder.families.gpt_bigcode.section import GptBigCodeSection
from mindcoder.families.llama.section import LlamaSection
from mindcoder.models.decoder import Decoder


def hidden_states(decoder: Decoder, ids: np.ndarray, seed: int = 0) -> Tensor:
    """The final norm's output for ``ids`` ``[1, S]``."""
    positions = np.arange(ids.shape[1], dtype=np.int32).reshape(ids.shape)
    return decoder(Tensor(ids), Tensor(positions), Tensor(np.zeros_like(ids)), Tensor(seed, ms.int32))


def test_the_initial_loss_is_that_of_mindformers_own_test():
    """github.com/mindspore-lab/mindformers, r1.1.0, tests/st/test_model/test_wizardcoder_model: 10.847 to 10.876."""
    section = GptBigCodeSection(  # initializer_range is 0.02 there, and not read
        initializer_range=0.02,
        vocab_size=50257,
        hidden_size=768,
        num_layers=2,
        num_heads=12,
        seq_length=1024,
        n_position=1024,
    )
    decoder = Decoder(config_from_section(section))
    decoder.set_train(False)
    ids = np.random.default_rng(0).integers(0, 49153, (1, 1024)).astype(np.int32)
    logits = decoder.logits(hidden_states(decoder, ids)).asnumpy()[:-1]
    peak = logits.max(-1)
    loss = (peak + np.log(np.exp(logits - peak[:, None]).sum(-1)) - logits[np.arange(1023), ids[0, 1:]]).mean()
    assert 10.847 < loss < 10.876


def test_start_values_have_the_deviations_that_the_keys_say():
    sizes = {"vocab_size": 500, "hidden_size": 64, "num_layers": 1, "num_heads": 4, "pad_token_id": 0, "n_position": 99}
    section = GptBigCodeSection(**sizes, initializer_range=0.05, embedding_initializer_range=0.2)
    values = {item.name: item.asnumpy() for item in Decoder(config_from_section(section)).get_parameters()}
    assert values["token_embedding.weight"].std() == pytest.approx(0.2, rel=0.03)
    assert values["position_embedding.weight"].std() == pytest.approx(0.2, rel=0.03)
    assert values["layers.0.mlp.up.weight"].std() == pytest.approx(0.05, rel=0.03)
    del sizes["n_position"]
    section = LlamaSection(type="LlamaConfig", **sizes, init_method_std=0.006)
    values = {item.name: item.asnumpy() for item in Decoder(config_from_section(section)).get_parameters()}
    for name in ("token_embedding.weight", "head.weight", "layers.0.attention.query.weight"):
        assert values[name].std() == pytest.approx(0.006, rel=0.03), name


def test_the_token_table_has_a_dtype_of_its_own():
    section = LlamaSection(
        type="LlamaConfig", vocab_size=50, hidden_size=32, num_layers=1, num_heads=4, embedding_init_type="float16"
    )
    dtypes = {item.name: item.dtype for item in Decoder(config_from_section(section)).get_parameters()}
    assert dtypes.pop("token_embedding.weight") == ms.float16
    assert set(dtypes.values()) == {ms.float32}


def test_attention_dropout_of_a_file_drops_probabilities_in_training_alone(tmp_path):
    text = "model: {model_config: {type: WizardCoderConfig, hidden_size: 32, num_layers: 1, num_heads: 4, %s}}"
    sizes = "vocab_size: 90, n_position: 32, seq_length: 32, pad_token: 0, dropout_prob: 0.0"
    networks = []
    for rate in ("0.0", "0.5"):
        path = tmp_path / "a.yaml"
        path.write_text(text % f"{sizes}, hidden_dropout_prob: 0.0, attention_probs_dropout_prob: {rate}")
        networks.append(Decoder(config_from_section(load_config(path)[0].model.settings)))
    ids = np.arange(32, dtype=np.int32).reshape(1, 32)
    plain, dropping = networks
    whole = hidden_states(plain, ids).asnumpy()
    dropping.set_train(False)
    np.testing.assert_array_equal(hidden_states(dropping, ids).asnumpy(), whole)
    dropping.set_train(True)
    drawn = [hidden_states(dropping, ids, seed).asnumpy() for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - whole).max() > 1e-3 and np.abs(drawn[0] - drawn[2]).max() > 1e-3


def test_gelu_and_fast_gelu_are_mindspores(rng):
    x = Tensor(rng.standard_normal((7, 9)).astype(np.float32) * 3)
    line = Tensor(np.linspace(-6, 6, 49).astype(np.float32))
    theirs, exact = (np.abs(GeluTanh()(line) - nn.GELU(tanh)(line)).max() for tanh in (True, False))
    assert float(theirs) < 2e-4 < 4e-4 < float(exact)  # its tanh on CPU is itself approximate
    kernel = QuickGelu()
    numbers = x.asnumpy().astype(np.float64)
    magnitude = np.abs(numbers)  # as mindspore.nn.FastGelu documents it
    documented = numbers / (1 + np.exp(-1.702 * magnitude)) * np.exp(0.851 * (numbers - magnitude))
    np.testing.assert_allclose(kernel(x).asnumpy(), documented, rtol=1e-5, atol=1e-6)
    value = torch.tensor(x.asnumpy(), requires_grad=True)
    (value * torch.sigmoid(1.702 * value)).sum().backward()
    gradient = value.grad.numpy()
    ones = Tensor(np.ones((7, 9), np.float32))
    np.testing.assert_allclose(kernel.gradient(x, ones).asnumpy(), gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ms.grad(kernel)(x).asnumpy(), gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["quick_gelu", "gelu"])
def test_other_gelus_go_through_huggingfaces_config_and_generation(name, hf_folder, rng):
    model, decoder, folder = hf_folder(activation_function=name)
    check_greedy_tokens(model, decoder, rng, lengths=(5, 40), new_tokens=20)
    assert decoder.config.activation == name
    assert HuggingFaceFolder(folder).transformer_config == decoder.config
