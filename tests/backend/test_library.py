"""One table of arguments for C++ and Python: who differs from it is refused, and who moves one moves it for both."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

import mindcoder
from mindcoder.backend import native, native_operator
from mindcoder.backend.library import LIBRARY, ArgumentTable, argument_table
from mindcoder.backend.native_operator import Output, like
from mindcoder.doctor.host import Host
from mindcoder.doctor.native import library_row
from mindcoder.errors import UserError

NORM = "RmsNorm: INPUTS(x, weight, eps), OUTPUTS(y, rstd)\n"
STEP = """StepInputs: inputs, factors
StepWeights: shares, head
LayerInputs: query, up
AdapterWeights: query_a, query_b
QuantizedWeights: query_scale, up_scale
CacheScales: keys, values
StepFactors: norm_epsilon, query_scale
"""
RSTD = Output(lambda shapes: [shapes["x"][0], 1], ms.float32)
OUTPUTS = {"y": like("x"), "rstd": RSTD}


@pytest.fixture
def table_of(monkeypatch):
    """Puts a table in the place of the library's; gives (inputs, outputs, shapes, dtypes) of each operator made."""

    def use(text: str) -> list:
        table, calls = ArgumentTable(text, Path("operators.so")), []

        def custom(function, registered, inputs, outputs, shapes, dtypes):
            calls.append((inputs, outputs, shapes, dtypes))
            return lambda *values: tuple((name, values) for name in outputs)

        for module in (native, native_operator):
            monkeypatch.setattr(module, "argument_table", lambda: table)
            monkeypatch.setattr(module, "custom", custom)
        return calls

    return use


def test_the_library_has_every_operator_of_its_table():
    sources = (Path(mindcoder.__file__).parent / "native" / "operators.def").read_text()
    names = re.findall(r"^OPERATOR\((\w+)", sources, re.MULTILINE)
    library, table = ctypes.CDLL(str(LIBRARY)), argument_table()
    assert len(names) > 20 and all(hasattr(library, name) for name in names)
    for name in names:
        signature = table.signature(name)
        assert signature.inputs and signature.outputs
        assert all(re.fullmatch(r"\w+", item) for item in signature.inputs + signature.outputs)
    assert table.signature("RmsNorm").inputs == ("x", "weight", "eps")
    factors = ("norm_epsilon", "norm_offset", "query_scale", "embedding", "residual", "logits")
    assert table.names("StepFactors") == factors


def test_arguments_follow_the_table(table_of):
    """The same Python calls two libraries that differ in the order of an operator's inputs and outputs."""
    for text in (NORM, "RmsNorm: INPUTS(eps, x, weight), OUTPUTS(rstd, y)\n"):
        calls = table_of(text)
        norm = native_operator.native_operator("RmsNorm", "x, weight, eps", OUTPUTS)
        (inputs, outputs, shapes, dtypes), given = calls[0], {"x": [4, 8], "weight": [8], "eps": []}
        found = dict(zip(outputs, shapes(*(given[name] for name in inputs))))
        assert found == {"y": [4, 8], "rstd": [4, 1]}
        found = dict(zip(outputs, dtypes(*({"x": ms.float16}.get(name, ms.int64) for name in inputs))))
        assert found == {"y": ms.float16, "rstd": ms.float32}
        assert norm("x", "weight", "eps") == (("y", inputs), ("rstd", inputs))


def test_a_graph_in_another_order_gives_the_same():
    ours = native_operator.native_operator("RmsNorm", "eps, weight, x", {"rstd": RSTD, "y": like("x")})
    plain = native_operator.native_operator("RmsNorm", "x, weight, eps", OUTPUTS)
    assert isinstance(ours, native_operator.Reordered) and isinstance(plain, ops.Custom)

    @ms.jit
    def both(x, weight, epsilon):
        return ours(epsilon, weight, x), plain(x, weight, epsilon)

    x = np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32)
    given = Tensor(x), Tensor(x[0]), Tensor(1e-6, ms.float32)
    (rstd, y), (other_y, other_rstd) = both(*given)
    assert (y.asnumpy() == other_y.asnumpy()).all() and (rstd.asnumpy() == other_rstd.asnumpy()).all()


@pytest.mark.parametrize(
    "takes, outputs, message",
    [
        ("x, weight, eps", {"y": like("x")}, "expects rstd too"),
        ("x, weight, eps", {"y": like("x"), "rms": RSTD}, "does not know rms, expects rstd too"),
        ("x, weight, epsilon", OUTPUTS, "does not know epsilon, expects eps too"),
        ("x, weight, bias, eps", OUTPUTS, "does not know bias"),
        ("x, weight", OUTPUTS, "expects eps too"),
    ],
)
def test_other_names_are_refused(table_of, takes, outputs, message):
    table_of(NORM)
    with pytest.raises(
        UserError, match=f"operators.so was built from another version of MindCoder: its RmsNorm {message}; pip install"
    ):
        native_operator.native_operator("RmsNorm", takes, outputs)


