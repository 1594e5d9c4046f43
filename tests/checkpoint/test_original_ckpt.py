"""``.ckpt`` files of the original MindFormers scripts, as their converters and training wrote them, and ours back."""

from __future__ import annotations

import logging
import shutil

import mindspore as ms
import numpy as np
import pytest
import torch
from families import random_model
from safetensors.torch import load_file

from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.load import read_parameters
from mindcoder.checkpoint.mindspore_file import list_mindspore
from mindcoder.checkpoint.report import report
from mindcoder.checkpoint.weights import open_weights
from mindcoder.errors import UserError

# What research/wizardcoder/convert_reversed.py (mindspore-lab/mindformers, r1.1) looks for in a file: 16 names a layer
# and 5 more, no others, with these weights as [in, out].
LAYER_NAMES = [
    *("layernorm1.gamma", "layernorm1.beta", "layernorm2.gamma", "layernorm2.beta"),
    *(
        f"attention.{name}.{part}"
        for name in ("projection", "dense1", "dense2", "dense3")
        for part in ("weight", "bias")
    ),
    *(f"output.{name}.{part}" for name in ("mapping", "projection") for part in ("weight", "bias")),
]
OTHER_NAMES = {
    "backbone.layernorm.gamma": "transformer.ln_f.weight",
    "backbone.layernorm.beta": "transformer.ln_f.bias",
    "backbone.embedding.word_embedding.embedding_table": "transformer.wte.weight",
    "backbone.embedding.position_embedding.embedding_table": "transformer.wpe.weight",
    "head.head_weight": "lm_head.weight",
}
# What mindformers/models/llama/convert_weight.py replaces in Hugging Face's names, in its order.
LLAMA_REPLACEMENTS = (
    ("embed_tokens.weight", "tok_embeddings.embedding_weight"),
    (".self_attn.q_proj.", ".attention.wq."),
    (".self_attn.k_proj.", ".attention.wk."),
    (".self_attn.v_proj.", ".attention.wv."),
    (".self_attn.o_proj.", ".attention.wo."),
    (".mlp.gate_proj.", ".feed_forward.w1."),
    (".mlp.down_proj.", ".feed_forward.w2."),
    (".mlp.up_proj.", ".feed_forward.w3."),
    (".input_layernorm.", ".attention_norm."),
    (".post_attention_layernorm.", ".ffn_norm."),
    (".norm.", ".norm_out."),
)


@pytest.fixture(scope="module")
def originals(shared_data):
    return shared_data / "originals" / "ckpt"


def run(source, target, **options):
    return convert(ConvertRequest(str(source), target, show_progress=False, **options))


def equal(first, second):
    assert set(first) == set(second)
    for name in first:
        assert first[name].dtype == second[name].dtype and np.array_equal(first[name], second[name]), name


def values_of(path, config=None):
    return {name: plan.read() for name, plan in open_weights(path).parameters(config).items()}


def save(tensors, file):
    ms.save_checkpoint([{"name": name, "data": ms.Tensor(value)} for name, value in tensors.items()], str(file))


