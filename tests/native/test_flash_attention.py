"""FlashAttentionScore and its gradient in C++, against attention in float64 by PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
import torch
from native_calls import OperatorLibrary, pytest_command
from torch.nn.functional import scaled_dot_product_attention

BSH, BNSD, SBH, BSND, TND = range(5)
MANY = 2147483647
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # of the tensor's norm


@pytest.fixture(scope="module")
def library():
    try:
        found = OperatorLibrary()
    except OSError:
        pytest.skip("the C++ operators are not built (no compiler)")
    assert found.has("FlashAttentionScore"), "the library is older than its sources: pip install -e ."
    return found


@dataclass(frozen=True)
class Case:
    """Sizes and attributes of a call; ``mask`` is the operator's, ``None`` for none."""

    batch: int = 1
    heads: int = 4
    kv_heads: int = 2
    queries: int = 64
    keys: int = 64
    width: int = 32
    value_width: int = 32
    layout: int = BSH
    mode: int = 0
    before: int = MANY
    after: int = MANY
    masked: bool = False
    keep: float = 1.0
    dtype: torch.dtype = torch.float32

    @property
    def scale(self) -> float:
        return self.width**-0.5


CASES = {
    "MHA": Case(batch=2, heads=4, kv_heads=4, queries=128, keys=128, width=64, value_width=64, mode=3),
    "GQA": Case(heads=8, kv_heads=2, queries=300, keys=300, mode=3),
    "MQA": Case(batch=2, heads=8, kv_heads=1, width=64, value_width=64, mode=2),
    "one token": Case(queries=1, keys=1, width=16, value_width=16),
    "seven tokens": Case(batch=2, queries=7, keys=7, width=80, value_width=80, mode=3),
    "one query": Case(queries=1, keys=150, mode=3),
    "prefix": Case(queries=64, keys=101, mode=3),
    "prefix and mask": Case(batch=2, queries=100, keys=140, masked=True),
    "more queries than keys": Case(queries=60, keys=40, mode=3),
    "everything visible": Case(queries=130, keys=70),
    "upper left": Case(queries=70, keys=130, mode=2),
    "window": Case(queries=300, keys=300, mode=4, before=40, after=0),
    "narrow window": Case(queries=300, keys=300, mode=4, before=3, after=0),
    "band": Case(queries=140, keys=170, mode=4, before=20, after=9),
    "window in the mask": Case(batch=2, queries=300, keys=300, before=39, after=0, masked=True),
    "SBH": Case(batch=2, layout=SBH, mode=3),
    "BSND": Case(batch=2, layout=BSND, mode=3, value_width=16),
    "BNSD": Case(batch=2, layout=BNSD, mode=3, value_width=16),
    "dropout": Case(batch=2, queries=72, keys=72, keep=0.75, mode=3),
    "dropout, odd length": Case(batch=2, queries=45, keys=45, keep=0.5),
    "wide heads": Case(queries=40, keys=40, width=256, value_width=256, mode=3),
}


def values(*shape, seed, dtype):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def laid(x: torch.Tensor, layout: int) -> torch.Tensor:
    """``[B, N, S, D]`` in a layout, contiguous."""
    if layout == BNSD:
        return x.contiguous()
    x = x.transpose(1, 2)
    if layout == BSND:
        return x.contiguous()
    x = x.flatten(2)
    return (x.transpose(0, 1) if layout == SBH else x).contiguous()


def order(case: Case) -> torch.Tensor:
    """Which keys a query sees by the sparse mode, ``[S, T]``."""
    i, j = torch.arange(case.queries)[:, None], torch.arange(case.keys)[None, :]
    shift = case.keys - case.queries if case.mode >= 3 else 0
    before, after = {2: (MANY, 0), 3: (MANY, 0)}.get(case.mode, (case.before, case.after))
    return (j >= i + shift - before) & (j <= i + shift + after)


