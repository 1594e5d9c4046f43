"""Gemma against transformers' GemmaForCausalLM with the same random weights."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from families import random_model
from family_suite import FamilyTests

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.weights import open_weights


class TestGemma(FamilyTests):
    family = "gemma"
    variants = [
        pytest.param({"head_dim": 24, "num_key_value_heads": 1, "pad_token_id": None}, id="multi-query head-dim"),
        pytest.param({"head_dim": 16, "num_key_value_heads": 4, "pad_token_id": None}, id="multi-head"),
    ]
    refused = [
        ({"hidden_act": "silu"}, "hidden_act 'silu' is not implemented"),
        ({"attention_bias": True}, "attention_bias true is not implemented"),
    ]
    sizes = {"codegemma_2b": 2.51, "codegemma_7b": 8.54}


def test_gguf_files_have_norms_around_one_and_the_names_of_llama_cpp(tmp_path):
    model = random_model("gemma", num_key_value_heads=1, head_dim=24, pad_token_id=None)
    model.save_pretrained(tmp_path / "hf")
    for source, target in (("hf", "a.gguf"), ("a.gguf", "back")):
        convert(ConvertRequest(str(tmp_path / source), tmp_path / target, show_progress=False))
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    stored = {tensor.name: np.asarray(tensor.data) for tensor in reader.tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA, 3)
    weights = {name: value.numpy() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    assert len(stored) == len(weights)
    for name, value in weights.items():
        base, _, part = name.rpartition(".")
        offset = np.float32(name.endswith("norm.weight"))
        np.testing.assert_array_equal(stored[f"{names.get_name(base)}.{part}"].reshape(value.shape), value + offset)
    assert reader.fields["gemma.attention.key_length"].contents() == 24
    expected, found = (open_weights(tmp_path / name) for name in ("hf", "back"))
    assert found.config.architecture() == expected.config.architecture()
    for name, plan in expected.parameters().items():
        np.testing.assert_allclose(found.parameters()[name].read(), plan.read(), atol=2e-7)