@pytest.mark.parametrize("name", ["wizardcoder_tiny_r1.1.0.ckpt", "wizardcoder_tiny_training.ckpt"])
def test_files_of_upstreams_converter_and_training_are_the_folder_they_come_from(name, originals, tmp_path, caplog):
    folder = originals / "huggingface"
    equal(values_of(originals / name), values_of(folder))
    equal(values_of(originals / name, open_weights(folder).config), values_of(folder))
    with caplog.at_level(logging.INFO):
        run(originals / name, tmp_path / "hf")
    theirs, ours = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "hf"))
    assert set(theirs) == set(ours) and all(torch.equal(theirs[key], ours[key]) for key in theirs)
    said = (
        "left out 104 optimizer moments, global_step, epoch_num, step_num, loss_scale, scale_sense, "
        "current_iterator_step, last_overflow_iterator_step"
    )
    assert (said in caplog.text) == ("training" in name)
    assert any(line.startswith("left out ") for line in report(open_weights(originals / name)).lines()) == (
        "training" in name
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_upstreams_convert_reversed_accepts_our_ckpt(dtype, originals, tmp_path):
    """Its own reading of names, number of layers and layout, done here step by step."""
    run(originals / "huggingface", tmp_path / "ours.ckpt", dtype=dtype)
    wanted = load_file(originals / "huggingface" / "model.safetensors")
    kind = getattr(torch, dtype)
    wanted = {name: tensor.to(kind) for name, tensor in wanted.items()}
    loaded = {
        name: torch.tensor(item.asnumpy().astype(np.float32) if dtype == "bfloat16" else item.asnumpy()).to(kind)
        for name, item in ms.load_checkpoint(str(tmp_path / "ours.ckpt")).items()
    }
    layers, rest = divmod(len(loaded) - len(OTHER_NAMES), len(LAYER_NAMES))
    assert (layers, rest) == (3, 0)
    blocks = {f"backbone.blocks.{layer}.{name}" for layer in range(layers) for name in LAYER_NAMES}
    assert set(loaded) == blocks | set(OTHER_NAMES)
    for name, theirs in OTHER_NAMES.items():
        assert torch.equal(loaded[name], wanted.get(theirs, wanted["transformer.wte.weight"]))
    for layer in range(layers):
        ours, theirs = f"backbone.blocks.{layer}", f"transformer.h.{layer}"
        for part in ("weight", "bias"):
            dense = torch.cat([loaded[f"{ours}.attention.dense{number}.{part}"] for number in (1, 2, 3)], 0)
            assert torch.equal(dense, wanted[f"{theirs}.attn.c_attn.{part}"])
        for name, other in (("attention.projection", "attn.c_proj"), ("output.mapping", "mlp.c_fc")):
            assert torch.equal(loaded[f"{ours}.{name}.weight"].t(), wanted[f"{theirs}.{other}.weight"])
        assert torch.equal(loaded[f"{ours}.output.projection.weight"].t(), wanted[f"{theirs}.mlp.c_proj.weight"])
        assert torch.equal(loaded[f"{ours}.layernorm2.beta"], wanted[f"{theirs}.ln_2.bias"])


def test_our_ckpt_has_the_bytes_of_upstreams(originals, tmp_path):
    run(originals / "huggingface", tmp_path / "ours.ckpt")
    ours, theirs = (
        {name: item.asnumpy() for name, item in ms.load_checkpoint(str(file)).items()}
        for file in (tmp_path / "ours.ckpt", originals / "wizardcoder_tiny_r1.1.0.ckpt")
    )
    equal(ours, theirs)


def test_a_head_that_is_not_the_token_table_is_refused(originals, tmp_path):
    loaded = ms.load_checkpoint(str(originals / "wizardcoder_tiny_r1.1.0.ckpt"))
    tensors = {name: item.asnumpy() for name, item in loaded.items()}
    tensors["head.head_weight"] = tensors["head.head_weight"] + 1
    save(tensors, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"a\.ckpt: head\.head_weight differs from backbone.*: the head is tied to it"):
        run(tmp_path / "a.ckpt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "prefixes", [("moment1.", "moment2."), ("exp_avg.", "exp_avg_sq."), ("moments.", "accu_grads.")]
)
def test_states_of_every_optimizer_are_left_out(prefixes, originals, tmp_path):
    loaded = ms.load_checkpoint(str(originals / "wizardcoder_tiny_r1.1.0.ckpt"))
    tensors = {name: item.asnumpy() for name, item in loaded.items()}
    extra = {f"{prefix}{name}": value for prefix in prefixes for name, value in tensors.items()}
    scalars = dict.fromkeys(("learning_rate", "beta1_power", "beta2_power", "weight_decay"), np.ones(1, np.float32))
    save({**extra, **tensors, **scalars}, tmp_path / "a.ckpt")
    weights = open_weights(tmp_path / "a.ckpt")
    equal(values_of(tmp_path / "a.ckpt"), values_of(originals / "huggingface"))
    assert weights.skipped_entries.endswith("learning_rate, beta1_power, beta2_power, weight_decay")
    unknown = {"backbone.blocks.0.attention.dense1.mindpet_delta_lora_a": np.ones((8, 48), np.float32)}
    save({**tensors, **unknown}, tmp_path / "b.ckpt")
    with pytest.raises(UserError, match="1 unexpected: backbone.blocks.0.attention.dense1.mindpet_delta_lora_a"):
        open_weights(tmp_path / "b.ckpt").parameters()


def test_the_original_tree_loads(originals, tmp_path):
    """``--load_checkpoint ./ckpt`` with ``rank_0/wizardcoder_15B.ckpt`` inside."""
    expected = values_of(originals / "huggingface")
    tree = tmp_path / "ckpt"
    for rank in range(2):
        (tree / f"rank_{rank}").mkdir(parents=True)
        shutil.copy(originals / "wizardcoder_tiny_r1.1.0.ckpt", tree / f"rank_{rank}" / "wizardcoder_15B.ckpt")
        equal(values_of(tree), expected)  # one rank, then two that are copies
    (tree / "rank_1" / "wizardcoder_15B.ckpt").unlink()
    config = open_weights(originals / "huggingface").config
    found = read_parameters(tree, config)
    assert all((found[name] == expected[name]).all() for name in expected)
    sliced = {name: item.asnumpy() for name, item in ms.load_checkpoint(str(next(tree.rglob("*.ckpt")))).items()}
    sliced = {name: value[:24] if name.endswith("dense1.weight") else value for name, value in sliced.items()}
    save(sliced, tree / "rank_1" / "wizardcoder_15B.ckpt")
    with pytest.raises(UserError, match="the ranks hold slices or stages; merge them first"):
        open_weights(tree)


def test_the_newest_of_a_runs_files_is_taken_and_strangers_are_asked_about(originals, tmp_path, caplog):
    source = originals / "wizardcoder_tiny_training.ckpt"
    for name in ("mindformers_rank_0-1_20.ckpt", "mindformers_rank_0-2_5.ckpt", "mindformers_rank_0-1_4.ckpt"):
        shutil.copy(source, tmp_path / name)
    with caplog.at_level(logging.INFO):
        assert next(iter(open_weights(tmp_path).tensors.values())).file.name == "mindformers_rank_0-2_5.ckpt"
    assert "using the latest of 3 files, mindformers_rank_0-2_5.ckpt" in caplog.text
    shutil.copy(source, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="holds 4 .ckpt files: give one of mindformers_rank_0-1_20.ckpt"):
        open_weights(tmp_path)


def llama_file(model, file, extra=()):
    """The file of upstream's Llama converter."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        for old, new in LLAMA_REPLACEMENTS:
            name = name.replace(old, new)
        tensors[name] = tensor.detach().numpy()
    for prefix in extra:
        tensors |= {f"{prefix}{name}": value for name, value in tensors.items() if name.startswith("model.layers.0")}
    save({**tensors, "scale_sense": np.ones(1, np.float32)} if extra else tensors, file)
    return tensors


@pytest.mark.parametrize("overrides", [{}, {"tie_word_embeddings": True}, {"attention_bias": True, "head_dim": 16}])
def test_llama_files_of_upstream(overrides, tmp_path):
    model = random_model("llama", rope_theta=50000.0, **overrides)
    model.save_pretrained(tmp_path / "hf")
    config = open_weights(tmp_path / "hf").config
    expected = values_of(tmp_path / "hf")
    (tmp_path / "ms").mkdir()
    file = tmp_path / "ms" / "llama.ckpt"
    written = llama_file(model, file, extra=("adam_m.", "adam_v."))
    weights = open_weights(file)
    moments = 2 * sum("layers.0." in name for name in written) // 3
    assert weights.skipped_entries.startswith(f"{moments} optimizer moments")
    equal(values_of(file, config), expected)
    with pytest.raises(UserError, match="does not tell head_dim, .*rope_theta: put the model's config.json beside it"):
        run(file, tmp_path / "out")
    shutil.copy(tmp_path / "hf" / "config.json", tmp_path / "ms" / "config.json")
    run(tmp_path / "ms", tmp_path / "out")
    theirs, ours = (load_file(tmp_path / name / "model.safetensors") for name in ("hf", "out"))
    assert set(theirs) == set(ours) and all(torch.equal(theirs[key], ours[key]) for key in theirs)
    run(tmp_path / "hf", tmp_path / "again.ckpt")
    assert {name: tensor.shape for name, tensor in list_mindspore(tmp_path / "again.ckpt").items()} == {
        name: value.shape
        for name, value in written.items()
        if "adam" not in name and not (config.tied_head and name == "lm_head.weight")
    }


def test_llama_files_of_another_kind_are_refused_by_name(tmp_path):
    model = random_model("llama")
    tensors = llama_file(model, tmp_path / "a.ckpt")
    block = "model.layers.0.attention"
    fused = np.concatenate([tensors.pop(f"{block}.{name}.weight") for name in ("wq", "wk", "wv")])
    save({**tensors, f"{block}.w_qkv.weight": fused}, tmp_path / "b.ckpt")
    with pytest.raises(UserError, match="w_qkv.weight: files of convert_weight.py --qkv_concat=True are not read"):
        open_weights(tmp_path / "b.ckpt")
    random_model("gpt_bigcode").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="config.json: describes gpt_bigcode, a.ckpt beside it is llama"):
        open_weights(tmp_path / "a.ckpt")


def test_a_checksum_behind_the_entries_is_no_entry(tmp_path):
    ms.save_checkpoint([{"name": "w", "data": ms.Tensor(np.ones(3, np.float32))}], str(tmp_path / "a"), crc_check=True)
    assert list(list_mindspore(tmp_path / "a.ckpt")) == ["w"]
