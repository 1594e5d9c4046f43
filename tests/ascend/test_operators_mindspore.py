"""MindSpore's own calls of the operators: its argument order and types, in two graphs, against PyTorch.

The other files check the operators with C calls of ours; here MindSpore's Ascend backend chooses and calls them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from softcann.environment import run_on_emulator

pytestmark = pytest.mark.long

# MindSpore's expression, and PyTorch's where it differs by more than the module's name.
CASES = [
    ("mint.add(x, y)", None), ("mint.sub(x, y)", None), ("mint.mul(x, y)", None), ("mint.div(x, y)", None),
    ("mint.maximum(x, y)", None), ("mint.minimum(x, y)", None), ("x + 2.5", None), ("1.0 - x", None),
    ("x / 3", None),
    ("mint.pow(x, 2.0)", None), ("mint.pow(2.0, x)", None), ("mint.pow(p, y)", None), ("mint.exp(x)", None),
    ("mint.log(p)", None),
    ("mint.sqrt(p)", None), ("mint.rsqrt(p)", None), ("mint.sin(x)", None), ("mint.cos(x)", None),
    ("mint.tanh(x)", None), ("mint.sigmoid(x)", None), ("mint.abs(x)", None), ("mint.neg(x)", None),
    ("mint.square(x)", None), ("mint.reciprocal(p)", None), ("mint.erf(x)", None),
    ("mint.erfinv(x / 4)", None), ("mint.log1p(p)", None),
    ("mint.expm1(x)", None), ("mint.floor(x)", None), ("mint.ceil(x)", None), ("F.silu(x)", None), ("F.relu(x)", None),
    ("F.gelu(x, approximate='tanh')", None), ("F.gelu(x)", None), ("F.softplus(x)", None), ("F.logsigmoid(x)", None),
    ("F.softmax(x, -1)", None), ("F.log_softmax(x, -1)", None), ("mint.sum(x, 1)", None), ("mint.sum(x)", None),
    ("mint.mean(x, 0, True)", None), ("mint.amax(x, 1)", None), ("mint.max(x)", None),
    ("mint.max(x, 1)[0]", None), ("mint.prod(x, 1)", None), ("mint.all(x > 0, 1)", None), ("mint.any(x > 1, 1)", None),
    ("mint.norm(x, 2)", None), ("mint.var(x, 1)", None), ("mint.logsumexp(x, 1)", None), ("mint.argmax(x, 1)", None),
    ("mint.topk(x, 2)[0]", None), ("mint.sort(x)[1]", None), ("mint.argsort(x)", None), ("mint.cumsum(x, 1)", None),
    ("mint.eq(x, y)", None), ("mint.ne(x, y)", None), ("mint.gt(x, y)", None), ("mint.ge(x, y)", None),
    ("mint.lt(x, y)", None), ("mint.le(x, y)", None), ("x > 0.5", None), ("small == 2", None),
    ("mint.logical_and(x > 0, y > 0)", None), ("mint.logical_not(x > 0)", None), ("mint.isfinite(x)", None),
    ("mint.where(x > 0, x, y)", None), ("mint.clamp(x, -0.5, 0.5)", None), ("mint.cat((x, y), 1)", None),
    ("mint.stack((x, y), 1)", None), ("mint.split(x, 2, 1)[1]", None), ("mint.split(x, (1, 3, 2), 1)[2]", None),
    ("mint.permute(x, (1, 0)) + 0.0", None), ("mint.tile(x, (2, 3))", None), ("mint.broadcast_to(x, (3, 4, 6))", None),
    ("mint.narrow(x, 1, 2, 3) * 2", None), ("F.pad(x, (1, 2), value=3.0)", None), ("mint.triu(x, 1)", None),
    ("mint.tril(x, 0)", None), ("mint.flip(x, (0,))", None), ("mint.roll(x, 1, 0)", None),
    ("mint.gather(x, 1, places)", None), ("mint.index_select(x, 0, small)", None),
    ("mint.index_add(x, 0, small, rows)", None), ("mint.scatter_add(x, 1, places, few)", None),
    ("F.one_hot(labels, 6)", None), ("mint.matmul(a, w)", None),
    ("mint.bmm(a, mint.permute(a, (0, 2, 1)))", "a @ a.mT"),
    ("ops.MatMul(transpose_b=True)(x, y)", "x @ y.t()"),
    ("mint.addmm(y, x, mint.matmul(mint.permute(x, (1, 0)), x))", "y + x @ (x.t() @ x)"),
    ("F.layer_norm(x, (6,), u, v)", None),
    ("ops.RmsNorm(1e-6)(x, v)[0]", "x * torch.rsqrt(x.square().mean(-1, True) + 1e-6) * v"),
    ("generated.Swiglu()(x, -1)", "F.silu(x[:, :3]) * x[:, 3:]"),
    ("generated.RotaryPositionEmbedding()(h, cos, sin, 0)",
     "h * cos + torch.cat((-h[..., 2:], h[..., :2]), -1) * sin"),
    ("F.cross_entropy(x, labels)", None), ("F.nll_loss(x, labels)", None), ("mint.bitwise_and(small, 3)", None),
    ("mint.bitwise_xor(small, small + 1)", None), ("small // 2", None), ("mint.remainder(small, 2)", None),
    ("ops.cast(ops.cast(x, ms.bfloat16), ms.float32)", "x.bfloat16().float()"),
]  # fmt: skip
# Gradients by x of these, the first that contain the word. No embedding is here: MindSpore takes it for an operator in
# place and refuses it beside gradients of views.
GRADIENTS = [
    "silu", "approximate", "gelu(x)", "softmax(x", "log_softmax", "sigmoid(x)", "tanh", "layer_norm", "RmsNorm",
    "Swiglu", "cross_entropy", "index_select", "gather", "cat(", "div(", "norm(x", "cumsum", "amax", "mean",
    "exp(x)", "MatMul", "where", "logsigmoid", "softplus", "relu", "permute", "broadcast_to", "tile",
]  # fmt: skip

PROGRAM = """
import sys
import numpy as np
import mindspore as ms
from mindspore import Tensor, mint, nn, ops
from mindspore.mint.nn import functional as F
from mindspore.ops import auto_generate as generated

