"""IncreFlashAttention and FusedInferAttentionScore in C++, against attention in float64 by PyTorch."""

from __future__ import annotations

import pytest
import torch
from native_calls import OperatorLibrary
from torch.nn.functional import scaled_dot_product_attention

BSH, BNSD, BSND, BNSD_BSND = 0, 1, 3, 8
MANY = 2147483647
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # of the tensor's norm


@pytest.fixture(scope="module")
def library():
    try:
        found = OperatorLibrary()
    except OSError:
        pytest.skip("the C++ operators are not built (no compiler)")
    assert found.has("IncreFlashAttention"), "the library is older than its sources: pip install -e ."
    return found


def values(*shape, seed, dtype):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def reference(query, key, value, seen=None):
    """``[N, S, D]`` to ``[K, T, D]`` in float64, with ``seen [S, T]``."""
    group = query.shape[0] // key.shape[0]
    key, value = (x.double().repeat_interleave(group, 0) for x in (key, value))
    return scaled_dot_product_attention(query.double(), key, value, attn_mask=seen, scale=query.shape[-1] ** -0.5)


def error(found, expected) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def incre(library, query, key, value, mask, lengths, table, heads, kv_heads, layout, block_size):
    """Status and result of IncreFlashAttention."""
    out = torch.full_like(query, 7)
    width = query.shape[-1] // heads if layout == BSH else query.shape[-1]
    numbers = (heads, layout, width**-0.5, kv_heads, block_size, 1)
    nones = (None,) * 8
    status = library.call("IncreFlashAttention", query, key, value, mask, lengths, *nones, table, None, *numbers, out)
    return status, out


def fused(
    library, query, key, value, mask, lengths, kv_lengths, table, heads, kv_heads, layout, mode, block_size=0, lse=False
):
    """Status, result and logarithms of FusedInferAttentionScore."""
    shape = query.shape
    if layout == BNSD_BSND:
        shape = (shape[0], shape[2], shape[1], shape[3])
    out = torch.full(shape, 7, dtype=query.dtype)
    rows = shape[2] if layout == BNSD else shape[1]
    logarithms = torch.empty(shape[0], heads, rows, 1)
    width = query.shape[-1] // heads if layout == BSH else query.shape[-1]
    numbers = (heads, width**-0.5, MANY, MANY, layout, kv_heads, mode, 0, block_size, 0, lse, 0, 0)
    tensors = (query, key, value, None, mask, lengths, kv_lengths, *(None,) * 7, table, *(None,) * 9)
    return library.call("FusedInferAttentionScore", *tensors, *numbers, out, logarithms), out, logarithms


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kv_heads", [1, 2, 8])
@pytest.mark.parametrize("layout", [BSH, BNSD])
def test_single_tokens_on_a_paged_cache(library, layout, kv_heads, dtype):
    heads, width, block, lengths = 8, 40, 16, [1, 37, 300, 16]
    shape = (80, kv_heads, block, width) if layout == BNSD else (80, block, kv_heads * width)
    key, value = (values(*shape, seed=seed, dtype=dtype) for seed in (0, 1))
    table = torch.randperm(80, generator=torch.Generator().manual_seed(2))[:76].reshape(4, 19).int()
    query = values(4, heads, width, seed=3, dtype=dtype)
    given = query.reshape(4, 1, -1) if layout == BSH else query[:, :, None].contiguous()
    window = torch.zeros(4, 1, 1, 19 * block, dtype=torch.uint8)
    window[2, ..., :200] = 1
    for pool in (key, value):
        pool[table[1, 5:].long()] = torch.nan  # past the sequence, so never to be read
    for mask in (None, window):
        status, out = incre(library, given, key, value, mask, lengths, table, heads, kv_heads, layout, block)
        assert status == 0
        for index, length in enumerate(lengths):
            own = []
            for pool in (key, value):
                blocks = pool[table[index].long()]
                if layout == BSH:
                    blocks = blocks.reshape(19, block, kv_heads, width).transpose(1, 2)
                own.append(blocks.transpose(1, 2).reshape(-1, kv_heads, width)[:length].transpose(0, 1))
            if mask is not None:
                own = [x[:, ~mask[index].flatten()[:length].bool()] for x in own]
            expected = reference(query[index][:, None], *own)
            assert error(out[index].reshape(heads, 1, width), expected) < TOLERANCE[dtype]
        again, same, _ = fused(
            library, given, key, value, mask, None, lengths, table, heads, kv_heads, layout, 0, block
        )
        assert again == 0 and torch.equal(same, out)


