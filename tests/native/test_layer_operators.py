"""The C++ operators of layers, called by MindSpore's graphs on CPU: values and gradients against PyTorch."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend import operators, row_operators
from mindcoder.backend.dropout import AttentionDropBits, CounterDropout
from mindcoder.backend.operator_source import operator

DTYPES = {
    "float32": (ms.float32, torch.float32, 1e-5),
    "bfloat16": (ms.bfloat16, torch.bfloat16, 1e-2),
    "float16": (ms.float16, torch.float16, 2e-3),
}


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def both(dtype: str, *arrays: np.ndarray) -> tuple[list, list]:
    """The arrays as MindSpore's and as PyTorch's tensors, which want gradients."""
    ours, theirs, _ = DTYPES[dtype]
    reference = [torch.tensor(array).to(theirs).requires_grad_() for array in arrays]
    return [Tensor(array).astype(ours) for array in arrays], reference


def agree(found: Tensor, expected: torch.Tensor, tolerance: float) -> None:
    one, other = found.astype(ms.float32).asnumpy(), expected.detach().float().numpy()
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= tolerance * max(1.0, np.abs(other).max())


def value_and_gradients(cell: nn.Cell, inputs: list, dout: Tensor) -> tuple:
    class Weighted(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell

        def construct(self, dout, *own):  # an input: MindSpore would compute with a constant as it compiles
            out = self.cell(*own)
            return (ops.cast(out, ms.float32) * ops.cast(dout, ms.float32)).sum()

    return cell(*inputs), ms.grad(Weighted(), tuple(range(1, len(inputs) + 1)))(dout, *inputs)


def compare(cell: nn.Cell, reference, dtype: str, *arrays: np.ndarray) -> None:
    """Values and gradients of all inputs; PyTorch computes in float64 what comes in rounded to the dtype."""
    ours, theirs = both(dtype, *arrays)
    exact = [item.detach().double().requires_grad_() for item in theirs]
    expected = reference(*exact)
    weights = torch.tensor(draw(*expected.shape, seed=9)).to(DTYPES[dtype][1])
    (expected * weights.double()).sum().backward()
    dout = Tensor(weights.float().numpy()).astype(DTYPES[dtype][0])
    value, gradients = value_and_gradients(cell, ours, dout)
    tolerance = DTYPES[dtype][2]
    agree(value, expected, tolerance)
    for gradient, item in zip(gradients if isinstance(gradients, tuple) else (gradients,), exact):
        agree(gradient, item.grad, tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows, size", [(1, 8), (70, 40), (33, 257)])
def test_layer_norm(dtype, rows, size):
    cell = operators.LayerNorm(1e-5)
    arrays = (draw(rows, size), draw(size, seed=1), draw(size, seed=2))
    compare(cell, lambda x, w, b: torch.nn.functional.layer_norm(x, (size,), w, b, 1e-5), dtype, *arrays)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows, size", [(1, 8), (70, 40), (33, 257)])
def test_rms_norm(dtype, rows, size):
    cell = operators.RMSNorm(1e-6)
    arrays = (draw(rows, size), draw(size, seed=1))
    compare(cell, lambda x, w: torch.nn.functional.rms_norm(x, (size,), w, 1e-6), dtype, *arrays)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_matrix_product(dtype, transpose_a, transpose_b):
    cell = operator("MatMul", transpose_a=transpose_a, transpose_b=transpose_b)

    class Product(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.own = cell

        def construct(self, a, b):
            return self.own(a, b)

    def reference(a, b):
        return (a.T if transpose_a else a) @ (b.T if transpose_b else b)

    shapes = ((53, 31) if transpose_a else (31, 53), (17, 53) if transpose_b else (53, 17))
    compare(Product(), reference, dtype, draw(*shapes[0]), draw(*shapes[1], seed=1))


class Gelu(nn.Cell):
    """With the gradient that the feed-forward network takes."""

    def __init__(self) -> None:
        super().__init__()
        self.own = operators.GeluTanh()

    def construct(self, x):
        return self.own(x)

    def bprop(self, x, out, dout):
        return (self.own.gradient(x, dout),)


class Swiglu(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.own = operators.SwiGLU()

    def construct(self, gate, up):
        return self.own(gate, up)

    def bprop(self, gate, up, out, dout):
        return self.own.gradient(gate, up, dout)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_activations(dtype, scale):
    x, up = draw(37, 45) * scale, draw(37, 45, seed=1)
    compare(Gelu(), lambda x: torch.nn.functional.gelu(x, approximate="tanh"), dtype, x)
    compare(operators.GeluTanh(), lambda x: torch.nn.functional.gelu(x, approximate="tanh"), dtype, x)
    compare(Swiglu(), lambda gate, up: torch.nn.functional.silu(gate) * up, dtype, x, up)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("heads, head_dim", [(1, 8), (3, 64), (2, 80)])
def test_rotary_embedding(dtype, heads, head_dim):
    tokens = 21
    angles = draw(tokens, head_dim // 2, seed=3)
    cell = operators.ApplyRotary(head_dim)
    cos, sin = (
        Tensor(np.concatenate([part, part], 1)).astype(DTYPES[dtype][0]) for part in (np.cos(angles), np.sin(angles))
    )
    cos, sin = cell.per_head(cos), cell.per_head(sin)
    exact_cos, exact_sin = (
        torch.tensor(item.astype(ms.float32).asnumpy().reshape(tokens, 1, head_dim)).double() for item in (cos, sin)
    )

    class Rotate(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.own = cell

        def construct(self, x):
            return self.own(x, cos, sin)

    def reference(x):
        rows = x.reshape(tokens, heads, head_dim)
        low, high = rows.chunk(2, -1)
        return (rows * exact_cos + torch.cat((-high, low), -1) * exact_sin).reshape(x.shape)

    compare(Rotate(), reference, dtype, draw(tokens * heads, head_dim))


@pytest.mark.parametrize("dtype", DTYPES)
def test_look_up(dtype):
    places = np.array([3, 0, 3, 9, 1], np.int32)

    class LookUp(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.own = row_operators.LookUp()

        def construct(self, table):
            return self.own(table, Tensor(places))

    compare(LookUp(), lambda table: table[torch.tensor(places).long()], dtype, draw(10, 33))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_bias_cuts_and_forks(dtype):
    compare(row_operators.AddBias(), lambda x, b: x + b, dtype, draw(130, 19), draw(19, seed=1))

    class Cuts(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.fork, self.rows, self.columns = row_operators.Fork(2), row_operators.Cut(0), row_operators.Cut(1)

        def construct(self, x):
            one, other = self.fork(x)
            return self.rows(one, 2, 7) * 2.0 + self.columns(other, 1, 4).reshape((5, 6))

    compare(Cuts(), lambda x: x[2:7] * 2.0 + x[:, 1:4].reshape(5, 6), dtype, draw(10, 6))


def test_rows_are_added_and_written():
    table, rows, places = draw(12, 35), draw(4, 35, seed=1), np.array([2, 11, 2, 0], np.int32)
    expected = torch.tensor(table).index_add(0, torch.tensor(places), torch.tensor(rows))
    agree(row_operators.AddRows()(Tensor(table), Tensor(places), Tensor(rows)), expected, 1e-6)
    parameter = Parameter(Tensor(table), name="table")
    row_operators.WriteRows()(parameter, Tensor(places[1:]), Tensor(rows[1:]))
    table[places[1:]] = rows[1:]
    np.testing.assert_array_equal(parameter.asnumpy(), table)
    row_operators.AssignAdd()(parameter, Tensor(table))
    np.testing.assert_array_equal(parameter.asnumpy(), table * 2)
    row_operators.Assign()(parameter, Tensor(table))
    np.testing.assert_array_equal(parameter.asnumpy(), table)


def test_label_gradient_and_norm():
    logits, labels = draw(9, 31), np.arange(9, dtype=np.int32)
    own = torch.tensor(logits).requires_grad_()
    torch.nn.functional.cross_entropy(own, torch.tensor(labels).long(), reduction="sum").backward()
    probabilities = ops.softmax(Tensor(logits), -1)
    agree(row_operators.LabelGradient()(probabilities, Tensor(labels)), own.grad, 1e-6)
    many = draw(70, 300)
    found = row_operators.HalfSquareSum()(Tensor(many)).asnumpy()
    np.testing.assert_allclose(found, (many.astype(np.float64) ** 2).sum() / 2, rtol=1e-6)


@pytest.mark.parametrize("steps, decay, rate", [(1, 0.0, 1e-3), (5, 0.1, 3e-4)])
def test_adamw(steps, decay, rate):
    weight, gradients = draw(7, 30), [draw(7, 30, seed=5 + step) for step in range(steps)]
    theirs = torch.tensor(weight).requires_grad_()
    optimizer = torch.optim.AdamW([theirs], lr=rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=decay)

    class Update(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.adamw, self.to_host = operator("AdamW"), operator("TensorToScalar")
            self.own = Parameter(Tensor(weight), name="own")
            self.m, self.v = (Parameter(Tensor(weight * 0), name=name) for name in "mv")

        def construct(self, gradient, finished, rate):
            scalars = (self.to_host(rate), 0.9, 0.95, decay, 1e-8, False, False)
            return self.adamw(self.own, self.m, self.v, self.v, gradient, finished, *scalars)[0]

    cell = Update()
    for step, gradient in enumerate(gradients):
        theirs.grad = torch.tensor(gradient)
        optimizer.step()
        cell(Tensor(gradient), Tensor([step], ms.float32), Tensor(rate, ms.float32))
    np.testing.assert_allclose(cell.own.asnumpy(), theirs.detach().numpy(), rtol=2e-6, atol=2e-7)
    np.testing.assert_allclose(cell.v.asnumpy(), optimizer.state[theirs]["exp_avg_sq"].numpy(), rtol=2e-6, atol=1e-9)


def test_views_in_pynative_mode():
    """An operator that is ours and MindSpore's own get views as contiguous tensors."""
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        x = draw(10, 6)
        given = Tensor(x)
        np.testing.assert_array_equal((ops.transpose(given, (1, 0)) * 2.0).asnumpy(), x.T * 2)
        np.testing.assert_array_equal((given[2:7] + given[3:8]).asnumpy(), x[2:7] + x[3:8])
        np.testing.assert_allclose(given[:, 1:3].sum(0).asnumpy(), x[:, 1:3].sum(0), rtol=1e-6)
        np.testing.assert_array_equal(given.T.astype(ms.float16).asnumpy(), x.T.astype(np.float16))
        changed = Tensor(x.copy())
        changed[2:4] += 5.0
        x[2:4] += 5.0
        np.testing.assert_array_equal(changed.asnumpy(), x)
    finally:
        ms.set_context(mode=before)


@pytest.mark.parametrize("length, total", [(5, 7), (16, 24), (1, 3)])
def test_bits_of_attention_dropout_are_those_of_the_composed_mask(length, total):
    batch, heads, groups, rate = 2, 6, 3, 0.3
    bits = AttentionDropBits(rate, 5, heads, groups)(Tensor(11, ms.int32), batch, length, total, ms.float32)
    found = np.unpackbits(bits.asnumpy(), bitorder="little")[: batch * heads * length * total]
    folded = Tensor(np.ones((batch * groups, length * heads // groups, total), np.float32))
    mask = CounterDropout(rate, 5).mask(folded, Tensor(11, ms.int32)).asnumpy() > 0
    expected = mask.reshape(batch, groups, length, heads // groups, total).transpose(0, 1, 3, 2, 4)
    np.testing.assert_array_equal(found.astype(bool), expected.reshape(-1))
