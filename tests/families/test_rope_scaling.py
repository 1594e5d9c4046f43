"""Scaled rotary positions against transformers: frequencies, networks beyond the original context, and both files."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from families import check_greedy_tokens, check_logits_loss_and_gradients, long_but
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mindcoder.config.load import load_config
from mindcoder.errors import UserError
from mindcoder.families.from_section import config_from_section
from mindcoder.families.registry import family_of
from mindcoder.families.rope_scaling import RopeScaling
from mindcoder.families.transformer_config import TransformerConfig, config_from_dict
from mindcoder.models.rotary import attention_factors, inverse_frequencies, rotary_angles

LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.5, 2.0, 2.5],
    "long_factor": [2.0, 3, 4, 6, 8, 9],
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
VARIANTS = [
    YARN,
    {**YARN, "original_max_position_embeddings": 4096},
    {**YARN, "beta_fast": 8.0, "beta_slow": 2.0, "truncate": False},
    {**YARN, "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.0},
    {**YARN, "mscale": 0.707},  # without the other it has no effect
    {**YARN, "attention_factor": 0.8, "beta_fast": None},
    {"type": "yarn", "factor": 1.0},
    {**LONGROPE, "factor": 4.0},
    {**LONGROPE, "factor": 4.0, "attention_factor": 1.25},
    {"rope_type": "linear", "factor": 8.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
]


def names(value: dict) -> str:
    return "-".join(str(item) for item in value.values() if not isinstance(item, list))


def theirs(scaling: dict, **fields) -> transformers.LlamaConfig:
    sizes = {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 64}
    return transformers.LlamaConfig(**{**sizes, **fields}, rope_theta=50000.0, rope_scaling=dict(scaling))


def ours(config) -> TransformerConfig:
    return family_of("llama").config_from_huggingface(config.to_dict())


@pytest.mark.parametrize("scaling", VARIANTS, ids=names)
def test_frequencies_and_attention_factor_equal_transformers(scaling):
    """Within the original context and beyond, on the way of the step's graph and that of the engine."""
    config = theirs(scaling)
    kind = scaling.get("rope_type", scaling.get("type"))
    expected, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=20)
    found = ours(config)
    np.testing.assert_allclose(inverse_frequencies(found), expected.numpy(), rtol=1e-6)
    np.testing.assert_allclose(attention_factors(found), np.full(6, factor), rtol=1e-6)
    expected, _ = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=200)
    positions = np.arange(200)
    angles = positions[:, None] * expected.numpy()
    np.testing.assert_allclose(
        rotary_angles(found, positions, np.full(200, 200)),
        np.concatenate([np.cos(angles), np.sin(angles)], 1) * factor,
        atol=2e-5,
    )


@pytest.mark.parametrize("scaling", VARIANTS, ids=names)
def test_scaling_is_written_as_transformers_reads_it(scaling):
    config = theirs(scaling)
    own = ours(config)
    written = family_of("llama").config_to_huggingface(own)
    assert ours(transformers.LlamaConfig(**written)) == own
    kind = scaling.get("rope_type", scaling.get("type"))
    before, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=200)
    after, again = ROPE_INIT_FUNCTIONS[kind](transformers.LlamaConfig(**written), "cpu", seq_len=200)
    assert (before == after).all() and factor == again
    assert config_from_dict({**vars(own), "rope_scaling": own.rope_scaling.as_data()}) == own


