"""Functions that differ from another in their arguments alone: FlashAttention V2, and ApplyAdamW with its tensors."""

import pytest
import torch
from test_operators_attention import FLOATS, MANY, NONE3, compressed, values

from softcann.testing import Refused, run

pytestmark = pytest.mark.long

STARTS = (None, None)  # qStartIdxOptional and kvStartIdxOptional, which pseType 2 and 3 read


@pytest.mark.parametrize("dtype", FLOATS)
def test_attention_v2_is_attention(dtype):
    """The first form is compared with PyTorch in test_operators_attention.py."""
    q, d = values(2, 4, 6, 8, dtype=dtype), values(2, 4, 6, 8, dtype=dtype, seed=3)
    k, v = values(2, 2, 9, 8, dtype=dtype, seed=1), values(2, 2, 9, 8, dtype=dtype, seed=2)
    numbers, mask = (8**-0.5, 1.0, MANY, MANY, 4, "BNSD", 0, 3), compressed()
    results = []
    for form, starts, kind in (("", (), ()), ("V2", STARTS, (1,))):
        out, largest, total = torch.zeros_like(q), torch.zeros(2, 4, 6, 8), torch.zeros(2, 4, 6, 8)
        ends = (largest, total, None, out)
        run(f"aclnnFlashAttentionScore{form}", q, k, v, *NONE3, mask, None, *starts, *numbers, *kind, *ends)
        gradients = [torch.zeros_like(x) for x in (q, k, v)]
        saved = (largest, total, None, out, None)
        call = (q, k, v, d, *NONE3, mask, *saved, *starts, *numbers, *kind, *gradients, None)
        run(f"aclnnFlashAttentionScoreGrad{form}", *call)
        results.append([out, largest, total, *gradients])
    assert all(torch.equal(first, second) and first.any() for first, second in zip(*results))
    with pytest.raises(Refused, match="aclnnFlashAttentionScoreV2: pseType: found 2"):
        run("aclnnFlashAttentionScoreV2", q, k, v, *NONE3, mask, None, *STARTS, *numbers, 2, largest, total, None, out)
    with pytest.raises(Refused, match="aclnnFlashAttentionScoreGradV2: pseType: found 2"):
        run("aclnnFlashAttentionScoreGradV2", *call[:-5], 2, *gradients, None)


@pytest.mark.parametrize("dtype", FLOATS)
def test_attention_v2_of_sequences_behind_each_other(dtype):
    q, d = values(8, 4, 8, dtype=dtype), values(8, 4, 8, dtype=dtype, seed=3)
    k, v = values(12, 2, 8, dtype=dtype, seed=1), values(12, 2, 8, dtype=dtype, seed=2)
    numbers, mask, lengths = (8**-0.5, 1.0, MANY, MANY, 4, "TND", 0, 3), compressed(), ([3, 3, 8], [4, 6, 12])
    results = []
    for form, starts, kind in (("", (), ()), ("V2", STARTS, (1,))):
        out, largest, total = torch.zeros_like(q), torch.zeros(8, 4, 8), torch.zeros(8, 4, 8)
        ends = (largest, total, None, out)
        name = f"aclnnFlashAttentionVarLenScore{form}"
        run(name, q, k, v, *NONE3, mask, None, *lengths, *starts, *numbers, *kind, *ends)
        gradients = [torch.zeros_like(x) for x in (q, k, v)]
        saved = (largest, total, None, out, None)
        call = (q, k, v, d, *NONE3, mask, *saved, *lengths, *starts, *numbers, *kind, *gradients, None)
        run(f"aclnnFlashAttentionUnpaddingScoreGrad{form}", *call)
        results.append([out, largest, total, *gradients])
    assert all(torch.equal(first, second) and first.any() for first, second in zip(*results))
    with pytest.raises(Refused, match="aclnnFlashAttentionVarLenScoreV2: pseType: found 3"):
        run("aclnnFlashAttentionVarLenScoreV2", q, k, v, *NONE3, mask, None, *lengths, *STARTS, *numbers, 3, *ends)
    with pytest.raises(Refused, match="aclnnFlashAttentionUnpaddingScoreGradV2: pseType: found 3"):
        run("aclnnFlashAttentionUnpaddingScoreGradV2", *call[:-5], 3, *gradients, None)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adamw_with_its_numbers_in_tensors(dtype, amsgrad):
    """Three updates against PyTorch's AdamW, strided; float16 and bfloat16 round weights and moments at each."""
    weight = values(5, 4, dtype=dtype).t()
    m, v, largest = (torch.zeros(4, 5, dtype=dtype) for _ in range(3))
    exact = weight.double().detach().clone().requires_grad_()
    optimizer = torch.optim.AdamW([exact], lr=0.02, betas=(0.9, 0.95), eps=1e-3, weight_decay=0.1, amsgrad=amsgrad)

    def one(value):
        return torch.tensor([value], dtype=dtype)

    # What the kernel gets is rounded to the dtype, so PyTorch takes the same numbers.
    lr, decay, beta1, beta2, eps = (one(number).item() for number in (0.02, 0.1, 0.9, 0.95, 1e-3))
    optimizer.param_groups[0].update(lr=lr, weight_decay=decay, betas=(beta1, beta2), eps=eps)
    for step in range(1, 4):
        gradient = values(4, 5, dtype=dtype, seed=step)
        exact.grad = gradient.double()
        optimizer.step()
        powers = one(beta1**step), one(beta2**step)
        numbers = [one(number) for number in (lr, decay, beta1, beta2, eps)]
        last = largest if amsgrad else None
        run("aclnnApplyAdamW", weight, m, v, *powers, *numbers, gradient, last, amsgrad, False)
    within = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 5e-2}[dtype]
    torch.testing.assert_close(weight.double(), exact.detach(), rtol=within, atol=within)
    with pytest.raises(Refused, match=r"aclnnApplyAdamW: lr: found \w+, documented is the dtype of varRef|lr: found"):
        wrong = [*powers, numbers[0].double(), *numbers[1:]]
        run("aclnnApplyAdamW", weight, m, v, *wrong, gradient, None, False, False)
