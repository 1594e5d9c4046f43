"""``config.json``: transformers 5's form, and fields that are unknown, not implemented or impossible."""

from __future__ import annotations

import inspect
import json
import re

import mindspore as ms
import numpy as np
import pytest
import torch
import transformers
from families import VOCAB, random_model
from mindspore import Tensor
from transformers.activations import ACT2FN

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.huggingface import HuggingFaceFolder
from mindcoder.checkpoint.load import load_weights
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.families.registry import family_of
from mindcoder.families.special_fields import ACTIVATIONS, write_activation
from mindcoder.models.decoder import Decoder

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "original_max_position_embeddings": 40,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
ROTARY = {"llama": {"rope_theta": 50000.0}, "starcoder2": {"rope_theta": 999.0}, "gpt_bigcode": {}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of random models, one a family."""
    folders = {}
    for family, settings in ROTARY.items():
        folders[family] = tmp_path_factory.mktemp(family)
        random_model(family, **settings).save_pretrained(folders[family])
    return folders


def edited(folder, tmp_path, changes, removed=()):
    """A folder of links with another config.json."""
    for file in folder.iterdir():
        if file.name != "config.json":
            (tmp_path / file.name).symlink_to(file)
    values = json.loads((folder / "config.json").read_text())
    values = {name: value for name, value in values.items() if name not in removed} | changes
    (tmp_path / "config.json").write_text(json.dumps(values))
    return tmp_path


@pytest.mark.parametrize(
    "family, scaling",
    [
        ("llama", None),
        ("llama", {"rope_type": "linear", "factor": 2.0}),
        ("llama", {"rope_type": "dynamic", "factor": 2.0}),
        ("llama", LLAMA3),
        ("starcoder2", None),
        ("starcoder2", {"rope_type": "linear", "factor": 4.0}),
    ],
)
def test_logits_of_a_folder_in_transformers_5s_form(family, scaling, tmp_path, rng):
    """theta and scaling inside ``rope_parameters``, ``dtype`` in place of ``torch_dtype``."""
    model = random_model(family, layers=1, **ROTARY[family], rope_scaling=scaling and dict(scaling))
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    theta, stored = values.pop("rope_theta"), values.pop("rope_scaling") or {"rope_type": "default"}
    values["rope_parameters"] = {**stored, "rope_theta": theta}
    values |= {"transformers_version": "5.0.0", "dtype": "float32"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    decoder = Decoder(HuggingFaceFolder(tmp_path).transformer_config, empty=True)
    load_weights(decoder, tmp_path)
    ids = rng.integers(0, VOCAB, (2, 60)).astype(np.int32)
    positions = np.tile(np.arange(60, dtype=np.int32), (2, 1))
    hidden = decoder(Tensor(ids), Tensor(positions), Tensor(np.zeros_like(ids)), Tensor(0, ms.int32))
    logits = decoder.logits(hidden).asnumpy().reshape(2, 60, -1)
    with torch.no_grad():
        expected = model(torch.tensor(ids).long()).logits.numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_both_forms_of_the_rotary_fields_have_to_agree(saved, tmp_path):
    for number, (changes, expected) in enumerate(
        [
            ({"rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}}, 50000.0),
            ({"rope_parameters": {"rope_type": "default"}}, 50000.0),
            ({"rope_parameters": {"rope_theta": 1e6}}, "rope_theta 50000 and rope_parameters.rope_theta 1e+06 differ"),
            (
                {
                    "rope_scaling": {"type": "linear", "factor": 2},
                    "rope_parameters": {"rope_type": "linear", "factor": 4, "rope_theta": 50000},
                },
                "rope_scaling and rope_parameters differ",
            ),
            ({"dtype": "float16", "torch_dtype": "bfloat16"}, "dtype float16 and torch_dtype bfloat16 differ"),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        folder = edited(saved["llama"], tmp_path / str(number), changes)
        if isinstance(expected, str):
            with pytest.raises(UserError, match=re.escape(f"config.json: {expected}")):
                open_weights(folder)
        else:
            assert open_weights(folder).config.rope_theta == expected


def test_a_folder_of_transformers_5_is_written_for_all_versions(saved, tmp_path):
    changes = {"rope_parameters": {**LLAMA3, "rope_theta": 50000.0}}
    (tmp_path / "five").mkdir()
    folder = edited(saved["llama"], tmp_path / "five", changes, removed=("rope_theta", "rope_scaling"))
    config = open_weights(folder).config
    for source, target in (("five", "ours"), ("ours", "four")):
        convert(ConvertRequest(str(tmp_path / source), tmp_path / target, show_progress=False))
    values = json.loads((tmp_path / "four" / "config.json").read_text())
    assert "rope_parameters" not in values and values["rope_theta"] == 50000.0
    loaded = transformers.AutoConfig.from_pretrained(tmp_path / "four")
    assert loaded.rope_theta == 50000.0 and loaded.rope_scaling["rope_type"] == "llama3"
    assert open_weights(tmp_path / "four").config.architecture() == config.architecture()


REFUSED = [
    ("llama", {"rope_parameters": {"rope_type": "ntk", "rope_theta": 1e4, "factor": 4}}, "rope_type 'ntk' is not"),
    ("llama", {"rope_scaling": {"rope_type": "su", "factor": 4}}, "rope_type 'su' is not implemented"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2, "attention_factor": 1}}, "'attention_factor' of"),
    ("llama", {"rope_scaling": {"rope_type": "linear"}}, "rope_scaling lacks factor"),
    ("llama", {"rope_scaling": {"factor": 2}}, "rope_scaling lacks rope_type"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "type": "dynamic", "factor": 2}}, "and type 'dynamic' differ"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": None}}, "rope_scaling.factor: expected a number"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 0}}, "expected a number above 0"),
    ("llama", {"rope_scaling": [1]}, "rope_scaling: expected an object"),
    ("llama", {"rope_scaling": {**LLAMA3, "low_freq_factor": 4}}, "low_freq_factor 4 is not below"),
    (
        "llama",
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2, "original_max_position_embeddings": 64}},
        "original_max_position_embeddings 64: transformers stretches from",
    ),
    ("llama", {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "rope_parameters lacks rope_type"),
    ("llama", {"rope_parameters": "default"}, "rope_parameters: expected an object"),
    ("llama", {"rope_parameters": {"rope_theta": 50000.0, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not implemented"),
    ("llama", {"sliding_window": 1024}, "sliding_window 1024 is not implemented; expected null"),
    ("llama", {"attention_bias": "yes"}, "attention_bias: expected true or false, found 'yes'"),
    ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu' is not implemented; expected silu"),
    ("llama", {"quantize": "w8a8"}, "quantize 'w8a8': quantized weights are not read"),
    (
        "llama",
        {"quantization_config": {"quant_method": "awq"}},
        "quantization_config {'quant_method': 'awq'}: quantized",
    ),
    ("llama", {"qk_norm": True}, "unknown field 'qk_norm': whether it changes the result is not known"),
    ("llama", {"rope_teta": 5}, "unknown field 'rope_teta': .* nearest known field is rope_theta"),
    ("llama", {"logit_scale": 0.1}, "unknown field 'logit_scale'"),
    ("llama", {"auto_map": {"AutoModelForCausalLM": "m.M"}}, "auto_map names a network that comes as code"),
    ("llama", {"architectures": ["MistralForCausalLM"]}, "architectures 'MistralForCausalLM' is not implemented"),
    ("llama", {"layer_types": ["sliding_attention"] * 3}, "expected full_attention for each of 3 layers"),
    ("llama", {"is_encoder_decoder": True}, "is_encoder_decoder True|true is not implemented"),
    ("gpt_bigcode", {"activation_function": "relu"}, "activation_function 'relu' is not implemented"),
    ("gpt_bigcode", {"activation_function": ["gelu"]}, "activation_function .* is not implemented"),
    ("gpt_bigcode", {"add_cross_attention": True}, "add_cross_attention true is not implemented"),
    ("gpt_bigcode", {"num_key_value_heads": 4}, "num_key_value_heads 4 is not implemented; expected 1"),
    ("gpt_bigcode", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx true is not"),
    ("gpt_bigcode", {"hidden_size": 64}, "hidden_size 64 and n_embd 48 differ"),
    ("gpt_bigcode", {"pruned_heads": {"0": [1]}}, "pruned_heads .* is not implemented"),
    ("gpt_bigcode", {"rope_theta": 1e4}, "unknown field 'rope_theta'"),
    ("starcoder2", {"norm_type": "rms_norm"}, "norm_type 'rms_norm' is not implemented; expected 'layer_norm'"),
    ("starcoder2", {"mlp_type": "gated"}, "mlp_type 'gated' is not implemented"),
    ("starcoder2", {"layer_norm_epsilon": 1e-3}, "layer_norm_epsilon 0.001 is not implemented"),
    ("starcoder2", {"scale_attn_weights": False}, "scale_attn_weights false is not implemented"),
    # Impossible numbers.
    ("llama", {"num_hidden_layers": 10**9}, "num_layers must be at most 4096"),
    ("llama", {"hidden_size": 10**400}, "hidden_size must be at most"),
    ("llama", {"hidden_size": -48}, "hidden_size must be at least 1"),
    ("llama", {"hidden_size": 48.5}, "hidden_size: expected a whole number, found 48.5"),
    ("llama", {"hidden_size": "48"}, "hidden_size: expected a whole number, found '48'"),
    ("llama", {"hidden_size": True}, "hidden_size: expected a whole number, found true"),
    ("llama", {"hidden_size": None}, "hidden_size: expected a whole number, found null"),
    ("llama", {"num_attention_heads": 0}, "num_heads must be at least 1"),
    ("llama", {"num_key_value_heads": 3}, "num_heads 4 is not divisible by num_kv_heads 3"),
    ("llama", {"head_dim": 7}, "rotary positions need an even head_dim"),
    ("llama", {"vocab_size": 2**40}, "vocab_size must be at most"),
    ("llama", {"max_position_embeddings": 2**62}, "max_position_embeddings must be at most"),
    ("llama", {"rms_norm_eps": 0.0, "rope_theta": 0}, "rope_theta must be a number from 1"),
    ("llama", {"rms_norm_eps": "1e-5"}, "rms_norm_eps: expected a number, found '1e-5'"),
    ("llama", {"rms_norm_eps": 1e-310}, "norm_epsilon must be a number"),
    ("llama", {"attention_dropout": 1.5}, "attention_dropout must be a rate"),
    ("llama", {"eos_token_id": {"a": 1}}, "eos_token_id: expected a token id"),
    ("llama", {"bos_token_id": 2**70}, "bos_token_id: expected a token id"),
    ("gpt_bigcode", {"n_inner": 0}, "intermediate_size must be at least 1"),
    ("llama", {"model_type": ["llama"]}, r"model_type \['llama'\] is not one of"),
    ("llama", {"dtype": "int4"}, "dtype 'int4' is not one of"),
]


@pytest.mark.parametrize("family, changes, expected", REFUSED, ids=[f"{f}-{json.dumps(c)[:40]}" for f, c, _ in REFUSED])
def test_what_is_unknown_impossible_or_not_implemented_is_refused_by_name(family, changes, expected, saved, tmp_path):
    folder = edited(saved[family], tmp_path, changes)
    with pytest.raises(UserError, match=expected) as error:
        open_weights(folder)
    message = str(error.value)
    assert message.startswith(f"{folder / 'config.json'}: ") and "\n" not in message and len(message) < 500


HARMLESS = {
    "llama": {"pretraining_tp": 2, "max_sequence_length": 2048, "pad_token_id": -1, "eos_token_id": [0, 5]},
    "gpt_bigcode": {
        "attention_softmax_in_fp32": False,
        "inference_runner": 0,
        "validate_runner_input": True,
        "summary_type": "cls_index",
        "activation_function": "gelu_fast",
    },
    "starcoder2": {"mlp_type": "default", "norm_type": "layer_norm", "scale_attn_weights": True, "use_cache": False},
}


@pytest.mark.parametrize("family", HARMLESS)
def test_fields_that_change_nothing_are_known(family, saved, tmp_path):
    """Those of published folders, and everything that transformers itself writes, with its defaults."""
    common = {"_name_or_path": "x", "id2label": {"0": "a"}, "temperature": 0.2, "architectures": None, "dtype": None}
    config = open_weights(edited(saved[family], tmp_path, {**common, **HARMLESS[family]})).config
    assert config.architecture() == open_weights(saved[family]).config.architecture()
    theirs = type(transformers.AutoConfig.from_pretrained(saved[family]))
    family_of(family).config_from_huggingface(theirs().to_dict())


@pytest.mark.parametrize("family", HARMLESS)
def test_every_field_of_transformers_configurations_is_read_or_known(family, saved):
    """A field that transformers adds to a family is not passed over: this fails until someone looks at it."""
    theirs = type(transformers.AutoConfig.from_pretrained(saved[family]))
    names = [name for name in inspect.signature(theirs.__init__).parameters if name not in ("self", "kwargs")]
    for name in names:
        try:
            family_of(family).config_from_huggingface({name: None})
        except ValueError as error:
            assert "unknown field" not in str(error)


def test_names_of_one_activation_are_one_function():
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    for name, own in ACTIVATIONS.items():
        torch.testing.assert_close(ACT2FN[name](x), ACT2FN[write_activation(own)](x), atol=1e-7, rtol=0)
    distinct = [ACT2FN[write_activation(own)](x) for own in dict.fromkeys(ACTIVATIONS.values())]
    assert all((a - b).abs().max() > 1e-4 for i, a in enumerate(distinct) for b in distinct[:i])
