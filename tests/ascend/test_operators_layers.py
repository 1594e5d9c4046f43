"""Norms, rotary embedding, AdamW, losses and dropout of softcann against PyTorch."""

import ctypes

import pytest
import torch
import torch.nn.functional as F

from softcann.testing import Refused, run

pytestmark = pytest.mark.long

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: 3e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def values(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def assert_close(found, expected, scale=1.0):
    tolerance = TOLERANCE[found.dtype] * scale
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


def rms_norm(x, weight, epsilon=1e-6):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


@pytest.mark.parametrize("dtype", FLOATS)
def test_rms_norm_and_its_gradient(dtype):
    x = values(6, 2, 3, dtype=dtype).permute(1, 2, 0)
    for gamma in (values(6, dtype=dtype, seed=1), values(6, seed=1)):
        exact, weight = x.double().requires_grad_(), gamma.double().requires_grad_()
        expected = rms_norm(exact, weight)
        y, rstd = torch.empty(2, 3, 6, dtype=dtype), torch.empty(2, 3, 1)
        run("aclnnRmsNorm", x, gamma, 1e-6, y, rstd)
        assert_close(y, expected.detach().to(dtype))
        assert_close(rstd, torch.rsqrt(x.double().square().mean(-1, keepdim=True) + 1e-6).float())
        d = values(2, 3, 6, dtype=dtype, seed=2)
        expected.backward(d.double())
        dx, dgamma = torch.empty(2, 3, 6, dtype=dtype), torch.empty(6)
        run("aclnnRmsNormGrad", d, x, rstd.reshape(2, 3), gamma, dx, dgamma)
        assert_close(dx, exact.grad.to(dtype), 4)
        assert_close(dgamma, weight.grad.float(), 4)
    with pytest.raises(Refused, match="rstdOut: found float16"):
        run("aclnnRmsNorm", x, gamma, 1e-6, y, torch.empty(2, 3, 1).half())
    with pytest.raises(Refused, match="gamma: found .*the last axes"):
        run("aclnnRmsNorm", x, values(5), 1e-6, y, rstd)


@pytest.mark.parametrize("dtype", FLOATS)
def test_add_rms_norm(dtype):
    x, added, gamma = values(4, 8, dtype=dtype), values(4, 8, dtype=dtype, seed=1), values(8, dtype=dtype, seed=2)
    y, rstd, total = torch.empty_like(x), torch.empty(4, 1), torch.empty_like(x)
    run("aclnnAddRmsNorm", x, added, gamma, 1e-5, y, rstd, total)
    exact = x.double() + added.double()
    assert_close(total, exact.to(dtype))
    assert_close(y, rms_norm(exact, gamma.double(), 1e-5).to(dtype))
    other = torch.float16 if dtype == torch.float32 else torch.float32
    with pytest.raises(Refused, match="gamma: found .*the dtype of x1"):
        run("aclnnAddRmsNorm", x, added, gamma.to(other), 1e-5, y, rstd, total)


@pytest.mark.parametrize("dtype", FLOATS)
def test_layer_norm_and_its_gradient(dtype):
    x, weight, bias = values(2, 3, 7, dtype=dtype), values(7, dtype=dtype, seed=1), values(7, dtype=dtype, seed=2)
    exact = [tensor.double().requires_grad_() for tensor in (x, weight, bias)]
    expected = F.layer_norm(exact[0], [7], exact[1], exact[2], 1e-5)
    y, mean, rstd = torch.empty_like(x), torch.empty(2, 3, 1), torch.empty(2, 3, 1)
    run("aclnnLayerNorm", x, [7], weight, bias, 1e-5, y, mean, rstd)
    assert_close(y, expected.detach().to(dtype))
    assert_close(mean, x.double().mean(-1, keepdim=True).float())
    d = values(2, 3, 7, dtype=dtype, seed=3)
    expected.backward(d.double())
    gradients = [torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)]
    run("aclnnLayerNormBackward", d, x, [7], mean, rstd, weight, bias, [True, True, True], *gradients)
    for found, reference in zip(gradients, exact):
        assert_close(found, reference.grad.to(dtype), 4)
    run("aclnnLayerNorm", x, [3, 7], None, None, 1e-5, y, None, None)
    assert_close(y, F.layer_norm(x.double(), [3, 7], eps=1e-5).to(dtype))
    with pytest.raises(Refused, match="normalizedShape: found"):
        run("aclnnLayerNorm", x, [3], weight, bias, 1e-5, y, mean, rstd)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("mode", [0, 1])