def mask_of(case: Case) -> torch.Tensor | None:
    """The operator's mask: of packed documents in their order, and some keys more that nothing but the mask hides."""
    if case.mode >= 2:
        return torch.ones(2048, 2048, dtype=torch.bool).triu(1)
    if not case.masked:
        return None
    i, j = torch.arange(case.queries)[:, None], torch.arange(case.keys)[None, :]
    ahead = case.keys - case.queries
    hidden = torch.stack([(j > i + ahead) | (j >= ahead) & ((i * k // 90) != ((j - ahead) * k // 90)) for k in (1, 3)])
    hidden = (
        hidden[: case.batch] | (torch.rand(case.keys, generator=torch.Generator().manual_seed(5)) < 0.03)
    ) | ~order(case)
    return hidden[:, None].to(torch.uint8).contiguous()


def visible(case: Case, mask: torch.Tensor | None) -> torch.Tensor:
    """``[B or 1, 1, S, T]``."""
    if case.mode >= 2:
        return order(case)[None, None]
    if mask is None:
        return torch.ones(1, 1, case.queries, case.keys, dtype=torch.bool)
    return mask == 0


def drop_mask(case: Case) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The bits, and the factor of each probability."""
    if case.keep == 1.0:
        return None, None
    count = case.batch * case.heads * case.queries * case.keys
    kept = torch.rand(count, generator=torch.Generator().manual_seed(3)) < case.keep
    padded = torch.cat([kept, torch.zeros(-count % 8, dtype=torch.bool)])
    bits = (padded.reshape(-1, 8).to(torch.uint8) << torch.arange(8)).sum(-1).to(torch.uint8)
    return bits, kept.reshape(case.batch, case.heads, case.queries, case.keys).double() / case.keep


def inputs_of(case: Case) -> list[torch.Tensor]:
    """Query, key, value and the gradient of the result, ``[B, N or K, S or T, D]``."""
    shapes = (
        (case.heads, case.queries, case.width),
        (case.kv_heads, case.keys, case.width),
        (case.kv_heads, case.keys, case.value_width),
        (case.heads, case.queries, case.value_width),
    )
    return [values(case.batch, *shape, seed=seed, dtype=case.dtype) for seed, shape in enumerate(shapes)]


def attributes(case: Case) -> tuple:
    return (case.heads, case.keep, case.scale, case.before, case.after, 0, case.layout, case.mode)


def run(library: OperatorLibrary, case: Case) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Result and gradients in the layout, and both statistics ``[B, N, S, 8]``."""
    query, key, value, slope = (laid(x, case.layout) for x in inputs_of(case))
    mask, (bits, _) = mask_of(case), drop_mask(case)
    out = torch.full_like(slope, 7)
    largest, total = (torch.full((case.batch, case.heads, case.queries, 8), 7.0) for _ in range(2))
    outputs = (largest, total, torch.zeros(1), out)
    assert not library.call(
        "FlashAttentionScore", query, key, value, None, bits, None, mask, None, None, None, *attributes(case), *outputs
    )
    gradients = [torch.full_like(x, 7) for x in (query, key, value)]
    saved = (largest, total, None, out, None, None, None)
    assert not library.call(
        *("FlashAttentionScoreGrad", query, key, value, slope, None, bits, None, mask, *saved, *attributes(case)),
        *(*gradients, torch.zeros(0)),
    )
    return out, gradients, largest, total


def exact(case: Case) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The same in float64, ``[B, N, S, D]``."""
    query, key, value, slope = (x.double() for x in inputs_of(case))
    tensors = [x.requires_grad_() for x in (query, key, value)]
    group = case.heads // case.kv_heads
    repeated = [x.repeat_interleave(group, 1) for x in (key, value)]
    sees = visible(case, mask_of(case))
    blind = ~sees.any(-1, keepdim=True)  # a query that sees nothing gives zeros
    sees = sees | blind
    _, factors = drop_mask(case)
    if factors is None:
        out = scaled_dot_product_attention(query, *repeated, attn_mask=sees, scale=case.scale)
    else:
        scores = (query @ repeated[0].transpose(-1, -2) * case.scale).masked_fill(~sees, -torch.inf)
        out = (scores.softmax(-1) * factors) @ repeated[1]
    out = torch.where(blind, 0.0, out)
    out.backward(slope)
    return out.detach(), [x.grad for x in tensors]


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Distance, as a share of the norm."""
    return float((found.double() - expected).norm() / expected.norm().clamp_min(1e-30))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_result_and_gradients(library, name, dtype):
    case = replace(CASES[name], dtype=dtype)
    out, gradients, largest, total = run(library, case)
    expected, expected_gradients = exact(case)
    assert error(out, laid(expected, case.layout)) < TOLERANCE[dtype]
    one_key = case.keys == 1  # whose probability is 1, so that queries and keys have no gradient
    for found, wanted in zip(gradients, expected_gradients):
        if wanted.abs().max() < 1e-12:  # float64's own rounding, which depends on the processor
            assert one_key and found.abs().max() < (1e-6 if dtype == torch.float32 else 1e-2)
        else:
            assert error(found, laid(wanted, case.layout)) < 2 * TOLERANCE[dtype]
    scores = inputs_of(case)[0].double() @ inputs_of(case)[1].double().repeat_interleave(
        case.heads // case.kv_heads, 1
    ).transpose(-1, -2)
    scores = (scores * case.scale).masked_fill(~visible(case, mask_of(case)), -torch.inf)
    sees = scores.isfinite().any(-1)
    assert (largest == largest[..., :1]).all() and (total == total[..., :1]).all()
    torch.testing.assert_close(largest[..., 0].double()[sees], scores.amax(-1)[sees], rtol=1e-5, atol=1e-5)
    logarithm = (largest.double() + total.double().log())[..., 0]
    torch.testing.assert_close(logarithm[sees], scores.logsumexp(-1)[sees], rtol=1e-5, atol=1e-5)
    assert not total[~sees].any()


def documents(library: OperatorLibrary, dtype: torch.dtype, ends: list[int], kv_ends: list[int], keep: float):
    """Result and gradients of layout TND, and the same of each document alone by layout BSND."""
    heads, kv_heads, width = 4, 2, 32
    shapes = ((ends[-1], heads), (kv_ends[-1], kv_heads), (kv_ends[-1], kv_heads), (ends[-1], heads))
    tensors = [values(*shape, width, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes)]
    mask = torch.ones(2048, 2048, dtype=torch.uint8).triu(1)
    spans = list(zip(zip([0, *ends], ends), zip([0, *kv_ends], kv_ends)))
    sizes = [heads * (last - first) * (end - start) for (first, last), (start, end) in spans]
    bits = None
    if keep < 1:  # a whole number of bytes for each document, so that each can be cut out
        assert all(size % 8 == 0 for size in sizes)
        bits = torch.randint(0, 256, (sum(sizes) // 8,), generator=torch.Generator().manual_seed(1)).to(torch.uint8)

    def both(own, own_bits, layout, lengths, rows):
        numbers = (heads, keep, width**-0.5, MANY, MANY, 0, layout, 3)
        out = torch.empty_like(own[3])
        statistics = [torch.empty(rows) for _ in range(2)]
        outputs = (*statistics, torch.zeros(1), out)
        assert not library.call(
            "FlashAttentionScore", *own[:3], None, own_bits, None, mask, None, *lengths, *numbers, *outputs
        )
        gradients = [torch.empty_like(x) for x in own[:3]]
        saved = (*statistics, None, out, None, *lengths)
        assert not library.call(
            "FlashAttentionScoreGrad", *own, None, own_bits, None, mask, *saved, *numbers, *gradients, torch.zeros(0)
        )
        return [out, *gradients]

    together = both(tensors, bits, TND, (ends, kv_ends), (ends[-1], heads, 8))
    alone, byte = [], 0
    for ((first, last), (start, end)), size in zip(spans, sizes):
        own = [x[None, a:b].contiguous() for x, (a, b) in
               zip(tensors, ((first, last), (start, end), (start, end), (first, last)))]  # fmt: skip
        own_bits = None if bits is None else bits[byte : byte + size // 8].contiguous()
        byte += size // 8
        alone.append([x[0] for x in both(own, own_bits, BSND, (None, None), (1, heads, last - first, 8))])
    return together, [torch.cat(parts) for parts in zip(*alone)]


@pytest.mark.parametrize("keep", [1.0, 0.8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_documents_have_the_bits_of_each_alone(library, dtype, keep):
    """The sparse modes and the dropout of one sequence are tested above."""
    together, alone = documents(library, dtype, [3, 40, 41, 200], [4, 48, 50, 230], keep)
    for found, expected in zip(together, alone):
        assert torch.equal(found, expected)


def test_a_document_without_tokens(library):
    together, alone = documents(library, torch.float32, [5, 5, 40], [5, 5, 45], 1.0)
    for found, expected in zip(together, alone):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_as_exact_as_pytorch(library, dtype):
    """The errors are at most three times those of PyTorch's attention in the same dtype."""
    case = Case(queries=320, keys=320, width=64, value_width=64, heads=2, mode=3, dtype=dtype)
    out, gradients, _, _ = run(library, case)
    expected, expected_gradients = exact(case)
    query, key, value, slope = inputs_of(case)
    tensors = [x.requires_grad_() for x in (query, key, value)]
    repeated = [x.repeat_interleave(case.heads // case.kv_heads, 1) for x in (key, value)]
    theirs = scaled_dot_product_attention(query, *repeated, is_causal=True, scale=case.scale)
    theirs.backward(slope)
    pairs = [(out, theirs.detach(), expected)]
    pairs += [(found, x.grad, wanted) for found, x, wanted in zip(gradients, tensors, expected_gradients)]
    for found, peer, wanted in pairs:
        assert error(found, laid(wanted, BSH)) < 3 * error(peer, wanted)


def test_large_scores_and_rows_that_see_nothing_stay_finite(library):
    case = Case(queries=40, keys=40, mode=3)
    query, key, value, slope = (laid(x, BSH) for x in inputs_of(case))
    query *= 300.0
    hidden = torch.ones(40, 40, dtype=torch.bool).triu(1)
    hidden[7] = True
    out, largest, total = torch.empty_like(query), torch.empty(1, 4, 40, 8), torch.empty(1, 4, 40, 8)
    numbers = (4, 1.0, case.scale, MANY, MANY, 0, BSH, 1)
    nones = (None, None, None)
    assert not library.call(
        "FlashAttentionScore", query, key, value, *nones, hidden, *nones, *numbers, largest, total, torch.zeros(1), out
    )
    assert out.isfinite().all() and not out[0, 7].any() and out[0, 8].any()
    assert largest[0, 0, 7, 0] == torch.finfo(torch.float32).min and total[0, 0, 7, 0] == 0
    gradients = [torch.empty_like(x) for x in (query, key, value)]
    saved = (largest, total, None, out, *nones)
    assert not library.call(
        "FlashAttentionScoreGrad",
        query,
        key,
        value,
        slope,
        *nones,
        hidden,
        *saved,
        *numbers,
        *gradients,
        torch.zeros(0),
    )
    assert all(x.isfinite().all() for x in gradients) and not gradients[0][0, 7].any()


BITS = """
import hashlib, sys
from test_flash_attention import CASES, run, replace, torch
from native_calls import OperatorLibrary
library, digest = OperatorLibrary(), hashlib.sha256()
for name in ("GQA", "MQA", "window in the mask"):
    for dtype in (torch.float32, torch.bfloat16):
        out, gradients, _, _ = run(library, replace(CASES[name], dtype=dtype))
        for tensor in (out, *gradients):
            digest.update(tensor.float().numpy().tobytes())
print(digest.hexdigest())
"""


def with_settings(command: list[str], **settings: str) -> subprocess.CompletedProcess:
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, os.path.dirname(here), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, **settings}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=600)


def test_the_number_of_threads_changes_no_bit(library):
    found = {with_settings(["-c", BITS], MINDCODER_THREADS=threads).stdout for threads in ("1", "2", "5")}
    assert len(found) == 1 and len(found.pop()) == 65


@pytest.mark.skipif("MINDCODER_PAIRS" in os.environ, reason="this is the test without the matrix unit")
@pytest.mark.parametrize("pairs", ["0", "1"])
def test_without_the_matrix_unit(library, pairs):
    """With AVX512-BF16 for bfloat16 and without, where the processor has it."""
    command = pytest_command(__file__, "result or pytorch or finite or alone")
    done = with_settings(command, MINDCODER_TILES="0", MINDCODER_PAIRS=pairs)
    assert done.returncode == 0, done.stdout


WIDE = {"key": torch.zeros(1, 64, 128), "value": torch.zeros(1, 64, 128)}
REFUSED = {
    "sparse_mode: found 5, expected 0 to 4": {"mode": 5},
    "attn_mask: found nothing, expected a mask for sparse_mode 3": {"mode": 3, "mask": None},
    r"attn_mask: found shape [64, 64], expected [2048, 2048] for sparse_mode 3": {"mode": 3},
    "attn_mask: found float32, expected bool or uint8": {"mask": torch.zeros(64, 64)},
    "attn_mask: found shape [63, 64], expected [S, T]": {"mask": torch.zeros(63, 64, dtype=torch.bool)},
    "head_num: found 0, expected at least 1": {"heads": 0},
    "query: found shape [1, 64, 128], expected a multiple of head_num 3": {"heads": 3},
    "scale_value: found 0.000000, expected a number above 0": {"scale": 0.0},
    "input_layout: found 5, expected 0 to 4": {"layout": 5},
    "query: found shape [1, 64, 128], expected 4 axes": {"layout": BNSD},
    "actual_seq_qlen: found nothing, expected the end of each sequence": {"layout": TND, "heads": 64, **WIDE},
    "drop_mask: found 8 bytes, expected at least 2048": {"drop": torch.zeros(8, dtype=torch.uint8)},
    "real_shift: found shape [2], expected nothing": {"shift": torch.zeros(2)},
    "key or value: found float16, expected float32": {"key": torch.zeros(1, 64, 64, dtype=torch.float16)},
    "key: found 3 heads, expected a divisor of 4": {"key": torch.zeros(1, 64, 96), "value": torch.zeros(1, 64, 96)},
    "value: found shape [1, 63, 64], expected that of key [1, 64, 64]": {"value": torch.zeros(1, 63, 64)},
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused_with_what_was_found_and_expected(library, message, capfd):
    given = {
        "query": torch.zeros(1, 64, 128),
        "key": torch.zeros(1, 64, 64),
        "value": torch.zeros(1, 64, 64),
        "mask": torch.zeros(64, 64, dtype=torch.bool),
        "shift": None,
        "drop": None,
        "heads": 4,
        "scale": 0.125,
        "layout": BSH,
        "mode": 0,
        **REFUSED[message],
    }
    numbers = (given["heads"], 1.0, given["scale"], MANY, MANY, 0, given["layout"], given["mode"])
    statistics = [torch.zeros(1, 4, 64, 8) for _ in range(2)]
    tensors = [given[name] for name in ("query", "key", "value", "shift", "drop")]
    status = library.call(
        "FlashAttentionScore", *tensors, None, given["mask"], None, None, None, *numbers, *statistics,
        torch.zeros(1), torch.zeros(1, 64, 128),
    )  # fmt: skip
    assert status == 1
    assert message in capfd.readouterr().err
