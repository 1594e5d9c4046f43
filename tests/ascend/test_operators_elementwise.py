"""Element-wise operators of softcann against PyTorch: each dtype, contiguous and strided, and what is refused."""

import ctypes

import pytest
import torch
import torch.nn.functional as F

from softcann.testing import Refused, Scalar, run

pytestmark = pytest.mark.long

HALVES = [torch.float16, torch.bfloat16]
FLOATS = [torch.float32, *HALVES]
ONE = Scalar(1.0)
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float64: 1e-12}


def values(*shape, dtype=torch.float32, seed=0, positive=False, strided=False):
    """Numbers from a seed; ``strided`` gives a transposed view of a larger tensor with an offset."""
    generator = torch.Generator().manual_seed(seed)
    if strided:
        base = values(*[size + 1 for size in reversed(shape)], dtype=dtype, seed=seed, positive=positive)
        return base.permute(*reversed(range(len(shape))))[tuple(slice(1, None) for _ in shape)]
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) > 0.5
    if not dtype.is_floating_point:
        return torch.randint(1 if positive else -9, 10, shape, generator=generator).to(dtype)
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (numbers.abs() + 0.1 if positive else numbers).to(dtype)


def assert_close(found, expected, scale=1.0):
    assert found.shape == expected.shape
    if not found.dtype.is_floating_point:
        assert torch.equal(found, expected.to(found.dtype))
        return
    tolerance = TOLERANCE[found.dtype] * scale
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


UNARY = {
    "aclnnNeg": torch.neg, "aclnnAbs": torch.abs, "aclnnSquare": torch.square, "aclnnExp": torch.exp,
    "aclnnSin": torch.sin, "aclnnCos": torch.cos, "aclnnTanh": torch.tanh, "aclnnSigmoid": torch.sigmoid,
    "aclnnExpm1": torch.expm1, "aclnnExp2": torch.exp2, "aclnnSilu": F.silu, "aclnnRelu": F.relu,
    "aclnnLogSigmoid": F.logsigmoid, "aclnnCeil": torch.ceil, "aclnnTrunc": torch.trunc, "aclnnRound": torch.round,
    "aclnnSign": torch.sign, "aclnnHardswish": F.hardswish, "aclnnGelu": lambda x: F.gelu(x, approximate="tanh"),
}  # fmt: skip
POSITIVE = {
    "aclnnSqrt": torch.sqrt, "aclnnRsqrt": torch.rsqrt, "aclnnLog": torch.log, "aclnnReciprocal": torch.reciprocal,
    "aclnnLog1p": torch.log1p, "aclnnLog2": torch.log2, "aclnnLog10": torch.log10,
}  # fmt: skip


@pytest.mark.parametrize("name", [*UNARY, *POSITIVE])
@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_one_element(name, dtype):
    for strided in (False, True):
        x = values(3, 5, dtype=dtype, positive=name in POSITIVE, strided=strided)
        out = values(3, 5, dtype=dtype, strided=strided, seed=1)
        run(name, x, out)
        assert_close(out, ({**UNARY, **POSITIVE}[name])(x.double()).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_error_function_and_floor(dtype):
    x = values(4, 6, dtype=dtype)
    for name, function in {"aclnnErf": torch.erf, "aclnnFloor": torch.floor}.items():
        out = torch.empty_like(x)
        run(name, x, out)
        assert_close(out, function(x.double()).to(dtype))
    with pytest.raises(Refused, match="aclnnErf: self: found bfloat16"):
        run("aclnnErf", values(2, dtype=torch.bfloat16), torch.empty(2, dtype=torch.bfloat16))


@pytest.mark.parametrize("dtype", FLOATS)
def test_inverse_error_function(dtype):
    for strided in (False, True):
        x = values(3, 5, dtype=dtype, strided=strided)
        x.div_(5).clamp_(-1, 1)
        out = values(3, 5, dtype=dtype, strided=strided, seed=1)
        run("aclnnErfinv", x, out)
        assert_close(out, torch.erfinv(x.double()).to(dtype))
        changed = x.clone()
        run("aclnnInplaceErfinv", changed)
        assert torch.equal(changed, out)
    tails = torch.tensor([0.0, 1e-6, -0.5, 0.5001, 0.999, -0.9999999, 1.0, -1.0, 1.5], dtype=dtype)
    out = torch.empty_like(tails)
    run("aclnnErfinv", tails, out)
    assert_close(out, torch.erfinv(tails.double()).to(dtype))


def test_inverse_error_function_of_integers_and_what_it_refuses():
    for dtype in (torch.bool, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64):
        out = torch.empty(2)
        run("aclnnErfinv", torch.tensor([0, 1], dtype=dtype), out)
        assert out.tolist() == [0.0, float("inf")]
    with pytest.raises(Refused, match="aclnnErfinv: self: found float64"):
        run("aclnnErfinv", torch.ones(2).double(), torch.ones(2))
    with pytest.raises(Refused, match="aclnnErfinv: out: found int32"):
        run("aclnnErfinv", torch.ones(2), torch.ones(2).int())
    with pytest.raises(Refused, match="aclnnErfinv: out"):
        run("aclnnErfinv", torch.ones(2), torch.ones(3))
    with pytest.raises(Refused, match="aclnnInplaceErfinv: selfRef: found int32"):
        run("aclnnInplaceErfinv", torch.ones(2).int())


BINARY = {
    "aclnnMul": torch.mul, "aclnnMaximum": torch.maximum, "aclnnMinimum": torch.minimum, "aclnnDiv": torch.div,
    "aclnnPowTensorTensor": lambda x, y: torch.pow(x, y),
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int32, torch.int64, torch.int8])
def test_functions_of_two_tensors(name, dtype):
    x, y = values(2, 3, 4, dtype=dtype, positive=True), values(3, 1, dtype=dtype, positive=True, seed=1)
    if name == "aclnnPowTensorTensor":
        x, y = x.clamp(max=3), y.clamp(max=3)
    expected = BINARY[name](x, y) if not dtype.is_floating_point else BINARY[name](x.double(), y.double()).to(dtype)
    out = torch.empty(expected.shape, dtype=expected.dtype)
    run(name, x, y, out)
    assert_close(out, expected)
    strided = values(4, 3, dtype=dtype, positive=True, strided=True)
    out = torch.empty((3, 4), dtype=expected.dtype).t()
    if name != "aclnnPowTensorTensor":
        run(name, strided, strided, out)
        assert_close(out, BINARY[name](strided.double() if dtype.is_floating_point else strided, strided).to(out.dtype))