def test_rotary_embedding_and_its_gradient(dtype, mode):
    x, d = values(2, 3, 4, 8, dtype=dtype), values(2, 3, 4, 8, dtype=dtype, seed=1)
    cos, sin = values(1, 3, 1, 8, dtype=dtype, seed=2), values(1, 3, 1, 8, dtype=dtype, seed=3)

    def rotated(t):
        if mode == 0:
            return torch.cat((-t[..., 4:], t[..., :4]), -1)
        return torch.stack((-t[..., 1::2], t[..., ::2]), -1).flatten(-2)

    exact = [tensor.double().requires_grad_() for tensor in (x, cos, sin)]
    expected = exact[0] * exact[1] + rotated(exact[0]) * exact[2]
    expected.backward(d.double())
    out = torch.empty_like(x)
    run("aclnnRotaryPositionEmbedding", x, cos, sin, mode, out)
    assert_close(out, expected.detach().to(dtype))
    gradients = [torch.empty_like(x), torch.empty_like(cos), torch.empty_like(sin)]
    run("aclnnRotaryPositionEmbeddingGrad", d, cos, sin, x, mode, *gradients)
    for found, reference in zip(gradients, exact):
        assert_close(found, reference.grad.to(dtype), 4)
    run("aclnnRotaryPositionEmbeddingGrad", d, cos, sin, None, mode, gradients[0], None, None)
    assert_close(gradients[0], exact[0].grad.to(dtype))


def test_refused_rotations():
    x, angle = torch.ones(1, 2, 3, 8), torch.ones(1, 2, 1, 8)
    with pytest.raises(Refused, match="mode: found 2"):
        run("aclnnRotaryPositionEmbedding", x, angle, angle, 2, x.clone())
    with pytest.raises(Refused, match="cos: found float16"):
        run("aclnnRotaryPositionEmbedding", x, angle.half(), angle.half(), 0, x.clone())
    with pytest.raises(Refused, match="head dimension 7"):
        run("aclnnRotaryPositionEmbedding", x[..., :7], angle[..., :7], angle[..., :7], 0, torch.ones(1, 2, 3, 7))
    with pytest.raises(Refused, match="head dimension 128"):
        run("aclnnApplyRotaryPosEmb", x, x.clone(), angle, angle, 1)


def test_apply_rotary_in_place():
    query, key = values(2, 3, 4, 128), values(2, 3, 1, 128, seed=1)
    cos, sin = values(2, 3, 1, 128, seed=2), values(2, 3, 1, 128, seed=3)
    expected = [t * cos + torch.cat((-t[..., 64:], t[..., :64]), -1) * sin for t in (query, key)]
    run("aclnnApplyRotaryPosEmb", query, key, cos, sin, 1)
    assert_close(query, expected[0])
    assert_close(key, expected[1])


