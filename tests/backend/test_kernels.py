"""The seam between devices: both sides have the same operators with the same parameters."""

from __future__ import annotations

import inspect

from mindcoder.backend import composed, fused


def test_both_devices_have_the_same_operators():
    assert set(composed.__all__) == set(fused.__all__)
    for name in composed.__all__:
        one, other = getattr(composed, name), getattr(fused, name)
        methods = ["construct"]
        if "__init__" in vars(one) and "__init__" in vars(other):  # else nn.Cell's, without arguments
            methods.append("__init__")
        for method in methods:
            expected = list(inspect.signature(getattr(one, method)).parameters)
            assert list(inspect.signature(getattr(other, method)).parameters) == expected, (name, method)
