"""Flash attention of softcann, for training and for inference, against PyTorch."""

import math

import pytest
import torch

from softcann.testing import Refused, run

pytestmark = pytest.mark.long

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
HALVES = FLOATS[1:]
TOLERANCE = {torch.float32: 4e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
MANY = 2147483647
NONE3, NONE5 = (None,) * 3, (None,) * 5


def values(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def assert_close(found, expected):
    tolerance = TOLERANCE[found.dtype]
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


def compressed():
    return torch.ones(2048, 2048, dtype=torch.bool).triu(1)


def visible(rows, columns, mode, pre=MANY, following=MANY):
    """The keys that a query sees, as the page of sparse modes describes them."""
    i, j = torch.arange(rows)[:, None], torch.arange(columns)[None, :]
    shift = columns - rows if mode in (3, 4) else 0
    if mode in (2, 3):
        pre, following = MANY, 0
    return (j >= i + shift - pre) & (j <= i + shift + following)


def reference(q, k, v, seen, scale):
    """Attention of (B, N, S, D) in float64 with grouped heads; a query that sees nothing gives zeros."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = (q @ k.transpose(-1, -2) * scale).masked_fill(~seen, -math.inf)
    return scores.softmax(-1).nan_to_num(0.0) @ v


def laid(x, layout):
    """(B, N, S, D) in another layout, contiguous."""
    if layout == "BNSD":
        return x.contiguous()
    if layout == "BSND":
        return x.transpose(1, 2).contiguous()
    flat = x.transpose(1, 2).flatten(2)
    return (flat if layout == "BSH" else flat.transpose(0, 1)).contiguous()


def train(q, k, v, d, layout, mask, mode, pre=MANY, following=MANY):
    """Output and gradients of FlashAttentionScore for tensors (B, N, S, D), in `layout`."""
    batch, heads, rows, width = q.shape
    numbers = (width**-0.5, 1.0, pre, following, heads, layout, 0, mode)
    q, k, v, d = (laid(x, layout) for x in (q, k, v, d))
    out, largest, total = torch.empty_like(q), torch.empty(batch, heads, rows, 8), torch.empty(batch, heads, rows, 8)
    run("aclnnFlashAttentionScore", q, k, v, None, None, None, mask, None, *numbers, largest, total, None, out)
    gradients = [torch.empty_like(x) for x in (q, k, v)]
    saved = (largest, total, None, out, None)
    run("aclnnFlashAttentionScoreGrad", q, k, v, d, None, None, None, mask, *saved, *numbers, *gradients, None)
    return out, gradients


MODES = {0: (MANY, MANY), 1: (MANY, MANY), 2: (MANY, MANY), 3: (MANY, MANY), 4: (3, 1)}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("mode", MODES)
def test_training_in_every_sparse_mode(dtype, mode):
    pre, following = MODES[mode]
    q, k, v, d = (values(2, heads, length, 8, dtype=dtype, seed=seed) for seed, (heads, length) in
                  enumerate([(4, 6), (2, 9), (2, 9), (4, 6)]))  # fmt: skip
    seen = visible(6, 9, mode, pre, following) if mode >= 2 else visible(6, 9, 3)
    mask = compressed() if mode >= 2 else ~seen
    out, gradients = train(q, k, v, d, "BNSD", mask, mode, pre, following)
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    expected = reference(*exact, seen, 8**-0.5)
    expected.backward(d.double())
    assert_close(out, expected.detach().to(dtype))
    for found, tensor in zip(gradients, exact):
        assert_close(found, tensor.grad.to(dtype))


@pytest.mark.parametrize("layout", ["BSH", "SBH", "BSND"])
def test_layouts_and_mask_shapes(layout):
    q, k, v, d = (values(2, heads, 5, 4, seed=seed) for seed, heads in enumerate((4, 1, 1, 4)))
    hidden = ~visible(5, 5, 2)
    out, gradients = train(q, k, v, d, layout, hidden.to(torch.uint8).expand(2, 1, 5, 5).contiguous(), 0, MANY, 0)
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    expected = reference(*exact, ~hidden, 0.5)
    expected.backward(d.double())
    assert_close(out, laid(expected.detach().float(), layout))
    for found, tensor in zip(gradients, exact):
        assert_close(found, laid(tensor.grad.float(), layout))
    for shape in [(1, 1, 5, 5), (2, 4, 5, 5), (5, 5)]:
        again, _ = train(q, k, v, d, layout, hidden.expand(shape).contiguous(), 1)
        assert torch.equal(again, out)


def test_more_queries_than_keys_give_zeros():
    q, k, v = values(1, 2, 6, 8), values(1, 2, 4, 8, seed=1), values(1, 2, 4, 8, seed=2)
    out, _ = train(q, k, v, q, "BNSD", compressed(), 3)
    assert not out[:, :, :2].any()
    assert_close(out, reference(q.double(), k.double(), v.double(), visible(6, 4, 3), 8**-0.5).float())


def test_dropout_bits():
    q, k, v = (values(1, 2, 8, 4, seed=seed) for seed in range(3))
    kept = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.75
    mask = (kept.reshape(-1, 8).to(torch.uint8) << torch.arange(8)).sum(-1).to(torch.uint8)
    out, largest, total = torch.empty_like(q), torch.empty(1, 2, 8, 8), torch.empty(1, 2, 8, 8)
    numbers = (0.5, 0.75, MANY, MANY, 2, "BNSD", 0, 0)
    run("aclnnFlashAttentionScore", q, k, v, None, mask, None, None, None, *numbers, largest, total, None, out)
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    expected = ((exact[0] @ exact[1].transpose(-1, -2) * 0.5).softmax(-1) * kept / 0.75) @ exact[2]
    expected.backward(q.double())
    assert_close(out, expected.detach().float())
    gradients = [torch.empty_like(x) for x in (q, k, v)]
    saved = (largest, total, None, out, None)
    run("aclnnFlashAttentionScoreGrad", q, k, v, q, None, mask, None, None, *saved, *numbers, *gradients, None)
    for found, tensor in zip(gradients, exact):
        assert_close(found, tensor.grad.float())


@pytest.mark.parametrize("dtype", FLOATS)
def test_sequences_behind_each_other(dtype):
    q_ends, kv_ends = [3, 3, 8], [4, 6, 12]
    q, k, v, d = (values(rows, heads, 8, dtype=dtype, seed=seed) for seed, (rows, heads) in
                  enumerate([(8, 4), (12, 2), (12, 2), (8, 4)]))  # fmt: skip
    numbers = (8**-0.5, 1.0, MANY, MANY, 4, "TND", 0, 3)
    out, largest, total = torch.empty_like(q), torch.empty(8, 4, 8), torch.empty(8, 4, 8)
    lengths, mask = (q_ends, kv_ends), compressed()
    run("aclnnFlashAttentionVarLenScore", q, k, v, *NONE3, mask, None, *lengths, *numbers, largest, total, None, out)
    gradients = [torch.empty_like(x) for x in (q, k, v)]
    saved = (largest, total, None, out, None)
    gradient = "aclnnFlashAttentionUnpaddingScoreGrad"
    run(gradient, q, k, v, d, *NONE3, mask, *saved, *lengths, *numbers, *gradients, None)
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    parts = []
    for (first, last), (start, end) in zip(zip([0, *q_ends], q_ends), zip([0, *kv_ends], kv_ends)):
        heads = [x.transpose(0, 1)[None] for x in (exact[0][first:last], exact[1][start:end], exact[2][start:end])]
        parts.append(reference(*heads, visible(last - first, end - start, 3), 8**-0.5)[0].transpose(0, 1))
    expected = torch.cat(parts)
    expected.backward(d.double())
    assert_close(out, expected.detach().to(dtype))
    for found, tensor in zip(gradients, exact):
        assert_close(found, tensor.grad.to(dtype))
    with pytest.raises(Refused, match="at least as many keys as queries for sparseMode 3"):
        wrong = ([5, 5, 8], kv_ends)
        run("aclnnFlashAttentionVarLenScore", q, k, v, *NONE3, mask, None, *wrong, *numbers, largest, total, None, out)


def test_refused_training_calls():
    q = values(1, 2, 4, 8)
    with pytest.raises(Refused, match=r"attenMaskOptional: found shape \(4, 4\), documented is \(2048, 2048\)"):
        train(q, q, q, q, "BNSD", torch.zeros(4, 4, dtype=torch.bool), 3)
    with pytest.raises(Refused, match="the compressed mask has 0 at row 0, column 1"):
        train(q, q, q, q, "BNSD", torch.zeros(2048, 2048, dtype=torch.bool), 3)
    with pytest.raises(Refused, match="attenMaskOptional: found float32, documented is uint8, bool"):
        train(q, q, q, q, "BNSD", torch.zeros(4, 4), 0)
    with pytest.raises(Refused, match="sparseMode: found 5"):
        train(q, q, q, q, "BNSD", torch.zeros(4, 4, dtype=torch.bool), 5)
    with pytest.raises(Refused, match="attenMaskOptional: found .3, 4."):
        train(q, q, q, q, "BNSD", torch.zeros(3, 4, dtype=torch.bool), 0)
    with pytest.raises(Refused, match="outside of preTokens and nextTokens"):
        train(q, q, q, q, "BNSD", torch.zeros(4, 4, dtype=torch.bool), 0, MANY, 0)
    with pytest.raises(Refused, match="key: found float16, documented is the dtype of query"):
        train(q, q.half(), q, q, "BNSD", None, 0)
    with pytest.raises(Refused, match="key: found 3 heads, documented is a divisor"):
        train(q, values(1, 3, 4, 8), values(1, 3, 4, 8), q, "BNSD", None, 0)
    with pytest.raises(Refused, match="preTokens and nextTokens: found -3 and -3, documented is a band .*/aclnnFlash"):
        train(q, q, q, q, "BNSD", compressed(), 4, -3, -3)
    with pytest.raises(Refused, match="query: found batch 0, documented is 1 to 2097152"):
        train(q[:0], q[:0], q[:0], q[:0], "BNSD", None, 0)
    numbers, empty = (1.0, 1.0, MANY, MANY, 2, "BNSD", 9, 0), torch.empty(1, 2, 4, 8)
    with pytest.raises(Refused, match="innerPrecise: found 9"):
        run("aclnnFlashAttentionScore", q, q, q, *NONE5, *numbers, empty, empty.clone(), None, q.clone())
    numbers = (1.0, 1.0, MANY, MANY, 3, "BNSD", 0, 0)
    statistic = torch.empty(1, 2, 4, 8)
    with pytest.raises(Refused, match="headNum: found 3"):
        run("aclnnFlashAttentionScore", q, q, q, *NONE5, *numbers, statistic, statistic.clone(), None, q.clone())
    numbers = (1.0, 1.0, MANY, MANY, 2, "BXYZ", 0, 0)
    with pytest.raises(Refused, match='inputLayout: found "BXYZ"'):
        run("aclnnFlashAttentionScore", q, q, q, *NONE5, *numbers, statistic, statistic.clone(), None, q.clone())
    numbers = (1.0, 1.0, MANY, MANY, 2, "BNSD", 0, 0)
    with pytest.raises(Refused, match="softmaxMaxOut or softmaxSumOut: found shape .1, 2, 4, 1."):
        run("aclnnFlashAttentionScore", q, q, q, *NONE5, *numbers, statistic[..., :1], statistic, None, q.clone())


def infer(q, keys, values_, mask, q_lengths, kv_lengths, table, block_size, kv_heads, layout, mode, lse=False):
    """FusedInferAttentionScoreV2 of a query in `layout`."""
    heads, width = (q.shape[1], q.shape[3]) if layout == "BNSD" else (4, q.shape[-1] // 4)
    out = torch.empty_like(q)
    rows = q.shape[2] if layout == "BNSD" else q.shape[1]
    sums = torch.empty(q.shape[0], heads, rows, 1)
    run(
        "aclnnFusedInferAttentionScoreV2", q, keys, values_, None, mask, q_lengths, kv_lengths, *NONE5, None,
        None, table, *NONE3, *NONE3, *NONE3, heads, width**-0.5, MANY, MANY, layout, kv_heads, mode, 0,
        block_size, 0, lse, 0, 0, out, sums,
    )  # fmt: skip
    return out, sums


@pytest.mark.parametrize("dtype", HALVES)
def test_prompts(dtype):
    q, k, v = (
        values(2, 4, 5, 8, dtype=dtype),
        values(2, 2, 7, 8, dtype=dtype, seed=1),
        values(2, 2, 7, 8, dtype=dtype, seed=2),
    )
    wide = [x.double() for x in (q, k, v)]
    out, sums = infer(q, [k], [v], compressed(), None, None, None, 0, 2, "BNSD", 3, True)
    expected = reference(*wide, visible(5, 7, 3), 8**-0.5)
    assert_close(out, expected.to(dtype))
    scores = wide[0] @ wide[1].repeat_interleave(2, 1).transpose(-1, -2) * 8**-0.5
    assert_close(sums[..., 0], scores.masked_fill(~visible(5, 7, 3), -math.inf).logsumexp(-1).float())
    out, _ = infer(laid(q, "BSH"), [laid(k, "BSH")], [laid(v, "BSH")], compressed(), None, None, None, 0, 2, "BSH", 3)
    assert_close(out, laid(expected.to(dtype), "BSH"))
    # actual lengths: the second sequence is shorter, what is past it is 0
    out, _ = infer(q, [k], [v], compressed(), [5, 3], [7, 4], None, 0, 2, "BNSD", 3)
    assert_close(out[:1], expected[:1].to(dtype))
    short = reference(wide[0][1:, :, :3], wide[1][1:, :, :4], wide[2][1:, :, :4], visible(3, 4, 3), 8**-0.5)
    assert_close(out[1:, :, :3], short.to(dtype))
    assert not out[1:, :, 3:].any()
    hidden = ~visible(5, 7, 3).expand(2, 5, 7).contiguous()
    prompt = torch.empty_like(q)
    arguments = (q, k, v, None, hidden, None, None, None, None, None, None, None)
    run("aclnnPromptFlashAttentionV3", *arguments, 4, 8**-0.5, MANY, MANY, "BNSD", 2, 1, 0, prompt)
    assert_close(prompt, expected.to(dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_each_sequence_is_hidden_by_its_own_mask(dtype):
    """Prompts, shorter sequences, and single tokens; each mask in every shape that the pages list for it."""
    q, k, v = (values(3, heads, size, 8, dtype=dtype, seed=heads) for heads, size in ((4, 5), (2, 7), (1, 7)))
    v = v.repeat(1, 2, 1, 1)
    hidden = torch.rand(3, 1, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    assert all((hidden[i] != hidden[j]).any() for i, j in ((0, 1), (0, 2), (1, 2)))
    wide = [x.double() for x in (q, k, v)]
    expected = reference(*wide, ~hidden, 8**-0.5).to(dtype)
    for mask in (hidden, hidden[:, 0].to(torch.uint8)):
        out, _ = infer(q, [k], [v], mask, None, None, None, 0, 2, "BNSD", 0)
        assert_close(out, expected)
    out, _ = infer(q, [k], [v], hidden, [5, 2, 4], [3, 7, 4], None, 0, 2, "BNSD", 1)
    for b, (rows, keys) in enumerate([(5, 3), (2, 7), (4, 4)]):
        x = [wide[0][b : b + 1, :, :rows], wide[1][b : b + 1, :, :keys], wide[2][b : b + 1, :, :keys]]
        assert_close(out[b, :, :rows], reference(*x, ~hidden[b, :, :rows, :keys], 8**-0.5)[0].to(dtype))
    token, first = q[:, :, :1].contiguous(), hidden[:, :, :1]
    expected = reference(token.double(), *wide[1:], ~first, 8**-0.5).to(dtype)
    numbers = (4, 8**-0.5, "BNSD", 2, 0, 1)
    for mask in (first, first[:, 0], first[:, 0, 0]):
        out, _ = infer(token, [k], [v], mask.contiguous(), None, None, None, 0, 2, "BNSD", 0)
        assert_close(out, expected)
        run("aclnnIncreFlashAttentionV4", token, [k], [v], None, mask.contiguous(), *[None] * 10, *numbers, out.zero_())
        assert_close(out, expected)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("layout", ["BSH", "BNSD"])
def test_single_tokens_on_a_paged_cache(dtype, layout):
    batch, kv_heads, width, block, lengths = 3, 2, 8, 128, [1, 130, 256]
    pool_shape = (6, block, kv_heads * width) if layout == "BSH" else (6, kv_heads, block, width)
    keys, cached = values(*pool_shape, dtype=dtype), values(*pool_shape, dtype=dtype, seed=1)
    table = torch.tensor([[5, 0], [2, 4], [1, 3]], dtype=torch.int32)
    q = values(batch, 4, 1, width, dtype=dtype, seed=2)
    query = q.reshape(batch, 1, 32) if layout == "BSH" else q
    out, _ = infer(query, [keys], [cached], None, None, lengths, table, block, kv_heads, layout, 0)
    single = torch.empty_like(query)
    numbers = (4, width**-0.5, layout, kv_heads, block, 1)
    pools = ([keys], [cached])
    run("aclnnIncreFlashAttentionV4", query, *pools, None, None, lengths, *[None] * 7, table, None, *numbers, single)
    assert torch.equal(single, out)
    for b, length in enumerate(lengths):
        k, v = (
            pool[table[b].long()].reshape(2 * block, kv_heads, width).transpose(0, 1)
            if layout == "BSH"
            else pool[table[b].long()].transpose(0, 1).reshape(kv_heads, 2 * block, width)
            for pool in (keys, cached)
        )
        expected = reference(q[b : b + 1].double(), k[None, :, :length].double(), v[None, :, :length].double(),
                             torch.ones(1, length, dtype=torch.bool), width**-0.5)  # fmt: skip
        assert_close(out[b].reshape(4, width), expected.reshape(4, width).to(dtype))


def test_refused_inference_calls():
    q = values(2, 4, 1, 8, dtype=torch.float16)
    pool, table = values(4, 128, 16, dtype=torch.float16), torch.zeros(2, 2, dtype=torch.int32)
    with pytest.raises(Refused, match="key: found float32, documented is float16, bfloat16"):
        infer(q.float(), [pool.float()], [pool.float()], None, None, [3, 4], table, 128, 2, "BNSD", 0)
    # A prompt's blocks are multiples of 128; those of single tokens only "not 0, at most 512".
    prompt, small = values(2, 4, 3, 8, dtype=torch.float16), values(4, 16, 16, dtype=torch.float16)
    with pytest.raises(Refused, match="blockSize: found 16, documented is a multiple of 128, at most 512"):
        infer(prompt, [small], [small.clone()], None, [3, 3], [3, 4], table, 16, 2, "BNSD", 0)
    with pytest.raises(Refused, match="blockSize: found 640, documented is a multiple of 16, at most 512"):
        infer(q, [pool], [pool.clone()], None, None, [3, 4], table, 640, 2, "BNSD", 0)
    assert infer(q, [small], [small.clone()], None, None, [3, 4], table, 16, 2, "BNSD", 0)[0].isfinite().all()
    with pytest.raises(Refused, match="161001: .*actualSeqLengthsKv, required"):
        infer(q, [pool], [pool.clone()], None, None, None, table, 128, 2, "BNSD", 0)
    with pytest.raises(Refused, match=r"actualSeqLengthsKv: found \(3, 300\), documented is 0 to 256"):
        infer(q, [pool], [pool.clone()], None, None, [3, 300], table, 128, 2, "BNSD", 0)
    with pytest.raises(Refused, match="blockTable: the block table names block 9 for sequence 0, .*/docs/aclnnFused"):
        infer(q, [pool], [pool.clone()], None, None, [3, 4], table + 9, 128, 2, "BNSD", 0)
    with pytest.raises(Refused, match="blockTableOptional: found int64"):
        infer(q, [pool], [pool.clone()], None, None, [3, 4], table.long(), 128, 2, "BNSD", 0)
    flat, cache = q.reshape(2, 1, 32), values(4, 2, 128, 8, dtype=torch.float16)
    with pytest.raises(Refused, match="beside a query in layout BSH"):
        infer(flat, [cache], [cache.clone()], None, None, [3, 4], table, 128, 2, "BSH", 0)
    with pytest.raises(Refused, match="attenMaskOptional: found null"):
        k = values(2, 2, 5, 8, dtype=torch.float16)
        infer(values(2, 4, 5, 8, dtype=torch.float16), [k], [k.clone()], None, None, None, None, 0, 2, "BNSD", 3)