@pytest.mark.parametrize("dtype", FLOATS)
def test_adamw_of_twenty_steps(dtype):
    weight = values(5, 3, dtype=dtype)
    m, v = torch.zeros_like(weight), torch.zeros_like(weight)
    reference = torch.nn.Parameter(weight.double())
    optimizer = torch.optim.AdamW([reference], 0.01, (0.9, 0.95), 1e-8, 0.1)
    numbers = [ctypes.c_float(number) for number in (0.01, 0.9, 0.95, 0.1, 1e-8)]
    for step in range(1, 21):
        gradient = values(5, 3, dtype=dtype, seed=step)
        reference.grad = gradient.double()
        optimizer.step()
        # The kernel adds 1: the first call has 0.
        count = torch.tensor([step - 1], dtype=torch.int64 if step % 2 else torch.float32)
        run("aclnnApplyAdamWV2", weight, m, v, None, gradient, count, *numbers, False, False)
    assert_close(weight, reference.detach().to(dtype), 1 if dtype == torch.float32 else 12)
    with pytest.raises(Refused, match="grad: found .*the dtype of varRef"):
        wrong = gradient.double().to(torch.float16 if dtype == torch.float32 else torch.float32)
        run("aclnnApplyAdamWV2", weight, m, v, None, wrong, count, *numbers, False, False)
    with pytest.raises(Refused, match="step is -1"):
        run("aclnnApplyAdamWV2", weight, m, v, None, gradient, -torch.ones(1), *numbers, False, False)


def test_adamw_with_gradients_as_small_as_epsilon():
    """Epsilon is added to the root of the corrected second moment, in both operators, with and without amsgrad."""
    gradients = [values(6, seed=step) * torch.logspace(-10, -5, 6) for step in range(4)]
    for amsgrad in (False, True):
        reference = values(6).double()
        optimizer = torch.optim.AdamW([reference], 0.01, (0.9, 0.999), 1e-8, 0.1, amsgrad=amsgrad)
        second, first = ([values(6)] + [torch.zeros(6) for _ in range(3)] for _ in range(2))
        numbers = [ctypes.c_float(number) for number in (0.01, 0.9, 0.999, 0.1, 1e-8)]
        for step, gradient in enumerate(gradients, 1):
            reference.grad = gradient.double()
            optimizer.step()
            done = torch.tensor([float(step - 1)])
            run("aclnnApplyAdamWV2", *second, gradient, done, *numbers, amsgrad, False)
            powers = [torch.tensor([0.9**step]), torch.tensor([0.999**step])]
            rest = [torch.tensor([number]) for number in (0.01, 0.1, 0.9, 0.999, 1e-8)]
            run("aclnnApplyAdamW", *first[:3], *powers, *rest, gradient, first[3], amsgrad, False)
            # The weights have moved by 1e-2 at most; the corrections of float32 powers cost 1e-5 of that.
            for weight in (second[0], first[0]):
                torch.testing.assert_close(weight.double(), reference, rtol=0, atol=5e-7)


def cross_entropy(logits, labels, reduction: str, smoothing: float, loss, log_prob) -> None:
    """aclnnCrossEntropyLoss; its last two outputs, which nobody reads, are tensors of their own."""
    unused = torch.empty(1, dtype=logits.dtype), torch.empty(1, dtype=logits.dtype)
    options = (reduction, -100, smoothing, 0.0, False)
    run("aclnnCrossEntropyLoss", logits, labels, None, *options, loss, log_prob, *unused)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_losses_and_gradients(dtype, reduction):
    number = {"none": 0, "mean": 1, "sum": 2}[reduction]
    logits, labels = values(5, 7, dtype=dtype), torch.tensor([3, -100, 0, 6, -100])
    size = 5 if reduction == "none" else 1
    exact = logits.double().requires_grad_()
    expected = F.cross_entropy(exact, labels, reduction=reduction)
    d = values(size, dtype=dtype, seed=1)
    expected.backward(d.double().reshape(expected.shape))
    loss, log_prob = torch.empty(size, dtype=dtype), torch.empty_like(logits)
    cross_entropy(logits, labels, reduction, 0.0, loss, log_prob)
    assert_close(loss, expected.detach().reshape(size).to(dtype), 2)
    assert_close(log_prob, logits.double().log_softmax(-1).to(dtype))
    dx = torch.empty_like(logits)
    run("aclnnCrossEntropyLossGrad", d, log_prob, labels, None, None, None, reduction, -100, 0.0, 0.0, dx)
    assert_close(dx, exact.grad.to(dtype), 4)
    weight, total = values(7, dtype=dtype, seed=2).abs(), torch.empty(1, dtype=dtype)
    exact = logits.double().requires_grad_()
    expected = F.nll_loss(exact, labels, weight.double(), reduction=reduction)
    expected.backward(d.double().reshape(expected.shape))
    run("aclnnNLLLoss", logits, labels, weight, number, -100, loss, total)
    assert_close(loss, expected.detach().reshape(size).to(dtype), 2)
    run("aclnnNLLLossBackward", d, logits, labels, weight, number, -100, total, dx)
    assert_close(dx, exact.grad.to(dtype), 4)
    with pytest.raises(Refused, match="label 7 is outside of 7 classes"):
        run("aclnnNLLLoss", logits, labels.clamp(min=7), weight, number, -100, loss, total)
    with pytest.raises(Refused, match="target: found int32, documented is int64"):
        run("aclnnCrossEntropyLossGrad", d, log_prob, labels.int(), None, None, None, reduction, -100, 0.0, 0.0, dx)
    with pytest.raises(Refused, match="labelSmoothing: found 0.1"):
        run("aclnnCrossEntropyLossGrad", d, log_prob, labels, None, None, None, reduction, -100, 0.1, 0.0, dx)


