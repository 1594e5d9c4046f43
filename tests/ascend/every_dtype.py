"""What each function of softcann's table computes, as PyTorch says it, for ``test_operators_every_dtype.py``.

    "aclnnAdd": Case(lambda x, y: x + 2 * y, X, Y, Scalar(2), OUT)

A reference gets float64 for the float dtypes and int64 for integers and bool; its result is rounded to the output's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F

from softcann.testing import Scalar


class Place(Enum):
    """Where a tensor or a dtype of the call stands among the arguments."""

    X = "an operand; the output too where there is no other"
    Y = "a second operand"
    Z = "a third operand"
    EMPTY = "an empty tensor of the operands' dtype"
    OUT = "the output"
    OUT2 = "a second output"
    DTYPE = "the output's dtype as a number"


X, Y, Z, EMPTY, OUT, OUT2, DTYPE = Place


@dataclass(frozen=True)
class Case:
    """A call of one function.

    Attributes:
        reference: from the operands to the expected output, or to both.
        arguments: of the call.
        values: "any", "positive" (1 and more), "divisor" (the first any, others positive), "unit" (within -1 and 1) or
            "distinct".
        out: the output's dtype: "same" as the operands', "float" (float32 of integers), or bool and so on.
        out2: of the second output; None stands for the first's.
        shapes: of the operands; (3, 4) by default.
        loose: factor on the tolerance.
        of_bools: the reference of bools, where it is not the integers' one.
    """

    reference: Callable[..., Any]
    arguments: tuple[Any, ...]
    values: str = "any"
    out: str | torch.dtype = "same"
    out2: torch.dtype | None = torch.int64
    shapes: dict[Place, tuple[int, ...]] = field(default_factory=dict)
    loose: float = 1.0
    of_bools: Callable[..., Any] | None = None


def case(reference: Callable[..., Any], *arguments: Any, **more: Any) -> Case:
    return Case(reference, arguments, **more)


def gradient(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The gradient of ``function`` at x for the output's d."""

    def backward(d: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        function(x).backward(d)
        assert x.grad is not None
        return x.grad

    return backward


def integer(value: int) -> ctypes.c_int:
    return ctypes.c_int(value)


CUBE = ctypes.c_int8(0)  # cubeMathType: keep the dtype
MASK = torch.tensor([[True, False, True, False], [False, True, True, False], [True, True, False, False]])
ROWS = torch.tensor([2, 0])
PLACES = torch.tensor([[0, 2, 1, 1], [2, 0, 0, 2]])
TWO_ROWS = {Y: (2, 4)}
SQUARES = {X: (2, 3, 4), Y: (2, 4, 3)}

FLOAT_OF_ONE: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "Sqrt": (torch.sqrt, "positive"), "Rsqrt": (torch.rsqrt, "positive"), "Log": (torch.log, "positive"),
    "Reciprocal": (torch.reciprocal, "positive"), "Log1p": (torch.log1p, "positive"), "Log2": (torch.log2, "positive"),
    "Log10": (torch.log10, "positive"), "Exp": (torch.exp, "any"), "Exp2": (torch.exp2, "any"),
    "Expm1": (torch.expm1, "any"), "Sin": (torch.sin, "any"), "Cos": (torch.cos, "any"), "Tanh": (torch.tanh, "any"),
    "Erf": (torch.erf, "any"), "Erfinv": (torch.erfinv, "unit"), "Sigmoid": (torch.sigmoid, "any"),
    "Silu": (F.silu, "any"), "Hardswish": (F.hardswish, "any"), "LogSigmoid": (F.logsigmoid, "any"),
    "Gelu": (lambda x: F.gelu(x, approximate="tanh"), "any"),
}  # fmt: skip
SAME_OF_ONE = {
    "Neg": torch.neg, "Abs": torch.abs, "Square": torch.square, "Sign": torch.sign, "Floor": torch.floor,
    "Ceil": torch.ceil, "Trunc": torch.trunc, "Round": torch.round, "Relu": torch.relu,
}  # fmt: skip
COMPARISONS = {"Eq": torch.eq, "Ne": torch.ne, "Gt": torch.gt, "Ge": torch.ge, "Lt": torch.lt, "Le": torch.le}
BITS = {"And": torch.bitwise_and, "Or": torch.bitwise_or, "Xor": torch.bitwise_xor}