def test_an_operator_that_the_library_lacks(table_of):
    table_of(STEP)
    with pytest.raises(
        UserError, match="operators.so was built from another version of MindCoder: it has no RmsNorm; pip"
    ):
        native_operator.native_operator("RmsNorm", "weight, x", OUTPUTS)


def test_weights_of_a_step_follow_the_table(table_of):
    table_of(STEP)
    step, layer = {"head": "h", "shares": "s"}, {"up": 1, "query": 2}
    assert native.step_weights(step, [layer, layer]) == ["s", "h", 2, 1, 2, 1]
    adapted = {"query_b": 3, "query_a": 4, **layer}
    assert native.step_weights(step, [adapted]) == ["s", "h", 2, 1, 4, 3]
    quantized = {"up_scale": 6, "query_scale": 5}
    assert native.step_weights(step, [quantized | layer]) == ["s", "h", 2, 1, 5, 6]
    assert native.step_weights(step, [quantized | adapted]) == ["s", "h", 2, 1, 4, 3, 5, 6]
    assert native.step_weights(step, [{"values": 8, "keys": 7} | layer]) == ["s", "h", 2, 1, 7, 8]
    assert native.step_numbers("StepFactors", {"query_scale": 0.5, "norm_epsilon": 0.1}) == [0.1, 0.5]
    for wrong in ({"up": 1}, {"gate": 1, **layer}, {"query_a": 1, **layer}, {"up_scale": 1, **layer}):
        with pytest.raises(UserError, match="its LayerInputs "):
            native.step_weights(step, [wrong])


def test_arguments_of_a_step_follow_the_table(table_of):
    calls = table_of(STEP)
    step = native.step_operator(("factors", "inputs"), 2, lambda shapes: [shapes["inputs"][0], 9], adapted=True)
    inputs, outputs, shapes, dtypes = calls[0]
    assert inputs[:6] == ("inputs", "factors", "shares", "head", "query_0", "up_0") and len(inputs) == 12
    assert shapes(*([index] for index in range(12))) == [0, 9] and dtypes(*range(12)) == 1 and len(outputs) == 1
    weights = tuple("abcdefghij")
    assert step("f", "i", *weights) == (("result", ("i", "f", *weights)),)
    native.step_operator(("inputs", "factors"), 1, lambda shapes: [1], adapted=True, quantized=True)
    assert calls[1][0][4:] == ("query_0", "up_0", "query_a_0", "query_b_0", "query_scale_0", "up_scale_0")
    with pytest.raises(UserError, match="its StepInputs expects factors too"):
        native.step_operator(("inputs",), 2, lambda shapes: [1])


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
def test_a_library_that_tells_no_table(tmp_path):
    old = tmp_path / "old.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-o", str(old), "-"], input="int x;", text=True, check=True)
    with pytest.raises(
        UserError, match=r"old.so was built from another version of MindCoder: it does not tell the order"
    ):
        argument_table(old)


def damaged(tmp_path: Path) -> dict[str, Path]:
    """Files in the library's place, by what is said of them."""
    whole = LIBRARY.read_bytes()
    contents = {
        "is empty": b"",
        "is not a shared library": b"a note",
        "is truncated (40 bytes)": whole[:40],
        "is truncated (20000 bytes)": whole[:20000],
        f"is truncated ({len(whole) - 1} bytes)": whole[:-1],
    }
    files = {said: tmp_path / f"{number}.so" for number, said in enumerate(contents)}
    for said, file in files.items():
        file.write_bytes(contents[said])
    return files


def test_a_damaged_library_is_refused_before_it_is_loaded(tmp_path):
    """The loader ends in a bus error."""
    for said, file in damaged(tmp_path).items():
        with pytest.raises(UserError) as error:
            argument_table(file)
        assert said in str(error.value) and "pip install -e . builds it" in str(error.value)
        row = library_row(Host(), file)
        assert row.status == "problem" and said in row.found


def test_a_library_that_needs_another_is_refused_with_the_loaders_reason(tmp_path):
    (tmp_path / "a.cpp").write_text("void missing(); void *here = (void *)missing;")
    file = tmp_path / "a.so"
    subprocess.run(["g++", "-shared", "-fPIC", "-Wl,-z,now", tmp_path / "a.cpp", "-o", file], check=True)
    with pytest.raises(UserError, match="cannot be loaded: undefined symbol.*pip install"):
        argument_table(file)
