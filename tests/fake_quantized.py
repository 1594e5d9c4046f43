"""A model of transformers that computes in floating point what the tensors of a W8A8 folder stand for.

Written from the formats' formulas with PyTorch and safetensors alone: nothing of `mindcoder` is used, so that what the
package computes from the same folder can be compared with it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch


def fake_quantized(model: torch.nn.Module, tensors: Mapping[str, np.ndarray], divisor: float = 127) -> torch.nn.Module:
    """A copy of ``model`` whose quantized linear layers have the values of their integers, inputs included.

    Args:
        model: in float32, the one that was quantized.
        tensors: of the folder, msModelSlim's or compressed-tensors', by name.
        divisor: of a token's largest magnitude, where each token has its own scale.
    """
    model = copy.deepcopy(model).eval()
    modules = [name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale")]
    assert modules
    for name in modules:
        linear, numbers = model.get_submodule(name), tensors[f"{name}.weight"]
        assert numbers.dtype == np.int8
        linear.weight.data = torch.tensor(numbers.astype(np.float32) * tensors[f"{name}.weight_scale"])
        scale = tensors.get(f"{name}.input_scale")
        if scale is None:
            linear.register_forward_pre_hook(_by_token(divisor))
            continue
        offset = tensors.get(f"{name}.input_offset", tensors.get(f"{name}.input_zero_point", np.zeros(1)))
        linear.register_forward_pre_hook(_by_tensor(float(scale[0]), float(offset[0])))
        if f"{name}.quant_bias" in tensors:
            units = tensors[f"{name}.quant_bias"] + float(offset[0]) * numbers.astype(np.int64).sum(1)
            bias = torch.tensor((units * tensors[f"{name}.deq_scale"]).astype(np.float32))
            if linear.bias is None:
                assert not bias.any()
            else:
                linear.bias.data = bias
    return model


def _by_token(divisor: float):
    def rounded(_, inputs):
        scale = inputs[0].abs().amax(-1, keepdim=True) / divisor
        return (torch.clamp(torch.round(inputs[0] / scale), -128, 127) * scale,)

    return rounded


def _by_tensor(scale: float, offset: float):
    def rounded(_, inputs):
        return ((torch.clamp(torch.round(inputs[0] / scale + offset), -128, 127) - offset) * scale,)

    return rounded