CASES: dict[str, Case] = {
    **{f"aclnn{n}": case(f, X, OUT, values=v, out="float") for n, (f, v) in FLOAT_OF_ONE.items()},
    **{f"aclnn{n}": case(f, X, OUT) for n, f in SAME_OF_ONE.items()},
    **{f"aclnn{n}Tensor": case(f, X, Y, OUT, out=torch.bool) for n, f in COMPARISONS.items()},
    **{
        f"aclnn{n}Scalar": case(lambda x, f=f: f(x, 1), X, Scalar(1), OUT, out=torch.bool)
        for n, f in COMPARISONS.items()
    },
    **{f"aclnnBitwise{n}Tensor": case(f, X, Y, OUT) for n, f in BITS.items()},
    **{f"aclnnBitwise{n}Scalar": case(lambda x, f=f: f(x, 3), X, Scalar(3), OUT) for n, f in BITS.items()},
    "aclnnInplaceErfinv": case(torch.erfinv, X, values="unit"),
    "aclnnBitwiseNot": case(torch.bitwise_not, X, OUT, of_bools=torch.logical_not),
    "aclnnLeftShift": case(lambda x, y: x << y, X, Y, OUT, values="positive"),
    "aclnnRightShift": case(lambda x, y: x >> y, X, Y, OUT, values="positive"),
    "aclnnLogicalAnd": case(torch.logical_and, X, Y, OUT, out=torch.bool),
    "aclnnLogicalOr": case(torch.logical_or, X, Y, OUT, out=torch.bool),
    "aclnnLogicalXor": case(torch.logical_xor, X, Y, OUT, out=torch.bool),
    "aclnnLogicalNot": case(torch.logical_not, X, OUT, out=torch.bool),
    "aclnnIsFinite": case(lambda x: torch.isfinite(1 / x), X, OUT, out=torch.bool),
    "aclnnIsInf": case(torch.isinf, X, OUT, out=torch.bool),
    # Sums and products of two; a factor of 2 is True beside bools
    "aclnnAdd": case(lambda x, y: x + 2 * y, X, Y, Scalar(2), OUT),
    "aclnnSub": case(lambda x, y: x - 2 * y, X, Y, Scalar(2), OUT, of_bools=torch.sub),
    "aclnnInplaceAdd": case(lambda x, y: x + 2 * y, X, Y, Scalar(2)),
    "aclnnInplaceSub": case(lambda x, y: x - 2 * y, X, Y, Scalar(2), of_bools=torch.sub),
    "aclnnAdds": case(lambda x: x + 6, X, Scalar(3), Scalar(2), OUT),
    "aclnnSubs": case(lambda x: x - 6, X, Scalar(3), Scalar(2), OUT),
    "aclnnInplaceAdds": case(lambda x: x + 6, X, Scalar(3), Scalar(2)),
    "aclnnInplaceSubs": case(lambda x: x - 6, X, Scalar(3), Scalar(2)),
    "aclnnMul": case(torch.mul, X, Y, OUT),
    "aclnnMuls": case(lambda x: x * 3, X, Scalar(3), OUT),
    "aclnnInplaceMul": case(torch.mul, X, Y),
    "aclnnInplaceMuls": case(lambda x: x * 3, X, Scalar(3)),
    "aclnnDiv": case(torch.div, X, Y, OUT, values="divisor", out="float"),
    "aclnnDivs": case(lambda x: x / 3, X, Scalar(3), OUT, out="float"),
    "aclnnInplaceDiv": case(torch.div, X, Y, values="divisor"),
    "aclnnInplaceDivs": case(lambda x: x / 3, X, Scalar(3)),
    "aclnnDivMod": case(lambda x, y: torch.div(x, y, rounding_mode="trunc"), X, Y, integer(1), OUT, values="divisor"),
    "aclnnDivMods": case(lambda x: torch.div(x, 3, rounding_mode="floor"), X, Scalar(3), integer(2), OUT),
    "aclnnFloorDivide": case(torch.floor_divide, X, Y, OUT, values="divisor"),
    "aclnnFloorDivides": case(lambda x: torch.floor_divide(x, 3), X, Scalar(3), OUT),
    "aclnnRemainderTensorTensor": case(torch.remainder, X, Y, OUT, values="divisor", loose=4),
    "aclnnRemainderTensorScalar": case(lambda x: torch.remainder(x, 3), X, Scalar(3), OUT),
    "aclnnFmodScalar": case(lambda x: torch.fmod(x, 3), X, Scalar(3), OUT),
    "aclnnMaximum": case(torch.maximum, X, Y, OUT),
    "aclnnMinimum": case(torch.minimum, X, Y, OUT),
    "aclnnPowTensorTensor": case(torch.pow, X, Y, OUT, values="positive", loose=4),
    "aclnnPowTensorScalar": case(lambda x: x**2, X, Scalar(2), OUT),
    "aclnnPowScalarTensor": case(lambda x: torch.pow(2, x), Scalar(2), X, OUT, values="positive"),
    "aclnnAddcmul": case(lambda x, y, z: x + 2 * y * z, X, Y, Z, Scalar(2), OUT),
    "aclnnAddcdiv": case(lambda x, y, z: x + 2 * (y / z), X, Y, Z, Scalar(2), OUT, values="divisor", out="float"),
    # Bounds and choices
    "aclnnClamp": case(lambda x: x.clamp(1, 2), X, Scalar(1), Scalar(2), OUT),
    "aclnnClampMin": case(lambda x: x.clamp(min=1), X, Scalar(1), OUT),
    "aclnnClampMax": case(lambda x: x.clamp(max=1), X, Scalar(1), OUT),
    "aclnnClampTensor": case(torch.clamp, X, Y, Z, OUT),
    "aclnnClampMinTensor": case(torch.maximum, X, Y, OUT),
    "aclnnClampMaxTensor": case(torch.minimum, X, Y, OUT),
    "aclnnSWhere": case(lambda x, y: torch.where(MASK, x, y), MASK, X, Y, OUT),
    "aclnnInplaceMaskedFillScalar": case(lambda x: x.masked_fill(MASK, 3), X, MASK, Scalar(3)),
    "aclnnInplaceMaskedFillTensor": case(lambda x, y: torch.where(MASK, y, x), X, MASK, Y, shapes={Y: ()}),
    # Activations' other forms and gradients
    "aclnnGeluV2": case(F.gelu, X, 0, OUT, out="float"),
    "aclnnGeluBackward": case(gradient(lambda x: F.gelu(x, approximate="tanh")), X, Y, OUT, loose=2),
    "aclnnGeluBackwardV2": case(gradient(F.gelu), X, Y, "none", OUT, loose=2),
    "aclnnSiluBackward": case(gradient(F.silu), X, Y, OUT, loose=2),
    "aclnnSigmoidBackward": case(lambda d, y: d * y * (1 - y), X, Y, OUT),
    "aclnnTanhBackward": case(lambda d, y: d * (1 - y * y), X, Y, OUT, loose=2),
    "aclnnThresholdBackward": case(lambda d, x: torch.where(x > 1, d, 0), X, Y, Scalar(1), OUT),
    "aclnnSoftplus": case(lambda x: F.softplus(x, 2.0), X, Scalar(2.0), Scalar(20.0), OUT),
    "aclnnSoftplusBackward": case(
        gradient(lambda x: F.softplus(x, 2.0)), X, Y, Scalar(2.0), Scalar(20.0), OUT, loose=2
    ),
    "aclnnLogSigmoidForward": case(F.logsigmoid, X, OUT, EMPTY),
    "aclnnLogSigmoidBackward": case(gradient(F.logsigmoid), X, Y, EMPTY, OUT, loose=2),
    "aclnnSwiGlu": case(lambda x: F.silu(x[:, :2]) * x[:, 2:], X, -1, OUT),
    "aclnnSwiGluGrad": case(
        gradient(lambda x: F.silu(x[:, :2]) * x[:, 2:]), X, Y, -1, OUT, shapes={X: (3, 2)}, loose=2
    ),
    "aclnnSoftmax": case(lambda x: x.softmax(1), X, 1, OUT),
    "aclnnLogSoftmax": case(lambda x: x.log_softmax(1), X, 1, OUT),
    "aclnnSoftmaxBackward": case(lambda d, y: y * (d - (d * y).sum(1, True)), X, Y, 1, OUT, loose=8),
    "aclnnLogSoftmaxBackward": case(lambda d, y: d - y.exp() * d.sum(1, True), X, Y, 1, OUT, loose=8),
    # Reductions
    "aclnnReduceSum": case(lambda x: x.sum(1), X, [1], False, DTYPE, OUT),
    "aclnnMean": case(lambda x: x.double().mean(1), X, [1], False, DTYPE, OUT, out="float"),
    "aclnnMax": case(torch.max, X, OUT),
    "aclnnMin": case(torch.min, X, OUT),
    "aclnnAmax": case(lambda x: x.amax(1), X, [1], False, OUT),
    "aclnnAmin": case(lambda x: x.amin(0, True), X, [0], True, OUT),
    "aclnnProd": case(torch.prod, X, DTYPE, OUT, loose=4),
    "aclnnProdDim": case(lambda x: x.prod(1), X, 1, False, DTYPE, OUT, loose=4),
    "aclnnAll": case(lambda x: x.bool().all(1), X, [1], False, OUT, out=torch.bool),
    "aclnnAny": case(lambda x: x.bool().any(1), X, [1], False, OUT, out=torch.bool),
    "aclnnNorm": case(lambda x: x.norm(dim=1), X, Scalar(2.0), [1], False, OUT),
    "aclnnLinalgVectorNorm": case(lambda x: x.norm(dim=1), X, Scalar(2.0), [1], False, DTYPE, OUT),
    "aclnnVar": case(lambda x: x.var(1), X, [1], True, False, OUT),
    "aclnnVarCorrection": case(lambda x: x.var(1, correction=0), X, [1], 0, False, OUT),
    "aclnnStd": case(lambda x: x.std(1), X, [1], 1, False, OUT),
    "aclnnLogSumExp": case(lambda x: x.double().logsumexp(1), X, [1], False, OUT, out="float"),
    "aclnnCumsum": case(lambda x: x.cumsum(1), X, 1, DTYPE, OUT, loose=4),
    "aclnnCumsumV2": case(lambda x: x.flip(0).cumsum(0).flip(0), X, 0, False, True, OUT, loose=4),
    # Orders
    "aclnnArgMax": case(lambda x: x.argmax(1), X, 1, False, OUT, values="distinct", out=torch.int64),
    "aclnnArgMin": case(lambda x: x.argmin(1), X, 1, False, OUT, values="distinct", out=torch.int64),
    "aclnnMaxDim": case(lambda x: (x.amax(1), x.argmax(1)), X, 1, False, OUT, OUT2, values="distinct"),
    "aclnnMinDim": case(lambda x: (x.amin(1), x.argmin(1)), X, 1, False, OUT, OUT2, values="distinct"),
    "aclnnTopk": case(lambda x: tuple(x.topk(2)), X, 2, 1, True, True, OUT, OUT2, values="distinct"),
    "aclnnSort": case(lambda x: tuple(x.sort(dim=1, stable=True)), X, True, 1, False, OUT, OUT2),
    "aclnnArgsort": case(lambda x: x.argsort(1, True), X, 1, True, OUT, values="distinct", out=torch.int64),
    # Matrix products
    "aclnnMm": case(torch.mm, X, Y, OUT, CUBE, shapes={Y: (4, 2)}, loose=4),
    "aclnnMatmul": case(torch.matmul, X, Y, OUT, CUBE, shapes=SQUARES, loose=4),
    "aclnnBatchMatMul": case(torch.bmm, X, Y, OUT, CUBE, shapes=SQUARES, loose=4),
    "aclnnMv": case(torch.mv, X, Y, OUT, CUBE, shapes={Y: (4,)}, loose=4),
    "aclnnDot": case(lambda x, y: (x * y).sum(), X, Y, OUT, shapes={X: (5,), Y: (5,)}, loose=4),
    "aclnnAddmm": case(
        lambda x, y, z: 2 * x + 3 * (y @ z),
        X,
        Y,
        Z,
        Scalar(2.0),
        Scalar(3.0),
        OUT,
        CUBE,
        shapes={X: (3, 2), Z: (4, 2)},
        loose=16,
    ),
    "aclnnBaddbmm": case(
        lambda x, y, z: 2 * x + 3 * (y @ z),
        X,
        Y,
        Z,
        Scalar(2.0),
        Scalar(3.0),
        OUT,
        CUBE,
        shapes={X: (2, 3, 3), Y: (2, 3, 4), Z: (2, 4, 3)},
        loose=16,
    ),
    # Movements
    "aclnnCast": case(lambda x: x, X, DTYPE, OUT),
    "aclnnInplaceCopy": case(lambda x, y: y, X, Y),
    "aclnnExpand": case(lambda x: x.expand(3, 4), X, [3, 4], OUT, shapes={X: (3, 1)}),
    "aclnnPermute": case(torch.t, X, [1, 0], OUT),
    "aclnnCat": case(lambda x, y: torch.cat([x, y]), [X, Y], 0, OUT, shapes=TWO_ROWS),
    "aclnnStack": case(lambda x, y: torch.stack([x, y], 1), [X, Y], 1, OUT),
    "aclnnSplitWithSize": case(lambda x: x.split([1, 3], 1), X, [1, 3], 1, [OUT, OUT2], out2=None),
    "aclnnSplitTensor": case(lambda x: x.split(2, 1), X, ctypes.c_uint64(2), 1, [OUT, OUT2], out2=None),
    "aclnnRepeat": case(lambda x: x.repeat(2, 3), X, [2, 3], OUT),
    "aclnnSlice": case(lambda x: x[:, 1:4:2], X, 1, 1, 4, 2, OUT),
    "aclnnSliceV2": case(lambda x: x[1:3, ::2], X, [1, 0], [3, 4], [0, 1], [1, 2], OUT),
    "aclnnStridedSlice": case(lambda x: x[1:3, 0:4:3], X, [1, 0], [3, 4], [1, 3], 0, 0, 0, 0, 0, OUT),
    "aclnnConstantPadNd": case(lambda x: F.pad(x, (1, 2), value=1), X, [1, 2], Scalar(1), OUT),
    "aclnnTriu": case(lambda x: x.triu(1), X, 1, OUT),
    "aclnnTril": case(lambda x: x.tril(-1), X, -1, OUT),
    "aclnnInplaceTriu": case(lambda x: x.triu(-1), X, -1),
    "aclnnInplaceTril": case(lambda x: x.tril(1), X, 1),
    "aclnnFlip": case(lambda x: x.flip(0, 1), X, [0, 1], OUT),
    "aclnnRoll": case(lambda x: x.roll(1, 0), X, [1], [0], OUT),
    # Reading and writing by index
    "aclnnGather": case(lambda x: x.gather(0, PLACES), X, 0, PLACES, OUT),
    "aclnnGatherV2": case(lambda x: x[ROWS], X, 0, ROWS, OUT),
    "aclnnIndexSelect": case(lambda x: x[ROWS], X, 0, ROWS, OUT),
    "aclnnGatherNd": case(lambda x: x[ROWS], X, ROWS[:, None].contiguous(), False, OUT),
    "aclnnIndex": case(lambda x: x[ROWS, ROWS], X, [ROWS, ROWS.clone()], OUT),
    "aclnnEmbedding": case(lambda x: x[PLACES], X, PLACES, OUT),
    "aclnnIndexPutImpl": case(lambda x, y: x.index_put([ROWS], y), X, [ROWS], Y, False, False, shapes=TWO_ROWS),
    "aclnnIndexAdd": case(lambda x, y: x.index_add(0, ROWS, y), X, 0, ROWS, Y, Scalar(1), OUT, shapes=TWO_ROWS),
    "aclnnIndexAddV2": case(lambda x, y: x.index_add(0, ROWS, y), X, 0, ROWS, Y, Scalar(1), 0, OUT, shapes=TWO_ROWS),
    "aclnnInplaceIndexCopy": case(lambda x, y: x.index_copy(0, ROWS, y), X, 0, ROWS, Y, shapes=TWO_ROWS),
    "aclnnTfScatterAdd": case(lambda x, y: x.index_add(0, ROWS, y), X, ROWS, Y, shapes=TWO_ROWS),
    "aclnnScatterNdUpdate": case(
        lambda x, y: x.index_copy(0, ROWS, y), X, ROWS[:, None].contiguous(), Y, shapes=TWO_ROWS
    ),
    "aclnnScatter": case(lambda x, y: x.scatter(0, PLACES, y), X, 0, PLACES, Y, 0, OUT),
    "aclnnInplaceScatter": case(lambda x, y: x.scatter(0, PLACES[:1], y), X, 0, PLACES[:1], Y, 0),
    "aclnnScatterAdd": case(lambda x, y: x.scatter_add(0, PLACES, y), X, 0, PLACES, Y, OUT, loose=2),
    "aclnnScatterValue": case(lambda x: x.scatter(0, PLACES, 3), X, 0, PLACES, Scalar(3), 0, OUT),
    "aclnnInplaceScatterValue": case(lambda x: x.scatter(0, PLACES, 3), X, 0, PLACES, Scalar(3), 0),
    # Fills
    "aclnnInplaceZero": case(torch.zeros_like, X),
    "aclnnInplaceOne": case(torch.ones_like, X),
    "aclnnInplaceFillScalar": case(lambda x: torch.full_like(x, 3), X, Scalar(3)),
    "aclnnInplaceFillTensor": case(lambda x, y: y.expand(3, 4), X, Y, shapes={Y: ()}),
    "aclnnArange": case(lambda: torch.arange(0, 6, 2), Scalar(0), Scalar(6), Scalar(2), OUT),
    "aclnnLinspace": case(lambda: torch.arange(5), Scalar(0), Scalar(4), 5, OUT),
    "aclnnEye": case(lambda: torch.eye(3, 4), 3, 4, OUT),
}