@pytest.mark.parametrize("layout", [BSH, BSND, BNSD])
def test_single_tokens_with_dense_keys(library, layout):
    heads, kv_heads, width, total = 4, 2, 32, 600
    query = values(3, heads, 1, width, seed=0, dtype=torch.float32)
    key, value = (values(3, kv_heads, total, width, seed=seed, dtype=torch.float32) for seed in (1, 2))

    def laid(x):
        if layout == BNSD:
            return x
        return (x.transpose(1, 2).flatten(2) if layout == BSH else x.transpose(1, 2)).contiguous()

    lengths = torch.tensor([600, 0, 257], dtype=torch.int32)
    status, out = incre(library, laid(query), laid(key), laid(value), None, lengths, None, heads, kv_heads, layout, 0)
    assert status == 0
    for index, length in enumerate(lengths.tolist()):
        own = out[index].reshape(heads, 1, width)
        if length == 0:
            assert not own.any()
            continue
        expected = reference(query[index], key[index, :, :length], value[index, :, :length])
        assert error(own, expected) < TOLERANCE[torch.float32]


def test_a_sequence_has_the_same_bits_whatever_is_beside_it(library):
    heads, kv_heads, width, block = 8, 2, 64, 32
    key, value = (values(40, block, kv_heads * width, seed=seed, dtype=torch.float32) for seed in (0, 1))
    table = torch.arange(40, dtype=torch.int32).reshape(2, 20)
    query = values(2, 1, heads * width, seed=2, dtype=torch.float32)
    _, both = incre(library, query, key, value, None, [613, 77], table, heads, kv_heads, BSH, block)
    for index, length in enumerate((613, 77)):
        one = slice(index, index + 1)
        _, alone = incre(library, query[one], key, value, None, [length], table[one], heads, kv_heads, BSH, block)
        assert torch.equal(alone[0], both[index])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_prompts(library, dtype):
    heads, kv_heads, width, queries, keys = 4, 2, 32, 50, 70
    query = values(2, heads, queries, width, seed=0, dtype=dtype)
    key, value = (values(2, kv_heads, keys, width, seed=seed, dtype=dtype) for seed in (1, 2))
    i, j = torch.arange(queries)[:, None], torch.arange(keys)[None, :]
    seen = j <= i + keys - queries
    compressed = torch.ones(2048, 2048, dtype=torch.bool).triu(1)
    status, out, logarithms = fused(
        library, query, key, value, compressed, None, None, None, heads, kv_heads, BNSD, 3, lse=True
    )
    assert status == 0
    for index in range(2):
        assert error(out[index], reference(query[index], key[index], value[index], seen)) < TOLERANCE[dtype]
    scores = query.double() @ key.double().repeat_interleave(2, 1).transpose(-1, -2) * width**-0.5
    expected = scores.masked_fill(~seen, -torch.inf).logsumexp(-1).float()
    torch.testing.assert_close(logarithms[..., 0], expected, rtol=1e-5, atol=1e-5)
    for mask in (
        ~seen,
        (~seen).expand(2, queries, keys).contiguous(),
        (~seen).expand(2, 1, queries, keys).contiguous(),
    ):
        status, same, _ = fused(library, query, key, value, mask, None, None, None, heads, kv_heads, BNSD, 0)
        assert status == 0 and torch.equal(same, out)
    arguments = (query, key, value, compressed, None, None, None, heads, kv_heads)
    assert torch.equal(fused(library, *arguments, BNSD_BSND, 3)[1], out.transpose(1, 2))
    # the second sequence is shorter; what is past it is 0
    arguments = (query, key, value, compressed, [50, 13], [70, 20], None, heads, kv_heads)
    status, short, _ = fused(library, *arguments, BNSD, 3)
    assert status == 0 and torch.equal(short[0], out[0]) and not short[1, :, 13:].any()
    expected = reference(query[1, :, :13], key[1, :, :20], value[1, :, :20], (j <= i + 7)[:13, :20])
    assert error(short[1, :, :13], expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("layout", [BSH, BNSD, BSND])
def test_a_prompts_chunk_on_a_paged_cache(library, layout):
    """The same bits as with the blocks behind each other."""
    heads, kv_heads, width, block, queries = 4, 2, 32, 16, 40
    pool = (30, kv_heads, block, width) if layout == BNSD else (30, block, kv_heads * width)
    key, value = (values(*pool, seed=seed, dtype=torch.float32) for seed in (0, 1))
    table = torch.randperm(30, generator=torch.Generator().manual_seed(2))[:16].reshape(2, 8).int()
    query = values(2, heads, queries, width, seed=3, dtype=torch.float32)
    gathered = []
    for cache in (key, value):
        own = cache[table.long()]  # [B, M, block, K*D] or [B, M, K, block, D]
        if layout == BNSD:
            own = own.transpose(1, 2).reshape(2, kv_heads, -1, width)
        gathered.append(own.reshape(2, 8 * block, *((kv_heads, width) if layout == BSND else (kv_heads * width,)))
                        if layout != BNSD else own.contiguous())  # fmt: skip
    if layout != BNSD:
        query = query.transpose(1, 2).contiguous()
        query = query.flatten(2) if layout == BSH else query
    mask = torch.ones(2048, 2048, dtype=torch.bool).triu(1)
    lengths = ([40, 33], [125, 33])
    rest = (mask, *lengths)
    status, paged, _ = fused(library, query, key, value, *rest, table, heads, kv_heads, layout, 3, block)
    assert status == 0
    status, dense, _ = fused(library, query, *gathered, *rest, None, heads, kv_heads, layout, 3)
    assert status == 0 and torch.equal(paged, dense) and paged.any()


REFUSED = {
    "query: found shape [2, 2, 64], expected one token a sequence": {"query": torch.zeros(2, 2, 64)},
    "block_table: found 9, expected a block below 4": {"table": torch.tensor([[0, 9], [1, 2]], dtype=torch.int32)},
    "block_table: found int64, expected int32": {"table": torch.tensor([[0, 3], [1, 2]])},
    "block_table: found shape [1, 4], expected a row for each of 2": {"table": torch.zeros(1, 4, dtype=torch.int32)},
    "actual_seq_lengths: found nothing, expected the length of each": {"lengths": None},
    "actual_seq_lengths: found 33, expected 0 to 32": {"lengths": [33, 1]},
    "block_size: found 0, expected the tokens of a block": {"block_size": 0},
    "key: found shape [4, 16, 32], expected [4, 8, 32]": {"block_size": 8},
    "num_key_value_heads: found 3, expected a divisor of 4": {"kv_heads": 3},
    "attn_mask: found shape [2, 31], expected [2, 32]": {"mask": torch.zeros(2, 31, dtype=torch.bool)},
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused_with_what_was_found_and_expected(library, message, capfd):
    given = {
        "query": torch.zeros(2, 1, 64),
        "key": torch.zeros(4, 16, 32),
        "value": torch.zeros(4, 16, 32),
        "mask": None,
        "lengths": [32, 20],
        "table": torch.tensor([[0, 3], [1, 2]], dtype=torch.int32),
        "heads": 4,
        "kv_heads": 2,
        "layout": BSH,
        "block_size": 16,
    } | REFUSED[message]
    status, _ = incre(library, *given.values())
    assert status == 1
    assert message.replace("[4, 8, 32]", "[blocks, 8, 32]") in capfd.readouterr().err
