"""Products, reductions, movements, indices and orders of softcann against PyTorch."""

import ctypes

import pytest
import torch
import torch.nn.functional as F

from softcann.testing import Refused, Scalar, run

pytestmark = pytest.mark.long

HALVES = [torch.float16, torch.bfloat16]
FLOATS = [torch.float32, *HALVES]
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
KEEP = ctypes.c_int8(0)


def values(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if not dtype.is_floating_point:
        return torch.randint(-9, 10, shape, generator=generator).to(dtype)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def assert_close(found, expected, scale=1.0):
    assert found.shape == expected.shape
    if not found.dtype.is_floating_point:
        assert torch.equal(found, expected.to(found.dtype))
        return
    tolerance = TOLERANCE[found.dtype] * scale
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", FLOATS)
def test_products(dtype):
    a, b = values(5, 7, dtype=dtype), values(7, 4, dtype=dtype, seed=1)
    out = torch.empty(5, 4, dtype=dtype)
    run("aclnnMm", a, b, out, KEEP)
    expected = (a.double() @ b.double()).to(dtype)
    assert_close(out, expected, 4)
    run("aclnnMatmul", a.t().contiguous().t(), b.t().contiguous().t(), out, KEEP)  # strided operands
    assert_close(out, expected, 4)
    added = values(4, dtype=dtype, seed=2)
    run("aclnnAddmm", added, a, b, Scalar(0.5), Scalar(2.0), out, KEEP)
    assert_close(out, (0.5 * added.double() + 2 * (a.double() @ b.double())).to(dtype), 4)
    batch, other = values(3, 2, 5, 7, dtype=dtype), values(2, 7, 4, dtype=dtype, seed=3)
    out = torch.empty(3, 2, 5, 4, dtype=dtype)
    run("aclnnMatmul", batch, other, out, KEEP)
    assert_close(out, (batch.double() @ other.double()).to(dtype), 4)
    out = torch.empty(3, 5, 4, dtype=dtype)
    run("aclnnBatchMatMul", batch[:, 0], other[0].expand(3, 7, 4), out, KEEP)
    assert_close(out, (batch[:, 0].double() @ other[0].double()).to(dtype), 4)
    out = torch.empty(5, dtype=dtype)
    run("aclnnMatmul", a, b[:, 0], out, KEEP)
    assert_close(out, (a.double() @ b[:, 0].double()).to(dtype), 4)
    run("aclnnMv", a, b[:, 0], out, KEEP)
    assert_close(out, (a.double() @ b[:, 0].double()).to(dtype), 4)


def test_refused_products():
    ones = torch.ones(3, 3)
    with pytest.raises(Refused, match="mat2: found .*a reduced axis of self's length 3"):
        run("aclnnMm", ones, torch.ones(2, 3), ones, KEEP)
    with pytest.raises(Refused, match="self: found float64"):
        run("aclnnMm", ones.double(), ones.double(), ones.double(), KEEP)
    with pytest.raises(Refused, match="self: found 3 dimensions"):
        run("aclnnMm", ones[None], ones, ones, KEEP)
    with pytest.raises(Refused, match="out: found float16, documented is float32"):
        run("aclnnMm", ones, ones, ones.half(), KEEP)
    with pytest.raises(Refused, match="cubeMathType: found 2 with bfloat16"):
        run("aclnnMm", ones.bfloat16(), ones.bfloat16(), ones.bfloat16(), ctypes.c_int8(2))


@pytest.mark.parametrize("dtype", FLOATS)
def test_reductions(dtype):
    x = values(3, 4, 5, dtype=dtype)
    for dims, keep in [([1], False), ([0, 2], True), ([-1], True), ([0, 1, 2], False)]:
        wide = x.double()
        out = torch.empty(wide.sum(dims, keep).shape, dtype=dtype)
        run("aclnnReduceSum", x, dims, keep, dtype, out)
        assert_close(out, wide.sum(dims, keep).to(dtype), 4)
        run("aclnnMean", x, dims, keep, dtype, out)
        assert_close(out, wide.mean(dims, keep).to(dtype), 4)
        run("aclnnAmax", x, dims, keep, out)
        assert_close(out, x.amax(dims, keep))
        run("aclnnAmin", x.transpose(0, 1).contiguous().transpose(0, 1), dims, keep, out)
        assert_close(out, x.amin(dims, keep))
        run("aclnnNorm", x, Scalar(2.0), dims, keep, out)
        assert_close(out, torch.linalg.vector_norm(wide, 2, dims, keep).to(dtype), 4)
        run("aclnnLogSumExp", x, dims, keep, out)
        assert_close(out, wide.logsumexp(dims, keep).to(dtype), 4)
        run("aclnnVarCorrection", x, dims, 0, keep, out)
        assert_close(out, wide.var(dims, correction=0, keepdim=keep).to(dtype), 8)
        run("aclnnVar", x, dims, True, keep, out)
        assert_close(out, wide.var(dims, unbiased=True, keepdim=keep).to(dtype), 8)
    out = torch.empty((), dtype=dtype)
    run("aclnnMax", x, out)
    assert_close(out, x.max())
    total = torch.empty(4, 5)
    run("aclnnReduceSum", x, [0], False, torch.float32, total)  # 16 bits summed into float32
    assert_close(total, x.double().sum(0).float())
    running = torch.empty(3, 4, 5, dtype=dtype)
    run("aclnnCumsum", x, 1, dtype, running)
    assert_close(running, x.double().cumsum(1).to(dtype), 4)


def test_reductions_of_integers_and_truth():
    x = values(3, 6, dtype=torch.int32)
    out = torch.empty(3, dtype=torch.int64)
    run("aclnnReduceSum", x, [1], False, torch.int64, out)
    assert_close(out, x.sum(1))
    run("aclnnProdDim", x, 1, False, torch.int64, out)
    assert_close(out, x.long().prod(1))
    for name, function in {"aclnnAll": torch.all, "aclnnAny": torch.any}.items():
        found = torch.empty(3, dtype=torch.bool)
        run(name, x > 3, [1], False, found)
        assert torch.equal(found, function(x > 3, 1))
    running = torch.empty(3, 6, dtype=torch.int32)
    run("aclnnCumsumV2", x, 1, True, True, running)
    assert_close(running, x.flip(1).cumsum(1).flip(1) - x)
    with pytest.raises(Refused, match="dim: found 2, documented is -2 to 1"):
        run("aclnnAmax", values(2, 3), [2], False, torch.empty(2))
    with pytest.raises(Refused, match="out: found float32, documented is int64"):
        run("aclnnReduceSum", x, [1], False, torch.int64, torch.empty(3))
    with pytest.raises(Refused, match=r"out: found shape \(3, 1\), documented is \(3\)"):
        run("aclnnReduceSum", x, [1], False, torch.int64, out[:, None])


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_and_gradients(dtype):
    for dim in (-1, 0):
        x, d = values(4, 7, dtype=dtype), values(4, 7, dtype=dtype, seed=1)
        for name, function in {"aclnnSoftmax": F.softmax, "aclnnLogSoftmax": F.log_softmax}.items():
            out, dx = torch.empty_like(x), torch.empty_like(x)
            run(name, x, dim, out)
            assert_close(out, function(x.double(), dim).to(dtype))
            exact = x.double().requires_grad_()
            function(exact, dim).backward(d.double())
            run(f"{name}Backward", d, function(x.double(), dim).to(dtype), dim, dx)
            assert_close(dx, exact.grad.to(dtype), 8)
    with pytest.raises(Refused, match="dim: found 5"):
        run("aclnnSoftmax", values(2, 3), 5, torch.empty(2, 3))


ALL = [*FLOATS, torch.int8, torch.int32, torch.int64, torch.bool]


@pytest.mark.parametrize("dtype", ALL)
def test_movements(dtype):
    x = values(2, 3, 4).mul(3).to(dtype)
    out = torch.empty(4, 2, 3, dtype=dtype)
    run("aclnnPermute", x, [2, 0, 1], out)
    assert torch.equal(out, x.permute(2, 0, 1))
    out = torch.empty(2, 5, 4, dtype=dtype)
    run("aclnnCat", [x, x[:, 1:].contiguous()], 1, out)
    assert torch.equal(out, torch.cat([x, x[:, 1:]], 1))
    out = torch.empty(2, 2, 3, 4, dtype=dtype)
    run("aclnnStack", [x, x.flip(0)], 1, out)
    assert torch.equal(out, torch.stack([x, x.flip(0)], 1))
    pieces = [torch.empty(2, 3, size, dtype=dtype) for size in (1, 3)]
    run("aclnnSplitWithSize", x, [1, 3], 2, pieces)
    assert all(torch.equal(found, expected) for found, expected in zip(pieces, x.split([1, 3], 2)))
    pieces = [torch.empty(2, 2, 4, dtype=dtype), torch.empty(2, 1, 4, dtype=dtype)]
    run("aclnnSplitTensor", x, ctypes.c_uint64(2), 1, pieces)
    assert all(torch.equal(found, expected) for found, expected in zip(pieces, x.split(2, 1)))
    out = torch.empty(2, 6, 4, dtype=dtype)
    run("aclnnRepeat", x, [1, 2, 1], out)
    assert torch.equal(out, x.repeat(1, 2, 1))
    out = torch.empty(5, 2, 3, 4, dtype=dtype)
    if dtype != torch.bool:
        run("aclnnExpand", x, [5, 2, -1, 4], out)
        assert torch.equal(out, x.expand(5, 2, 3, 4))
    out = torch.empty(2, 3, 2, dtype=dtype)
    run("aclnnSlice", x, 2, 1, 4, 2, out)
    assert torch.equal(out, x[:, :, 1:4:2])
    out = torch.empty(1, 3, 2, dtype=dtype)
    run("aclnnStridedSlice", x, [1, 0, 0], [2, 3, 2], [1, 1, 1], 0, 2, 0, 0, 0, out)
    assert torch.equal(out, x[1:2, :, 0:2])
    out = torch.empty(2, 4, 7, dtype=dtype)
    run("aclnnConstantPadNd", x, [1, 2, 0, 1], Scalar(1), out)
    assert torch.equal(out, F.pad(x, (1, 2, 0, 1), value=1))
    out = torch.empty(2, 3, 4, dtype=dtype)
    for name, function in {"aclnnTriu": torch.triu, "aclnnTril": torch.tril}.items():
        run(name, x, 1, out)
        assert torch.equal(out, function(x, 1))
    run("aclnnFlip", x, [0, 2], out)
    assert torch.equal(out, x.flip(0, 2))
    run("aclnnRoll", x, [2], [1], out)
    assert torch.equal(out, x.roll(2, 1))


def test_refused_movements():
    x = torch.ones(2, 3)
    with pytest.raises(Refused, match="dims: found .*each axis of self once"):
        run("aclnnPermute", x, [0, 0], torch.ones(2, 2))
    with pytest.raises(Refused, match="tensors: found shape"):
        run("aclnnCat", [x, torch.ones(2, 4)], 0, torch.ones(4, 3))
    with pytest.raises(Refused, match="splitSize: found a sum of 4"):
        run("aclnnSplitWithSize", x, [2, 2], 1, [torch.ones(2, 2), torch.ones(2, 2)])
    with pytest.raises(Refused, match="step: found 0"):
        run("aclnnSlice", x, 1, 0, 2, 0, x)


def test_casts_and_copies():
    x = torch.tensor([1.5, -2.7, 65520.0, 3e38, float("nan"), -0.0])
    for dtype in HALVES:
        out = torch.empty(6, dtype=dtype)
        run("aclnnCast", x, dtype, out)
        torch.testing.assert_close(out, x.to(dtype), rtol=0, atol=0, equal_nan=True)  # nearest even, as PyTorch
    out = torch.empty(6, dtype=torch.int32)
    run("aclnnCast", x, torch.int32, out)
    assert out.tolist() == [1, -2, 65520, 2**31 - 1, 0, 0]
    flag = torch.empty(6, dtype=torch.bool)
    run("aclnnCast", x, torch.bool, flag)
    assert flag.tolist() == [True, True, True, True, True, False]
    target = torch.zeros(3, 4)[:, 1:3]
    run("aclnnInplaceCopy", target, torch.tensor([1, 2], dtype=torch.int64))
    assert target.tolist() == [[1.0, 2.0]] * 3
    with pytest.raises(Refused, match="out: found float16, documented is bfloat16"):
        run("aclnnCast", x, torch.bfloat16, x.half())


def test_fills_and_ranges():
    for dtype in ALL:
        x = torch.ones(3, 2).to(dtype).t()
        run("aclnnInplaceZero", x)
        assert not x.any()
        run("aclnnInplaceOne", x)
        assert (x == 1).all()
        run("aclnnInplaceFillScalar", x, Scalar(7))
        assert torch.equal(x, torch.full((2, 3), 7).to(dtype))
    out = torch.empty(5, dtype=torch.int32)
    run("aclnnArange", Scalar(3), Scalar(13), Scalar(2), out)
    assert out.tolist() == [3, 5, 7, 9, 11]
    run("aclnnArange", Scalar(0.0), Scalar(1.0), Scalar(0.25), torch.empty(4))
    eye = torch.empty(3, 4)
    run("aclnnEye", 3, 4, eye)
    assert torch.equal(eye, torch.eye(3, 4))
    one_hot = torch.empty(2, 3, 4)
    classes = torch.tensor([[0, 3, 1], [2, 2, 9]], dtype=torch.int32)
    run("aclnnOneHot", classes, ctypes.c_int(4), torch.ones(1), torch.zeros(1), -1, one_hot)
    assert torch.equal(one_hot, (classes[..., None] == torch.arange(4)).float())
    with pytest.raises(Refused, match=r"out: found shape \(4\), documented is \(5\)"):
        run("aclnnArange", Scalar(3), Scalar(13), Scalar(2), out[:4])
    with pytest.raises(Refused, match="step: found 0"):
        run("aclnnArange", Scalar(3), Scalar(13), Scalar(0), out)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int32])
