"""Weights split over ranks and merged again."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.load import read_parameters
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError
from mindcoder.parallel_layout import ParallelLayout


def run(source, target, **options):
    return convert(ConvertRequest(str(source), target, show_progress=False, **options))


@pytest.mark.parametrize(
    "to, family, sizes",
    [
        ("mindcoder", "gpt_bigcode", {}),
        ("mindcoder", "llama", {"tie_word_embeddings": False}),
        ("ckpt", "gpt_bigcode", {}),
    ],
)
def test_what_is_split_over_six_ranks_merges_bitwise(to, family, sizes, hf_folder, tmp_path):
    _, decoder, folder = hf_folder(family, **sizes)
    done = run(folder, tmp_path / "split", to=to, layout=ParallelLayout(tensor=2, pipeline=3))
    assert done.files == 6
    found, expected = (read_parameters(path, decoder.config) for path in (tmp_path / "split", folder))
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    run(tmp_path / "split", tmp_path / "merged", to="huggingface")
    again = read_parameters(tmp_path / "merged", decoder.config)
    assert all((again[name] == values).all() for name, values in expected.items())


def test_the_seeds_tree_holds_what_each_rank_needs(hf_folder, tmp_path):
    _, decoder, folder = hf_folder("gpt_bigcode")
    run(folder, tmp_path / "tree", to="ckpt", layout=ParallelLayout(tensor=2, pipeline=3))
    files = sorted(str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*.ckpt"))
    assert files == [f"rank_{rank}/checkpoint_{rank}.ckpt" for rank in range(6)]
    first, last = (ms.load_checkpoint(str(tmp_path / "tree" / files[rank])) for rank in (0, 5))
    table = "backbone.embedding.word_embedding.embedding_table"
    np.testing.assert_array_equal(first[table].asnumpy(), last[table].asnumpy())  # the tied head's copy
    whole = read_parameters(folder, decoder.config)
    hidden, inner = decoder.config.hidden_size, decoder.config.intermediate_size
    up = last["backbone.blocks.2.output.mapping.weight"].asnumpy()
    assert up.shape == (hidden, inner // 2)
    np.testing.assert_array_equal(up, whole["layers.2.mlp.up.weight"].T[:, inner // 2 :])
    assert "backbone.blocks.0.output.mapping.weight" in first
    assert "backbone.blocks.2.output.mapping.weight" not in first
    assert "backbone.layernorm.gamma" in last and "backbone.layernorm.gamma" not in first


def test_missing_ranks_and_layouts_that_do_not_divide_are_named(hf_folder, tmp_path):
    _, _, folder = hf_folder("gpt_bigcode")
    with pytest.raises(UserError, match="num_heads 4 is not divisible by 3"):
        run(folder, tmp_path / "three", layout=ParallelLayout(tensor=3, pipeline=1))
    with pytest.raises(UserError, match="leave one of 4 pipeline stages empty"):
        run(folder, tmp_path / "four", layout=ParallelLayout(tensor=1, pipeline=4))
    with pytest.raises(UserError, match="only --to mindcoder and --to ckpt can be split"):
        run(folder, tmp_path / "hf", to="huggingface", layout=ParallelLayout(tensor=2, pipeline=1))
    assert not any((tmp_path / name).exists() for name in ("three", "four", "hf"))
    run(folder, tmp_path / "tree", to="ckpt", layout=ParallelLayout(tensor=2, pipeline=1))
    (tmp_path / "tree" / "rank_1" / "checkpoint_1.ckpt").unlink()
    with pytest.raises(UserError, match="rank 1 of 2 is missing"):
        open_weights(tmp_path / "tree")
    run(folder, tmp_path / "parts", to="mindcoder", layout=ParallelLayout(tensor=2, pipeline=1))
    (tmp_path / "parts" / "model-rank_0001.safetensors").unlink()
    with pytest.raises(UserError, match="parts of .* end at"):
        open_weights(tmp_path / "parts")