def test_smoothed_labels():
    logits, labels = values(5, 7), torch.tensor([3, -100, 0, 6, 2])
    loss, log_prob = torch.empty(1), torch.empty_like(logits)
    cross_entropy(logits, labels, "mean", 0.1, loss, log_prob)
    assert_close(loss[0], F.cross_entropy(logits.double(), labels, label_smoothing=0.1).float())


@pytest.mark.parametrize("dtype", FLOATS)
def test_dropout(dtype):
    x = torch.ones(1000, dtype=dtype)
    mask = torch.zeros(128, dtype=torch.uint8)
    run("aclnnDropoutGenMaskV2", [1000], 0.25, 7, 0, dtype, mask)
    again = torch.zeros_like(mask)
    run("aclnnDropoutGenMask", [1000], 0.25, 7, 0, again)
    assert torch.equal(mask, again)  # a place's bit depends on the seed alone
    run("aclnnDropoutGenMask", [1000], 0.25, 8, 0, again)
    assert not torch.equal(mask, again)
    out = torch.empty_like(x)
    run("aclnnDropoutDoMask", x, mask, 0.25, out)
    kept = out != 0
    assert 0.70 < kept.float().mean() < 0.80
    assert_close(out[kept], torch.full((int(kept.sum()),), 1 / 0.75, dtype=dtype))
    bits = (mask[:125, None] >> torch.arange(8)) & 1
    assert torch.equal(bits.flatten().bool(), kept)
    with pytest.raises(Refused, match="mask: found 120 bytes, documented is 128"):
        run("aclnnDropoutDoMask", x, mask[:120], 0.25, out)
    with pytest.raises(Refused, match="prob: found 1.5"):
        run("aclnnDropoutDoMask", x, mask, 1.5, out)


def test_random_numbers():
    x = torch.empty(20000)
    run("aclnnInplaceUniform", x, -1.0, 3.0, ctypes.c_uint64(5), ctypes.c_uint64(0))
    assert x.min() >= -1 and x.max() < 3 and abs(x.mean() - 1) < 0.05
    run("aclnnInplaceNormal", x, ctypes.c_float(2.0), ctypes.c_float(0.5), 5, 0)
    assert abs(x.mean() - 2) < 0.02 and abs(x.std() - 0.5) < 0.02
    drawn = torch.empty(1, 4000, dtype=torch.int64)
    run("aclnnMultinomial", torch.tensor([[0.1, 0.0, 0.9]]), 4000, True, 3, 0, drawn)
    assert abs((drawn == 2).float().mean() - 0.9) < 0.03 and not (drawn == 1).any()
    with pytest.raises(Refused, match="numsamples: found 4"):
        run("aclnnMultinomial", torch.ones(1, 3), 4, False, 3, 0, drawn[:, :4])