def test_sums_with_a_factor_in_every_form():
    x, y = values(3, 4), values(4, seed=1)
    for name, expected in {"aclnnAdd": x + 2.5 * y, "aclnnSub": x - 2.5 * y}.items():
        out = torch.empty(3, 4)
        run(name, x, y, Scalar(2.5), out)
        assert_close(out, expected)
        changed = x.clone()
        run(name.replace("aclnn", "aclnnInplace"), changed, y, Scalar(2.5))
        assert_close(changed, expected)
    for name, expected in {"aclnnAdds": x + 6.0, "aclnnSubs": x - 6.0}.items():
        out = torch.empty(3, 4)
        run(name, x, Scalar(3.0), Scalar(2.0), out)
        assert_close(out, expected)
    for name, expected in {"aclnnMuls": x * 3, "aclnnDivs": x / 3, "aclnnFmodScalar": torch.fmod(x, 3)}.items():
        out = torch.empty(3, 4)
        run(name, x, Scalar(3.0), out)
        assert_close(out, expected)
    counter = torch.ones(1)
    run("aclnnInplaceAdds", counter, ONE, ONE)
    run("aclnnInplaceMuls", counter, Scalar(3.0))
    assert counter.item() == 6


def test_dtypes_are_promoted_and_a_scalar_takes_the_tensors_dtype():
    half, brain = values(5, dtype=torch.float16), values(5, dtype=torch.bfloat16, seed=1)
    out = torch.empty(5)
    run("aclnnMul", half, brain, out)
    assert_close(out, half.float() * brain.float())
    run("aclnnMul", torch.tensor([True, False]), torch.tensor([2.5, 3.5]), out[:2])
    assert out[:2].tolist() == [2.5, 0.0]
    # 1e-8 is 0 in float16: CANN rounds the scalar first.
    small = torch.zeros(2, dtype=torch.float16)
    run("aclnnAdds", torch.zeros(2, dtype=torch.float16), Scalar(1e-8), ONE, small)
    assert small.tolist() == [0.0, 0.0]
    whole = torch.empty(2)
    run("aclnnMuls", torch.tensor([2, 3], dtype=torch.int32), Scalar(0.5), whole)
    assert whole.tolist() == [1.0, 1.5]


