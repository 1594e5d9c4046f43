"""Configuration classes and ``generate``'s arguments as MindFormers' scripts give them."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from conftest import REPOSITORY

from mindcoder.families.from_section import config_from_section
from mindcoder.families.registry import FAMILIES
from mindcoder.interop.shims import prepare_environment

CONFIGS = [names.config for family in FAMILIES.values() for names in family.mindformers]
SMALL = {"vocab_size": 700, "hidden_size": 48, "num_layers": 2, "num_heads": 4, "seq_length": 64, "pad_token": 699}
FLOAT32 = {"compute_dtype": "float32", "param_init_type": "float32", "softmax_dtype": "float32"}


@pytest.fixture(scope="module")
def classes():
    """Imported here: with MindFormers it takes seconds, in every process that collects this file."""
    prepare_environment()
    from mindcoder.interop import classes

    return classes


@pytest.fixture(scope="module")
def generation_config(classes):
    from mindformers import GenerationConfig

    return GenerationConfig


def test_names_of_mindformers_take_effect(classes):
    config = classes.WizardCoderConfig(attention_probs_dropout_prob=0.5, pad_token=699, eos_token_id=0, vocab_size=700,
                                       max_length=77, param_init_type=ms.float16, compute_dtype="float16")  # fmt: skip
    network = config_from_section(config.section)
    assert network.attention_dropout == 0.5 and network.pad_token_id == 699
    assert network.param_dtype == network.compute_dtype == "float16"
    assert config.attention_probs_dropout_prob == 0.5 and config.pad_token == config.pad_token_id == 699
    assert config.max_length == config.max_decode_length == 77 and config.eos_token_id == [0]


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"hiden_size": 3}, TypeError, "unknown name 'hiden_size'; did you mean 'hidden_size'"),
        ({"attention_prob_dropout_prob": 0.5}, TypeError, "did you mean 'attention_probs_dropout_prob'"),
        (
            {"pad_token": 1, "pad_token_id": 2},
            ValueError,
            "pad_token and pad_token_id are the same setting: found 1 and 2",
        ),
        ({"num_beams": 4}, ValueError, "num_beams=4 is not supported; expected 1"),
        ({"is_encoder_decoder": True}, ValueError, "is_encoder_decoder=True is not supported"),
        ({"num_layers": "two"}, ValueError, "num_layers: found 'two'"),
        ({"type": "Other"}, ValueError, "type is 'Other'"),
    ],
)
def test_what_is_unknown_or_not_there_is_refused(family, settings, error, message, classes):
    with pytest.raises(error, match=message):
        getattr(classes, family)(**settings)


@pytest.mark.parametrize("family", CONFIGS)
def test_what_asks_for_nothing_is_taken(family, classes):
    from mindformers.core.parallel_config import default_parallel_config

    getattr(classes, family)(
        num_beams=1, is_encoder_decoder=False, parallel_config=default_parallel_config, use_past=True,
        quantization_config=None, start_token_id=1, checkpoint_name_or_path="", batch_size=2,
    )  # fmt: skip


def test_defaults_are_those_of_mindformers(classes):
    """mindspore-lab/mindformers r1.1.0: research/wizardcoder/wizardcoder_config.py, models/llama/llama_config.py."""
    config = classes.WizardCoderConfig()
    assert (config.vocab_size, config.hidden_size, config.num_layers, config.num_heads) == (50257, 768, 12, 12)
    assert (config.seq_length, config.n_position, config.expand_ratio) == (1024, 8192, 4)
    assert (config.dropout_prob, config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.1, 0.1, 0.1)
    assert (config.compute_dtype, config.param_init_type, config.softmax_dtype) == ("float16",) * 3
    assert (config.layernorm_dtype, config.top_p, config.top_k, config.max_length) == ("float32", 0.95, 1, 20)
    assert config.pad_token == 49152 and config.eos_token_id == [2] and config.initializer_range == 0.02
    network = config_from_section(config.section)
    assert network.num_kv_heads == 1 and network.embedding_dropout == network.hidden_dropout == 0.1
    llama = classes.CodeLlamaConfig()
    assert (llama.seq_length, llama.vocab_size, llama.num_layers, llama.top_k) == (2048, 32000, 32, 5)
    assert llama.do_sample and llama.max_decode_length == 1024 and llama.compute_dtype == "float16"


def test_the_file_of_the_original_scripts_makes_a_configuration(classes):
    file = REPOSITORY / "research" / "wizardcoder" / "run_wizardcoder.yaml"
    config = classes.WizardCoderConfig.from_pretrained(str(file))
    assert isinstance(config, classes.WizardCoderConfig)
    assert (config.hidden_size, config.num_layers, config.n_position, config.vocab_size) == (6144, 40, 8192, 49153)


def test_a_saved_configuration_is_read_back(classes, tmp_path):
    config = classes.WizardCoderConfig(**SMALL, attention_probs_dropout_prob=0.25)
    config.save_pretrained(str(tmp_path), save_json=True)
    again = classes.WizardCoderConfig.from_pretrained(str(tmp_path))
    assert again.section == config.section


@pytest.fixture(scope="module")
def network(classes):
    model = classes.WizardCoderLMHeadModel(classes.WizardCoderConfig(**SMALL, **FLOAT32, max_length=30, eos_token_id=0))
    model.set_train(False)
    return model


def test_generation_config_rules(network, generation_config):
    prompt = [[5, 6, 7]]
    assert len(network.generate(prompt, generation_config=generation_config(max_length=10))[0]) == 10
    assert len(network.generate(prompt, generation_config(max_length=10), max_length=12, eos_token_id=[])[0]) == 12
    assert len(network.generate(prompt, eos_token_id=[])[0]) == 30  # the model's own max_length
    assert len(network.generate(prompt, max_new_tokens=4, eos_token_id=[])[0]) == 7
    assert len(network.generate(prompt, max_length=1000, eos_token_id=[])[0]) == 64  # seq_length, as in MindFormers
    result = network.generate(prompt, max_length=9, use_past=True, num_beams=1, is_full_config=True, top_k=3, top_p=1,
                              repetition_penalty=1, batch_size=1, return_dict_in_generate=True)  # fmt: skip
    (row,) = result["sequences"]
    assert row.dtype == np.int32 and row.tolist()[:3] == [5, 6, 7]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"num_beams": 4}, ValueError, "num_beams=4 is not supported; expected 1"),
        ({"generation_config": {"max_length": 10, "min_length": 5}}, ValueError, "min_length=5 is not supported"),
        ({"streamer": object()}, ValueError, "streamer=.* is not supported"),
        ({"logits_processor": [len]}, ValueError, "logits_processor=.* is not supported"),
        ({"temprature": 0.5}, TypeError, "unknown argument 'temprature'; did you mean 'temperature'"),
        ({"max_length": 3}, ValueError, "the longest prompt has 3 tokens, which leaves no room within 3"),
    ],
)
def test_what_generate_cannot_do_is_refused_by_name(arguments, error, message, network, generation_config):
    if "generation_config" in arguments:
        arguments = {"generation_config": generation_config(**arguments["generation_config"])}
    with pytest.raises(error, match=message):
        network.generate([[5, 6, 7]], **arguments)


def test_settings_come_from_one_place(network, generation_config):
    from mindcoder.interop.generation import read_generation

    own = read_generation(network.config)
    assert (own.options.top_p, own.options.top_k, own.eos, own.pad) == (0.95, 1, frozenset({0}), 699)
    given = read_generation(
        network.config, generation_config(do_sample=True, temperature=0.5, eos_token_id=3), top_p=0.9
    )
    assert given.options.do_sample and given.options.temperature == 0.5 and given.options.top_p == 0.9
    assert given.options.top_k == 50 and given.eos == {3} and given.max_length == 20  # GenerationConfig's own defaults