def test_longrope_with_an_original_context_of_its_own():
    """The field outside of ``rope_scaling`` counts, and gives the factor; transformers 5 has it in rope_parameters."""
    config = theirs({**LONGROPE, "factor": 99.0}, original_max_position_embeddings=16)
    own = ours(config)
    assert own.rope_scaling.factor == 4.0 and own.rope_scaling.original_length == 16
    assert own.rope_scaling.attention_factor == ROPE_INIT_FUNCTIONS["longrope"](config, "cpu", seq_len=9)[1]
    written = family_of("llama").config_to_huggingface(own)
    assert written["original_max_position_embeddings"] == 16
    values = {key: value for key, value in written.items() if not key.startswith(("rope_", "original_"))}
    inner = {**LONGROPE, "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 50000.0}
    assert family_of("llama").config_from_huggingface({**values, "rope_parameters": inner}) == own


def test_phi3_in_the_form_of_transformers_5():
    """Its fields are those of transformers 4 inside ``rope_parameters``."""
    phi3, factors = family_of("phi3"), {name: LONGROPE[name] for name in ("short_factor", "long_factor")}
    sizes = {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 64}
    four = transformers.Phi3Config(
        **sizes, rope_scaling={"type": "longrope", **factors}, original_max_position_embeddings=16
    ).to_dict()
    parameters = {"rope_type": "longrope", "rope_theta": four["rope_theta"], **factors}
    five = {key: value for key, value in four.items() if key not in ("rope_theta", "rope_scaling")}
    own = phi3.config_from_huggingface(four)
    short, long = (tuple(values) for values in factors.values())
    assert own.rope_scaling == RopeScaling("longrope", 4.0, 16, short_factors=short, long_factors=long)
    for original in ({}, {"original_max_position_embeddings": 16}):
        assert phi3.config_from_huggingface({**five, "rope_parameters": {**parameters, **original}}) == own
    assert phi3.config_from_huggingface(phi3.config_to_huggingface(own)) == own


def test_a_checkpoint_of_an_older_version_states_the_same_architecture():
    """Fields of yarn are left out of other kinds' data."""
    assert set(RopeScaling("linear", 2.0).as_data()) == {
        *("kind", "factor", "original_length", "low_freq_factor", "high_freq_factor")
    }


NETWORKS = [
    pytest.param("llama", {"rope_scaling": {**YARN, "mscale": 0.707, "mscale_all_dim": 1.5}}, id="yarn"),
    pytest.param("qwen3", {"head_dim": 12, "rope_scaling": {**YARN, "truncate": False}}, id="qwen3 yarn"),
    pytest.param(
        "llama",
        {"max_position_embeddings": 64, "original_max_position_embeddings": 32, "rope_scaling": LONGROPE},
        id="longrope",
    ),
]


@pytest.mark.parametrize("family, overrides", long_but(NETWORKS, 0))
def test_training_beyond_the_original_context(family, overrides, hf_folder, rng):
    model, decoder, _ = hf_folder(family, layers=2, **overrides)
    check_logits_loss_and_gradients(model, decoder, rng, length=80)


@pytest.mark.parametrize("family, overrides", long_but(NETWORKS, 0))
def test_greedy_tokens_beyond_the_original_context(family, overrides, hf_folder, rng):
    model, decoder, _ = hf_folder(family, layers=2, **overrides)
    check_greedy_tokens(model, decoder, rng)


REFUSED = [
    ({**YARN, "attn_factor": 2.0}, "rope_scaling: 'attn_factor' of rope_type yarn is not implemented"),
    ({**YARN, "truncate": None}, "rope_scaling.truncate: expected true or false, found null"),
    ({**YARN, "beta_fast": 0.5}, "rope_scaling: beta_fast 0.5 is below beta_slow 1"),
    ({**YARN, "attention_factor": 0}, "rope_scaling.attention_factor: expected a number above 0, found 0"),
    ({"rope_type": "yarn"}, "rope_scaling lacks factor"),
    ({**LONGROPE}, "rope_scaling lacks factor"),
    ({**LONGROPE, "factor": 2.0, "long_factor": 3}, "rope_scaling.long_factor: expected a list of numbers, found 3"),
    ({**LONGROPE, "factor": 2.0, "long_factor": [1.0]}, "long_factors: expected 6 numbers, found 1"),
    (
        {**LONGROPE, "factor": 2.0, "original_max_position_embeddings": 16},
        "original_max_position_embeddings 16: the original context is the original_max_position_embeddings outside",
    ),
]


@pytest.mark.parametrize("scaling, message", REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_transformers_does_not_take_is_refused_by_name(scaling, message):
    with pytest.raises(ValueError, match=message):
        family_of("llama").config_from_huggingface(
            {**theirs({"rope_type": "default"}).to_dict(), "rope_scaling": scaling}
        )


YAML = """
model:
  model_config: {type: LlamaConfig, hidden_size: 48, num_heads: 4, num_layers: 2, seq_length: 64, %s}
  arch: {type: LlamaForCausalLM}
lr_schedule: {learning_rate: 1.0e-3}
"""
SIX = "[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]"


@pytest.mark.parametrize(
    "keys, expected",
    [
        (
            "extend_method: YARN, scaling_factor: {factor: 4.0, original_max_position_embeddings: 16, beta_slow: 1, "
            "beta_fast: 32, mscale: 0.5, mscale_all_dim: 1.0}",
            RopeScaling("yarn", 4.0, 16, mscale=0.5, mscale_all_dim=1.0),
        ),
        (
            "extend_method: YARN, scaling_factor: {factor: 4.0, original_max_position_embeddings: 16, mscale: 1.0, "
            "mscale_all_dim: 0.0, truncate: false}",
            RopeScaling("yarn", 4.0, 16, truncate=False, given_attention_factor=0.1 * np.log(4.0) + 1),
        ),
        (
            "extend_method: LONGROPE, scaling_factor: {factor: 4.0, original_max_position_embeddings: 16, "
            f"short_factor: {SIX}, long_factor: {SIX}, attention_factor: 1.5}}",
            RopeScaling(
                *("longrope", 4.0, 16),
                short_factors=(1, 1, 1, 2, 2, 2),
                long_factors=(1, 1, 1, 2, 2, 2),
                given_attention_factor=1.5,
            ),
        ),
        ("extend_method: linear, scaling_factor: {factor: 4.0}", RopeScaling("linear", 4.0)),
        ("extend_method: YARN", "scaling_factor: expected factor, original_max_position_embeddings, "),
        ("extend_method: YARN, scaling_factor: {factor: 2.0}", "YARN needs original_max_position_embeddings"),
        (
            "extend_method: LLAMA3, scaling_factor: {factor: 2.0, original_max_position_embeddings: 9, beta_fast: 9}",
            "scaling_factor: beta_fast has no meaning with extend_method LLAMA3",
        ),
        (
            "extend_method: YARN, scaling_factor: {factor: 2.0, original_max_position_embeddings: 9, beta_slow: 99}",
            "scaling_factor: beta_fast 32 is below beta_slow 99",
        ),
        ("scaling_factor: {factor: 2.0}", "expected extend_method: linear, LLAMA3, YARN, LONGROPE with them"),
    ],
)
def test_extend_method_of_a_yaml_file(keys, expected, tmp_path):
    (tmp_path / "a.yaml").write_text(YAML % keys)
    if isinstance(expected, str):
        with pytest.raises(UserError) as error:
            load_config(tmp_path / "a.yaml")
        assert expected in str(error.value)
        return
    config, _ = load_config(tmp_path / "a.yaml")
    assert config_from_section(config.model.settings).rope_scaling == expected


def test_mindformers_ntk_is_another_theta(tmp_path):
    (tmp_path / "a.yaml").write_text(YAML % "extend_method: NTK, scaling_factor: 4.0, theta: 5000.0")
    network = config_from_section(load_config(tmp_path / "a.yaml")[0].model.settings)
    assert network.rope_theta == 20000.0 and network.rope_scaling is None


def test_yarn_frequencies_equal_mindformers():
    """MindFormers 1.9's FreqsMgr, whose table has the cosines of every position."""
    import mindspore as ms
    from mindformers.modules.layers import FreqsMgr

    factors = {"factor": 4.0, "original_max_position_embeddings": 32, "beta_slow": 1, "beta_fast": 32}
    factors |= {"mscale": 0.707, "mscale_all_dim": 1.0}
    manager = FreqsMgr(12, 64, 128, ms.float32, 50000.0, factors, "YARN")
    own = RopeScaling("yarn", 4.0, 32, mscale=0.707, mscale_all_dim=1.0)
    config = TransformerConfig(
        *("llama", 99, 48, 2, 4, 2, 96, 128), position="rope", rope_theta=50000.0, rope_scaling=own
    )
    angles = rotary_angles(config, np.arange(128), np.full(128, 128))
    np.testing.assert_allclose(manager.freqs_cos.asnumpy()[:, :6], angles[:, :6], atol=2e-5)
    np.testing.assert_allclose(manager.freqs_sin.asnumpy()[:, :6], angles[:, 6:], atol=2e-5)