def test_integers_wrap_around_and_divide_as_the_mode_says():
    x = torch.tensor([2**31 - 1, -7, 7], dtype=torch.int32)
    out = torch.empty(3, dtype=torch.int32)
    run("aclnnAdds", x, Scalar(1), Scalar(1), out)
    assert out.tolist() == [-(2**31), -6, 8]
    run("aclnnMuls", x, Scalar(0x7FEB352D), out)
    assert_close(out, (x.long() * 0x7FEB352D).to(torch.int32))
    for mode, rounding in {1: "trunc", 2: "floor"}.items():
        run("aclnnDivMods", x, Scalar(2), ctypes.c_int(mode), out)
        assert_close(out, torch.div(x, 2, rounding_mode=rounding))
    run("aclnnFloorDivides", x, Scalar(2), out)
    assert_close(out, x // 2)
    run("aclnnRemainderTensorScalar", x, Scalar(4), out)
    assert_close(out, torch.remainder(x, 4))
    with pytest.raises(Refused, match="mode: found 3"):
        run("aclnnDivMods", x, Scalar(2), ctypes.c_int(3), out)


@pytest.mark.parametrize("word", ["eq", "ne", "gt", "ge", "lt", "le"])
def test_comparisons(word):
    for dtype in (torch.float32, torch.bfloat16, torch.int32, torch.int64):
        x, y = values(4, 5, dtype=dtype).round(), values(5, dtype=dtype, seed=2).round()
        out = torch.empty(4, 5, dtype=torch.bool)
        run(f"aclnn{word.title()}Tensor", x, y, out)
        assert torch.equal(out, getattr(torch, word)(x, y))
        run(f"aclnn{word.title()}Scalar", x, Scalar(1), out)
        assert torch.equal(out, getattr(torch, word)(x, 1))


def test_logic_and_finiteness():
    x, y = values(9, dtype=torch.bool), values(9, dtype=torch.bool, seed=3)
    out = torch.empty(9, dtype=torch.bool)
    for word in ("and", "or", "xor"):
        run(f"aclnnLogical{word.title()}", x, y, out)
        assert torch.equal(out, getattr(torch, f"logical_{word}")(x, y))
    run("aclnnLogicalNot", x, out)
    assert torch.equal(out, ~x)
    odd = torch.tensor([1.0, float("inf"), float("-inf"), float("nan")])
    for dtype in FLOATS:
        found = torch.empty(4, dtype=torch.bool)
        run("aclnnIsFinite", odd.to(dtype), found)
        assert found.tolist() == [True, False, False, False]
        run("aclnnIsInf", odd.to(dtype), found)
        assert found.tolist() == [False, True, True, False]
    with pytest.raises(Refused, match="out: found float32"):
        run("aclnnIsFinite", odd, torch.empty(4))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.int8])
def test_bits(dtype):
    x, y = values(3, 5, dtype=dtype), values(5, dtype=dtype, seed=4)
    out = torch.empty(3, 5, dtype=dtype)
    for word in ("and", "or", "xor"):
        function = getattr(torch, f"bitwise_{word}")
        run(f"aclnnBitwise{word.title()}Tensor", x, y, out)
        assert torch.equal(out, function(x, y))
        run(f"aclnnBitwise{word.title()}Scalar", x, Scalar(5), out)
        assert torch.equal(out, function(x, 5))
    run("aclnnBitwiseNot", x, out)
    assert torch.equal(out, ~x)
    shift = y.abs() % 7
    run("aclnnRightShift", x, shift, out)
    assert torch.equal(out, x >> shift)
    run("aclnnLeftShift", x, shift, out)
    assert torch.equal(out, x << shift)
    with pytest.raises(Refused, match="self: found float32"):
        run("aclnnBitwiseXorScalar", torch.ones(2), Scalar(5), torch.ones(2))


