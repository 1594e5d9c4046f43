"""Buckets of batches and lengths: the files, what reads them back, and steps that are padded to them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from command import mindcoder as verb
from families import random_model

import mindcoder
from mindcoder.errors import UserError
from mindcoder.generate.exported_decoder import GraphSteps
from mindcoder.generate.exported_manifest import read_exported_manifest
from mindcoder.generate.shape_buckets import (
    DECODE,
    PREFILL,
    ShapeBuckets,
    check_buckets,
    doubling,
    fitting,
    read_buckets,
    write_buckets,
)

IDS = 701  # of the tokenizer
INPUTS = {
    "input_ids": {"dtype": "int32", "shape": [None]},
    "block_tables": {"dtype": "int32", "shape": [None, 8]},
    "logits_indices": {"dtype": "int32", "shape": [None]},
    "cos_sin": {"dtype": "float32", "shape": [None, 16]},
}


def test_sizes():
    assert doubling(1, 6) == (1, 2, 4, 6) and doubling(32, 20) == (20,) and doubling(32, 256) == (32, 64, 128, 256)
    assert [fitting((2, 4), size) for size in (1, 2, 3, 5)] == [2, 2, 4, None]
    assert check_buckets("x", [4, 1]) == (1, 4)


@pytest.mark.parametrize("found", [[], [0], [1, 1], ["2"], [200]])
def test_no_sizes(found):
    with pytest.raises(UserError, match="--batch_buckets: expected"):
        check_buckets("--batch_buckets", found, 100)


def test_the_files_are_ges(tmp_path):
    """One number for every -1, in the order of the inputs, which is that of their names."""
    buckets = ShapeBuckets((1, 4), (32, 256))
    write_buckets(tmp_path, buckets, INPUTS)
    text = (tmp_path / PREFILL).read_text()
    assert text.splitlines() == [
        "[ascend_context]", "plugin_custom_ops=All", "provider=ge",
        "[ge_session_options]", "ge.exec.formatMode=1", "ge.exec.precision_mode=must_keep_origin_dtype",
        "ge.externalWeight=1", "ge.exec.atomicCleanPolicy=1",
        "[ge_graph_options]",
        "ge.inputShape=block_tables:-1,8;cos_sin:-1,16;input_ids:-1;logits_indices:-1",
        "ge.dynamicDims=1,32,32,1;1,256,256,1", "ge.dynamicNodeType=1",
    ]  # fmt: skip
    assert "ge.dynamicDims=1,1,1,1;4,4,4,4\n" in (tmp_path / DECODE).read_text()
    assert read_buckets(tmp_path, INPUTS) == buckets


def test_no_files_are_no_buckets(tmp_path):
    assert read_buckets(tmp_path, INPUTS) is None


DAMAGED = [
    ("ge.dynamicDims=1,32,32,1;1,256,256,1", "ge.dynamicDims=1,32,32", "ge.dynamicDims: '1,32,32' is not a shape of"),
    ("1,256,256,1", "1,256,255,1", "ge.dynamicDims: '1,256,255,1' is not a shape of ge.inputShape"),
    ("1,256,256,1", "1,a,b,1", "ge.dynamicDims: '1,a,b,1' is not a shape of ge.inputShape"),
    ("1,256,256,1", "1,32,32,1", "ge.dynamicDims: expected different numbers, found 32, 32"),
    ("cos_sin:-1,16", "cos_sin:-1,8", "ge.inputShape: 'cos_sin:-1,8' is not what the graph takes"),
    ("cos_sin:-1,16", "tokens:-1", "ge.inputShape: 'tokens:-1' is not what the graph takes"),
    ("ge.dynamicDims", "ge.dynamicDim", "has no ge.dynamicDims: expected ge.inputShape and ge.dynamicDims in"),
    ("[ge_graph_options]", "[other]", "has no ge_graph_options: expected"),
    ("[ascend_context]\n", "", "is not a configuration file"),
    ("ge.inputShape=block_tables:-1,8;", "ge.inputShape=", "ge.inputShape: has 3 of the graph's 4 inputs"),
    (";cos_sin:-1,16;input_ids:-1;logits_indices:-1", "", "ge.inputShape: has 1 of the graph's 4 inputs"),
    ("ge.externalWeight=1", "ge.externalWeight=0", "[ge_session_options] ge.externalWeight: found '0', expected 1"),
    ("ge.externalWeight", "ge.deviceId", "[ge_session_options] ge.deviceId: unknown key; expected ge.exec.formatMode"),
    ("[ascend_context]", "[cpu_context]", "unknown section [cpu_context]; expected [ascend_context], [ge_session"),
]


@pytest.mark.parametrize("old, new, message", DAMAGED, ids=[message[:40] for *_, message in DAMAGED])
def test_damaged_files_are_refused_by_name(old, new, message, tmp_path):
    write_buckets(tmp_path, ShapeBuckets((1, 4), (32, 256)), INPUTS)
    text = (tmp_path / PREFILL).read_text()
    assert old in text
    (tmp_path / PREFILL).write_text(text.replace(old, new))
    with pytest.raises(UserError) as error:
        read_buckets(tmp_path, INPUTS)
    assert message in str(error.value) and PREFILL in str(error.value), str(error.value)


def test_one_file_alone_is_refused(tmp_path):
    write_buckets(tmp_path, ShapeBuckets((1,), (32,)), INPUTS)
    (tmp_path / DECODE).unlink()
    with pytest.raises(UserError, match=r"inc_dyn.cfg: is missing; prefill_dyn.cfg and inc_dyn.cfg belong together"):
        read_buckets(tmp_path, INPUTS)


@pytest.fixture(scope="module")
def source(tokenizer_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "model"
    random_model("llama", layers=1, vocab_size=IDS).save_pretrained(folder)
    for file in tokenizer_folder.iterdir():
        shutil.copy(file, folder)
    return folder


def test_steps_are_padded_to_the_next_bucket_and_answer_alike(source, tmp_path, rng, monkeypatch):
    """Steps beyond the largest bucket are not padded; buckets edited in the file are used."""
    words = ("--dynamic", "--batch", 3, "--max_length", 200, "--batch_buckets", "1,3", "--length_buckets", "16,64")
    done = verb("export", source, tmp_path / "out", *words)
    assert done.returncode == 0, done.stderr
    assert read_buckets(tmp_path / "out", inputs_of(tmp_path / "out")) == ShapeBuckets((1, 3), (16, 64))
    shapes, run = set(), GraphSteps._graph

    def graph(self, shape):
        found = run(self, shape)

        def call(*taken):
            shapes.add((taken[0].shape[0], taken[3].shape[0], taken[4].shape[0]))
            return found(*taken)

        return call

    monkeypatch.setattr(GraphSteps, "_graph", graph)
    prompts = [rng.integers(1, IDS - 1, length).tolist() for length in (5, 40, 150)]
    engine, model = (mindcoder.load(where, max_length=200, batch=3) for where in (source, tmp_path / "out"))
    shapes.clear()
    answers = [[item.tokens for item in own.generate(prompts, max_new_tokens=6)] for own in (model, engine)]
    assert answers[0] == answers[1]
    assert shapes <= {(16, 1, 1), (64, 1, 1), (200, 1, 3), (224, 1, 3), (1, 1, 1), (3, 3, 3)} and len(shapes) >= 4
    np.testing.assert_allclose(model.logits(prompts[1]), engine.logits(prompts[1]), atol=2e-4)
    for name in (PREFILL, DECODE):
        (tmp_path / "out" / name).unlink()
    model, _ = mindcoder.load(tmp_path / "out", max_length=200, batch=3), shapes.clear()
    assert [item.tokens for item in model.generate(prompts, max_new_tokens=6)] == answers[1]
    assert all(shape[2] == 3 for shape in shapes)


def inputs_of(folder) -> dict:
    manifest = read_exported_manifest(folder)
    return manifest.inputs(manifest.graphs["dynamic"])


def test_graphs_of_fixed_shapes_have_none(source, tmp_path):
    done = verb("export", source, tmp_path / "out", "--batch_buckets", "1,2")
    assert done.returncode == 2
    assert "--batch_buckets: graphs of fixed shapes have none; expected --dynamic" in done.stderr
    done = verb("export", source, tmp_path / "out", "--dynamic", "--max_length", 64, "--length_buckets", "32,128")
    assert done.returncode == 2 and "--length_buckets: expected whole numbers from 1 to 64, found 128" in done.stderr
    assert not (tmp_path / "out").exists()
    mindcoder.export(source, tmp_path / "out", max_length=32, progress=False)
    assert "ge.externalWeight=1" in (tmp_path / "out" / "context.cfg").read_text()
    assert not (tmp_path / "out" / PREFILL).exists()