# Of bools and a number these give a number, which the pages do not let them write as bool.
NUMBERS_OF_BOOLS = {
    *("aclnnAdds", "aclnnSubs", "aclnnMuls", "aclnnDivMods", "aclnnFloorDivides", "aclnnPowTensorScalar"),
    *("aclnnInplaceAdds", "aclnnInplaceSubs", "aclnnInplaceMuls", "aclnnInplaceDiv", "aclnnInplaceDivs"),
}


# These take more than operands of one dtype, or draw numbers: tests of their own call them.
ELSEWHERE = {
    **dict.fromkeys(("aclnnInplaceScatterUpdate", "aclnnOneHot", "aclnnEmbeddingDenseBackward"), "shapes"),
    **dict.fromkeys(("aclnnApplyAdamWV2", "aclnnApplyAdamW"), "optimizer"),
    **dict.fromkeys(
        ("aclnnLayerNorm", "aclnnLayerNormBackward", "aclnnRmsNorm", "aclnnRmsNormGrad", "aclnnAddRmsNorm"), "norm"
    ),
    **dict.fromkeys(
        ("aclnnCrossEntropyLoss", "aclnnCrossEntropyLossGrad", "aclnnNLLLoss", "aclnnNLLLossBackward"), "loss"
    ),
    **dict.fromkeys(
        ("aclnnRotaryPositionEmbedding", "aclnnRotaryPositionEmbeddingGrad", "aclnnApplyRotaryPosEmb"), "rotary"
    ),
    **dict.fromkeys(
        ("aclnnDropoutGenMask", "aclnnDropoutGenMaskV2", "aclnnDropoutDoMask", "aclnnInplaceUniform",
         "aclnnInplaceNormal", "aclnnMultinomial"), "random",
    ),
    **dict.fromkeys(
        ("aclnnFlashAttentionScore", "aclnnFlashAttentionScoreV2", "aclnnFlashAttentionScoreGrad",
         "aclnnFlashAttentionScoreGradV2", "aclnnFlashAttentionVarLenScore", "aclnnFlashAttentionVarLenScoreV2",
         "aclnnFlashAttentionUnpaddingScoreGrad", "aclnnFlashAttentionUnpaddingScoreGradV2",
         "aclnnPromptFlashAttentionV3", "aclnnIncreFlashAttentionV4", "aclnnFusedInferAttentionScoreV2"), "attention",
    ),
    "aclnnWeightQuantBatchMatmulV2": "quantized",
    **dict.fromkeys(("aclnnDynamicQuant", "aclnnAscendQuant", "aclnnQuantMatmulV4"), "integers"),
}  # fmt: skip
