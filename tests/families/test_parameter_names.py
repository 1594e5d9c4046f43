"""Global parameter names, taken apart and put together."""

from __future__ import annotations

import pytest

from mindcoder.families.parameter_names import ParameterName, in_layer, split_layer


@pytest.mark.parametrize(
    "name, expected",
    [
        ("layers.3.attention.query.weight", ParameterName(3, "attention.query", "weight")),
        ("layers.12.mlp_norm.bias", ParameterName(12, "mlp_norm", "bias")),
        ("layers.0.mlp.up.mindpet_delta_lora_a", ParameterName(0, "mlp.up", "mindpet_delta_lora_a")),
        ("token_embedding.weight", ParameterName(None, "token_embedding", "weight")),
        ("step", ParameterName(None, "", "step")),
    ],
)
def test_a_name_is_taken_apart(name, expected):
    assert ParameterName.parse(name) == expected


def test_a_module_has_a_name_too():
    assert split_layer("layers.10.attention.query") == (10, "attention.query")
    assert split_layer("final_norm") == (None, "final_norm")
    assert in_layer(*split_layer("layers.10.attention.query")) == "layers.10.attention.query"


def test_a_layer_without_a_number_is_refused():
    with pytest.raises(ValueError, match="invalid literal"):
        ParameterName.parse("layers.first.weight")