def test_choices_and_bounds():
    for dtype in [*FLOATS, torch.int32]:
        x, y, mask = values(3, 4, dtype=dtype), values(4, dtype=dtype, seed=5), values(3, 1, dtype=torch.bool, seed=6)
        out = torch.empty(3, 4, dtype=dtype)
        run("aclnnSWhere", mask, x, y, out)
        assert torch.equal(out, torch.where(mask, x, y))
        run("aclnnClamp", x, Scalar(-1), Scalar(1), out)
        assert torch.equal(out, x.clamp(-1, 1))
        run("aclnnClampMin", x, Scalar(0), out)
        assert torch.equal(out, x.clamp(min=0))
        run("aclnnClampMax", x, Scalar(0), out)
        assert torch.equal(out, x.clamp(max=0))
        filled = x.clone()
        run("aclnnInplaceMaskedFillScalar", filled, mask, Scalar(7))
        assert torch.equal(filled, x.masked_fill(mask, 7))
        filled = x.t().clone().t()
        run("aclnnInplaceMaskedFillTensor", filled, mask, torch.tensor(3, dtype=dtype))
        assert torch.equal(filled, x.masked_fill(mask, 3))
    with pytest.raises(Refused, match="mask: found uint8"):
        run("aclnnInplaceMaskedFillScalar", torch.ones(2), torch.ones(2, dtype=torch.uint8), Scalar(1.0))


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradients_of_activations(dtype):
    d, x = values(4, 6, dtype=dtype), values(4, 6, dtype=dtype, seed=7)

    def gradient(function):
        exact = x.double().requires_grad_()
        function(exact).backward(d.double())
        return exact.grad.to(dtype)

    out = torch.empty_like(x)
    run("aclnnGeluBackward", d, x, out)
    assert_close(out, gradient(lambda v: F.gelu(v, approximate="tanh")), 2)
    for form in ("none", "tanh"):
        run("aclnnGeluBackwardV2", d, x, form, out)
        assert_close(out, gradient(lambda v, form=form: F.gelu(v, approximate=form)), 2)
        run("aclnnGeluV2", x, int(form == "tanh"), out)
        assert_close(out, F.gelu(x.double(), approximate=form).to(dtype))
    run("aclnnSiluBackward", d, x, out)
    assert_close(out, gradient(F.silu), 2)
    run("aclnnLogSigmoidBackward", d, x, torch.empty(0, dtype=dtype), out)
    assert_close(out, gradient(F.logsigmoid), 2)
    run("aclnnSoftplusBackward", d, x, Scalar(2.0), Scalar(20.0), out)
    assert_close(out, gradient(lambda v: F.softplus(v, 2.0)), 2)
    run("aclnnThresholdBackward", d, x, Scalar(0.0), out)
    assert_close(out, gradient(F.relu))
    y = torch.sigmoid(x)
    run("aclnnSigmoidBackward", d, y, out)
    assert_close(out, (d.double() * y.double() * (1 - y.double())).to(dtype))
    y = torch.tanh(x)
    run("aclnnTanhBackward", d, y, out)
    assert_close(out, (d.double() * (1 - y.double() ** 2)).to(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_swiglu_and_its_gradient(dtype):
    for dim in (-1, 1):
        x, d = (
            values(2, 4, 6, dtype=dtype),
            values(2, 4, 3 if dim == -1 else 6, dtype=dtype, seed=8)[:, : 4 if dim == -1 else 2],
        )
        d = d.contiguous()
        exact = x.double().requires_grad_()
        gate, up = exact.chunk(2, dim)
        expected = F.silu(gate) * up
        expected.backward(d.double())
        out, dx = torch.empty_like(d), torch.empty_like(x)
        run("aclnnSwiGlu", x, dim, out)
        assert_close(out, expected.detach().to(dtype))
        run("aclnnSwiGluGrad", d, x, dim, dx)
        assert_close(dx, exact.grad.to(dtype), 2)
    with pytest.raises(Refused, match="an even length"):
        run("aclnnSwiGlu", torch.ones(2, 3), -1, torch.ones(2, 1))
    with pytest.raises(Refused, match="contiguous"):
        run("aclnnSwiGlu", torch.ones(4, 2).t(), -1, torch.ones(2, 2))


def test_what_is_refused_names_the_argument_and_the_page():
    with pytest.raises(Refused, match=r"out: found shape \(3\), documented is \(2, 3\).*aclnnMul"):
        run("aclnnMul", torch.ones(2, 3), torch.ones(3), torch.ones(3))
    with pytest.raises(Refused, match="do not broadcast"):
        run("aclnnMul", torch.ones(2), torch.ones(3), torch.ones(3))
    with pytest.raises(Refused, match=r"161001: .*alpha: found null"):
        run("aclnnAdd", torch.ones(2), torch.ones(2), None, torch.ones(2))
    # Floats convert to integers; nothing but bool converts to bool.
    whole = torch.empty(2, dtype=torch.int32)
    run("aclnnAdd", torch.full([2], 1.25), torch.full([2], 2.5), Scalar(1.0), whole)
    assert whole.tolist() == [3, 3]
    with pytest.raises(Refused, match="out: found bool, documented is a dtype that float32 converts to"):
        run("aclnnAdd", torch.ones(2), torch.ones(2), Scalar(1.0), torch.ones(2).bool())
    with pytest.raises(Refused, match="alpha: found float32, documented is bool or an integer"):
        run("aclnnAdd", torch.ones(2).bool(), torch.ones(2).bool(), Scalar(1.0), torch.ones(2).bool())
    with pytest.raises(Refused, match="9 dimensions"):
        run("aclnnExp", torch.ones([1] * 9), torch.ones([1] * 9))
    with pytest.raises(Refused, match="aclnnHardswish: self: found float64"):
        run("aclnnHardswish", torch.ones(2).double(), torch.ones(2).double())
    with pytest.raises(Refused, match="approximate: found 2"):
        run("aclnnGeluV2", torch.ones(2), 2, torch.ones(2))