@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_reading_by_index(dtype, kind):
    x = values(5, 3, 4, dtype=dtype)
    places = torch.tensor([[4, 0], [-1, 2]], dtype=kind)
    out = torch.empty(2, 2, 3, 4, dtype=dtype)
    run("aclnnGatherV2", x, 0, places, out)
    assert torch.equal(out, x[places.long()])
    out = torch.empty(5, 2, 4, dtype=dtype)
    run("aclnnIndexSelect", x, 1, places[:, 1] % 3, out)
    assert torch.equal(out, x.index_select(1, places[:, 1] % 3))
    elements = torch.tensor([[[0, 2], [1, 1]]], dtype=kind)
    out = torch.empty(1, 2, 2, dtype=dtype)
    run("aclnnGather", x, 1, elements, out)
    assert torch.equal(out, x.gather(1, elements.long()))
    rows = torch.tensor([[4, 0], [1, 2]], dtype=kind)
    out = torch.empty(2, 4, dtype=dtype)
    run("aclnnGatherNd", x, rows, False, out)
    assert torch.equal(out, x[rows[:, 0].long(), rows[:, 1].long()])
    run("aclnnIndex", x, [rows[:, 0].contiguous(), rows[:, 1].contiguous()], out)
    assert torch.equal(out, x[rows[:, 0].long(), rows[:, 1].long()])
    table = values(6, 4, dtype=dtype)
    out = torch.empty(2, 2, 4, dtype=dtype)
    run("aclnnEmbedding", table, places % 5, out)
    assert torch.equal(out, table[(places % 5).long()])
    with pytest.raises(Refused, match="index 9 is outside of a table of 6 rows"):
        run("aclnnEmbedding", table, torch.full((2, 2), 9, dtype=kind), out)
    with pytest.raises(Refused, match="index 5 is outside of an axis of length 5"):
        run("aclnnGatherV2", x, 0, torch.full((2,), 5, dtype=kind), torch.empty(2, 3, 4, dtype=dtype))
    with pytest.raises(Refused, match="index: found float32"):
        run("aclnnGatherV2", x, 0, torch.ones(2), torch.empty(2, 3, 4, dtype=dtype))


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int32])
def test_writing_by_index(dtype):
    x, places = values(5, 3, dtype=dtype), torch.tensor([4, 0, 4])
    source = values(3, 3, dtype=dtype, seed=1)
    out = torch.empty_like(x)
    run("aclnnIndexAdd", x, 0, places, source, Scalar(2), out)
    assert_close(out, x.double().index_add(0, places, source.double(), alpha=2).to(dtype), 2)
    for accumulate in (True, False):
        changed = x.clone()
        run("aclnnIndexPutImpl", changed, [places], source, accumulate, False)
        expected = x.double().index_put([places], source.double(), accumulate=accumulate)
        assert_close(changed, expected.to(dtype), 2)
    changed = x.clone()
    run("aclnnInplaceIndexCopy", changed, 0, places[:2], source[:2])
    assert torch.equal(changed, x.index_copy(0, places[:2], source[:2]))
    elements = torch.tensor([[0, 1, 4], [4, 1, 0]])
    for reduce, name in {0: None, 1: "add", 2: "multiply"}.items():
        run("aclnnScatter", x, 0, elements, source, reduce, out)
        extra = {} if name is None else {"reduce": name}
        assert_close(out, x.double().scatter(0, elements, source.double(), **extra).to(dtype), 2)
    run("aclnnScatterAdd", x, 0, elements, source, out)
    assert_close(out, x.double().scatter_add(0, elements, source.double()).to(dtype), 2)
    changed = x.clone()
    run("aclnnInplaceScatterValue", changed, 0, elements, Scalar(3), 0)
    assert torch.equal(changed, x.scatter(0, elements, 3))
    changed = x.clone()
    run("aclnnTfScatterAdd", changed, places, source)
    assert_close(changed, x.double().index_add(0, places, source.double()).to(dtype), 2)
    cache, update = values(2, 6, 4, dtype=dtype), values(2, 1, 4, dtype=dtype, seed=2)
    changed = cache.clone()
    run("aclnnInplaceScatterUpdate", changed, torch.tensor([5, 2]), update, 1)
    cache[0, 5], cache[1, 2] = update[0, 0], update[1, 0]
    assert torch.equal(changed, cache)
    with pytest.raises(Refused, match="positions 6 to 7 are outside"):
        run("aclnnInplaceScatterUpdate", changed, torch.tensor([6, 2]), update, 1)
    with pytest.raises(Refused, match="axis: found 0"):
        run("aclnnInplaceScatterUpdate", changed, torch.tensor([1, 2]), update, 0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_of_a_table(dtype):
    grad, places = values(2, 3, 4, dtype=dtype), torch.tensor([[1, 5, 1], [0, 5, 5]], dtype=torch.int32)
    out = torch.empty(6, 4, dtype=dtype)
    run("aclnnEmbeddingDenseBackward", grad, places, ctypes.c_uint64(6), ctypes.c_uint64(0), False, out)
    expected = torch.zeros(6, 4, dtype=torch.float64).index_add(0, places.flatten(), grad.double().reshape(6, 4))
    expected[0] = 0
    assert_close(out, expected.to(dtype), 2)
    with pytest.raises(Refused, match="out: found shape"):
        run("aclnnEmbeddingDenseBackward", grad, places, ctypes.c_uint64(7), ctypes.c_uint64(0), False, out)


def test_orders():
    for dtype in [*FLOATS, torch.int32]:
        x = values(4, 9, dtype=dtype)
        best, places = torch.empty(4, 3, dtype=dtype), torch.empty(4, 3, dtype=torch.int64)
        run("aclnnTopk", x, 3, -1, True, True, best, places)
        assert torch.equal(best, x.topk(3).values) and torch.equal(x.gather(1, places), best)
        ordered, places = torch.empty_like(x), torch.empty(4, 9, dtype=torch.int64)
        run("aclnnSort", x, True, 1, False, ordered, places)
        expected = x.sort(dim=1, stable=True)
        assert torch.equal(ordered, expected.values) and torch.equal(places, expected.indices)
        run("aclnnArgsort", x.t().contiguous().t(), 1, True, places)
        assert torch.equal(places, x.argsort(dim=1, descending=True, stable=True))
        for name, function in {"aclnnArgMax": torch.argmax, "aclnnArgMin": torch.argmin}.items():
            at = torch.empty(4, 1, dtype=torch.int64)
            run(name, x, 1, True, at)
            assert torch.equal(x.gather(1, at), x.gather(1, function(x, 1, True)))
    largest, at = torch.empty(4), torch.empty(4, dtype=torch.int64)
    x = values(4, 9)
    run("aclnnMaxDim", x, 1, False, largest, at)
    assert torch.equal(largest, x.max(1).values) and torch.equal(at, x.max(1).indices)
    with pytest.raises(Refused, match="k: found 10, documented is 0 to 9"):
        run("aclnnTopk", x, 10, -1, True, True, torch.empty(4, 10), torch.empty(4, 10, dtype=torch.int64))
    with pytest.raises(Refused, match="indicesOut: found int32"):
        run("aclnnTopk", x, 1, -1, True, True, torch.empty(4, 1), torch.empty(4, 1, dtype=torch.int32))
