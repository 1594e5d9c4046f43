"""Every dtype of an operator's row, contiguous and strided, against PyTorch; the cases: ``every_dtype.py``.

Each function is called with every dtype of its operands, and with every dtype of its output that PyTorch's rules of
conversion allow for some result (``torch.can_cast``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from every_dtype import CASES, DTYPE, ELSEWHERE, EMPTY, NUMBERS_OF_BOOLS, OUT, OUT2, Case, Place, X, Y, Z

from softcann.operator_table import Row, defined, rows
from softcann.testing import Refused, run

pytestmark = pytest.mark.long

ROWS = {row.function: row for row in rows()}
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float64: 1e-12}
UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)


def tensors_of(arguments: tuple) -> list:
    """The arguments that are tensors or lists of them, in order."""
    firsts = [item[0] if isinstance(item, list) else item for item in arguments]
    is_tensor = [isinstance(one, torch.Tensor) or (isinstance(one, Place) and one != DTYPE) for one in firsts]
    return [item for item, wanted in zip(arguments, is_tensor) if wanted]


def rule_of(row: Row, case: Case, place: Place) -> tuple[list[torch.dtype], bool]:
    """Dtypes that the row allows where ``place`` stands, and whether they must be contiguous."""
    written = dict(row.tensors)
    (name,) = (name for (name, _), item in zip(row.tensors, tensors_of(case.arguments)) if item_has(item, place))
    rule = written[name]
    names = written[rule.split()[0][1:]] if rule.startswith("=") else rule
    return [getattr(torch, word) for word in names.split()[0].split(",")], "contiguous" in rule


def operand(case: Case, place: Place, dtype: torch.dtype, strided: bool) -> torch.Tensor:
    """Small numbers from a seed; ``strided`` is a transposed part of a larger tensor."""
    shape, seed = case.shapes.get(place, (3, 4)), [X, Y, Z].index(place)
    generator = torch.Generator().manual_seed(seed)
    positive = case.values == "positive" or (case.values == "divisor" and place != X)
    if case.values == "distinct":
        base = torch.randperm(12, generator=generator).reshape(shape) - (0 if dtype in UNSIGNED else 4)
    elif dtype == torch.bool:
        base = torch.rand(shape, generator=generator) > (0.5 if not positive else -1)
    elif dtype.is_floating_point:
        base = torch.randn(shape, generator=generator, dtype=torch.float64)
        base = base.abs() + 0.5 if positive else base.tanh() if case.values == "unit" else base
    else:
        low = 1 if positive else 0 if dtype in UNSIGNED or case.values == "unit" else -4
        base = torch.randint(low, 1 if case.values == "unit" else 5, shape, generator=generator)
    return placed(base.to(dtype), strided)


def placed(values: torch.Tensor, strided: bool) -> torch.Tensor:
    """The same numbers, contiguous or in the middle of a larger, transposed tensor."""
    if not strided or values.dim() == 0:
        return values.contiguous()
    room = torch.zeros([size + 2 for size in reversed(values.shape)], dtype=values.dtype)
    view = room.permute(*reversed(range(values.dim())))[tuple(slice(1, -1) for _ in values.shape)]
    view.copy_(values)
    return view


def wide(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.float64 if values.dtype.is_floating_point else torch.int64)


def check(name: str, dtype: torch.dtype, out_dtype: torch.dtype, strided: bool) -> None:
    """Call ``name`` once and compare what it writes."""
    case, row = CASES[name], ROWS[name]
    held: dict[Place, torch.Tensor] = {EMPTY: torch.empty(0, dtype=dtype)}
    used = [place for place in (X, Y, Z) if any(item_has(item, place) for item in case.arguments)]
    for place in used:
        held[place] = operand(case, place, dtype, strided and not rule_of(row, case, place)[1])
    inputs = [wide(held[place]) for place in used]
    if case.out == "float":
        inputs = [value.double() for value in inputs]
    reference = case.of_bools if dtype == torch.bool and case.of_bools else case.reference
    expected = reference(*inputs)
    results = list(expected) if isinstance(expected, tuple) else [expected]
    places = [place for place in (OUT, OUT2) if any(item_has(item, place) for item in case.arguments)] or [X]
    assert len(places) == len(results)
    for place, result in zip(places, results):
        kind = out_dtype if place != OUT2 or case.out2 is None else case.out2
        if place in (OUT, OUT2):
            fixed = place == OUT and rule_of(row, case, OUT)[1]
            held[place] = placed(torch.zeros(result.shape, dtype=kind), strided and not fixed)

    def actual(item: object) -> object:
        if isinstance(item, list):
            return [actual(one) for one in item]
        return out_dtype if item == DTYPE else held[item] if isinstance(item, Place) else item

    where = f"{name}, {dtype} to {out_dtype}, {'strided' if strided else 'contiguous'}"
    if out_dtype == torch.bool and name in NUMBERS_OF_BOOLS:
        with pytest.raises(Refused, match="found bool, documented is a dtype that"):
            run(name, *(actual(item) for item in case.arguments))
        return
    try:
        run(name, *(actual(item) for item in case.arguments))
    except Refused as error:
        raise AssertionError(f"{where}: {error}") from error
    for place, result in zip(places, results):
        found = held[place]
        compare(found, result.to(found.dtype), dtype if case.out == "same" else natural(case, dtype), case, where)


def item_has(item: object, place: Place) -> bool:
    """Whether an argument is ``place`` or a list with it; by identity, for tensors compare element by element."""
    return item is place if not isinstance(item, list) else any(one is place for one in item)


def compare(found: torch.Tensor, expected: torch.Tensor, computed: torch.dtype, case: Case, where: str) -> None:
    if not found.dtype.is_floating_point:
        assert found.to(torch.int64).tolist() == expected.to(torch.int64).tolist(), where
        return
    within = case.loose * max(TOLERANCE[found.dtype], TOLERANCE.get(computed, 0.0))
    torch.testing.assert_close(
        found.double(), expected.double(), rtol=within, atol=within, equal_nan=True, msg=lambda text: f"{where}: {text}"
    )


def natural(case: Case, dtype: torch.dtype) -> torch.dtype:
    """The result's dtype before it is written as the output's."""
    if isinstance(case.out, torch.dtype):
        return case.out
    return torch.float32 if case.out == "float" and not dtype.is_floating_point else dtype


def pairs(name: str) -> Iterator[tuple[torch.dtype, torch.dtype]]:
    """Dtypes of operands and output: each of the operands', then what is left of the output's."""
    case, row = CASES[name], ROWS[name]
    places = {place for place in Place if any(item_has(item, place) for item in case.arguments)}
    outs = rule_of(row, case, OUT if OUT in places else X)[0]
    if X not in places:
        yield from ((dtype, dtype) for dtype in outs)
        return
    firsts = [dtype for dtype in rule_of(row, case, X)[0] if Y not in places or dtype in rule_of(row, case, Y)[0]]
    if OUT not in places or row_follows(row, case):
        yield from ((dtype, dtype) for dtype in firsts)
        return
    left = set(outs)
    for dtype in firsts:
        allowed = [
            out for out in [natural(case, dtype), *outs] if out in outs and torch.can_cast(natural(case, dtype), out)
        ]
        assert allowed, f"{name}: no output for {dtype}"
        yield dtype, allowed[0]
        left.discard(allowed[0])
    for out in [out for out in outs if out in left]:
        found = [dtype for dtype in firsts if torch.can_cast(natural(case, dtype), out)]
        if found:
            yield found[0], out


def row_follows(row: Row, case: Case) -> bool:
    """Whether the output's dtype is that of an operand."""
    (rule,) = (rule for (_, rule), item in zip(row.tensors, tensors_of(case.arguments)) if item_has(item, OUT))
    return rule.startswith("=")


def test_each_function_of_the_table_is_here_or_has_a_test_that_calls_it() -> None:
    """A new operator is added to ``every_dtype.py``, or to its list of those with tests of their own."""
    assert set(CASES) | set(ELSEWHERE) == defined() and not set(CASES) & set(ELSEWHERE)
    files = [path for path in Path(__file__).parent.glob("test_operators_*.py") if path != Path(__file__)]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert [name for name in ELSEWHERE if f'"{name}"' not in text] == []


@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
@pytest.mark.parametrize("name", CASES)
def test_every_dtype_of_the_row(name: str, strided: bool) -> None:
    calls = list(pairs(name))
    assert calls
    for dtype, out_dtype in calls:
        check(name, dtype, out_dtype, strided)