ms.set_context(mode=0)
ms.set_device("Ascend")
ms.runtime.dispatch_threads_num(4)
{functions}

class Values(nn.Cell):
    def construct(self, {names}):
        return ({values})


class Gradients(nn.Cell):
    def construct(self, {names}):
        return ({gradients})


inputs = np.load(sys.argv[1])
tensors = [Tensor(inputs[name]) for name in "{names}".split(", ")]
found = [*Values()(*tensors), *Gradients()(*tensors)]
np.savez(sys.argv[2], *[part.asnumpy() for part in found])
"""


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "x": (4, 6),
        "y": (4, 6),
        "a": (2, 3, 4),
        "w": (4, 5),
        "u": (6,),
        "v": (6,),
        "rows": (3, 6),
        "few": (2, 2),
    }
    shapes |= {"h": (1, 2, 3, 4), "cos": (1, 1, 3, 4), "sin": (1, 1, 3, 4)}
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    made |= {"p": made["x"].abs() + 0.1, "small": torch.tensor([3, 0, 2], dtype=torch.int32)}
    return made | {"places": torch.tensor([[1, 2], [0, 5]]), "labels": torch.tensor([1, 2, 0, 5])}


def torch_expression(expression: str, other: str | None) -> str:
    named = {"mint.split(": "split(", "mint.permute(": "torch.permute(", "mint.max(x, 1)[0]": "x.max(1)[0]"}
    text = other or expression
    for before, after in named.items():
        text = text.replace(before, after)
    return text.replace("mint.", "torch.")


def split(tensor: torch.Tensor, sizes: int | tuple[int, ...], dim: int) -> tuple[torch.Tensor, ...]:
    return tensor.split(list(sizes) if isinstance(sizes, tuple) else sizes, dim)


def test_mindspore_calls_operators_as_they_are_written(tmp_path: Path):
    tensors = inputs()
    names = ", ".join(tensors)
    differentiated = [next(i for i, (expression, _) in enumerate(CASES) if word in expression) for word in GRADIENTS]
    assert len(set(differentiated)) == len(GRADIENTS)
    functions = "".join(f"\ndef f{i}({names}):\n    return {case[0]}\n" for i, case in enumerate(CASES))
    values = ", ".join(f"f{i}({names})" for i in range(len(CASES)))
    gradients = ", ".join(f"ops.grad(f{i})({names})" for i in differentiated)
    np.savez(tmp_path / "inputs.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    program = tmp_path / "program.py"
    program.write_text(
        PROGRAM.format(functions=functions, names=names, values=values, gradients=gradients), encoding="utf-8"
    )
    outputs = tmp_path / "outputs.npz"
    rank = run_on_emulator([str(program), str(tmp_path / "inputs.npz"), str(outputs)])[0]
    assert rank.returncode == 0, rank.output[-4000:]
    found = list(np.load(outputs).values())
    scope = {"torch": torch, "F": F, "split": split}
    wrong = []
    for i, case in enumerate(CASES):
        text = torch_expression(*case)
        expected = eval(text, scope, dict(tensors))  # the expressions above
        if not close(found[i], expected):
            wrong.append(case[0])
    for i, gradient in zip(differentiated, found[len(CASES) :]):
        x = tensors["x"].clone().requires_grad_()
        eval(torch_expression(*CASES[i]), scope, tensors | {"x": x}).sum().backward()
        if not close(gradient, x.grad):
            wrong.append(f"gradient of {CASES[i][0]}")
    assert wrong == []


def close(found: np.ndarray, expected: torch.Tensor) -> bool:
    right = expected.detach().numpy()
    return found.shape == right.shape and np.allclose(found.astype(np.float64), right.astype(np.float64), 1e-4, 1e-5)
