"""One model in every format: whichever reader takes it finds the same parameters and says what it is."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from families import random_model

from mindcoder.checkpoint.adapter import Prefix
from mindcoder.checkpoint.convert import ConvertRequest, convert
from mindcoder.checkpoint.peft_prefix import write_peft_prefix
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.store import save_checkpoint
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.checkpoint.weights import open_adapted, open_weights
from mindcoder.errors import UserError
from mindcoder.parallel_layout import ParallelLayout
from mindcoder.peft.options import LoraOptions, PrefixOptions, adapter_shapes, prefix_shapes

# Name in the fixture's folder -> kind, what the log says before the path, name of the model. "lora" and "prefix" are
# on the Hugging Face folder, the others on the adapter or the .ckpt that their names say.
FORMATS = {
    "hf": ("huggingface", "Hugging Face folder", "hf"),
    "hf/model.safetensors": ("huggingface", "Hugging Face folder", "model.safetensors"),
    "own": ("mindcoder", "MindCoder folder", "own"),
    "split": ("mindcoder", "MindCoder folder", "split"),
    "tree": ("ckpt tree", "MindSpore checkpoints of several ranks", "tree"),
    "ckpt/a.ckpt": ("ckpt", "MindSpore checkpoint", "a.ckpt"),
    "ckpt": ("ckpt", "MindSpore checkpoint", "ckpt"),
    "run": ("training checkpoint", "checkpoint", "run"),
    "lora": ("adapter", "adapter merged into its base model", "lora"),
    "lora_on_lora": ("adapter", "adapter merged into its base model", "lora_on_lora"),
    "prefix": ("prefix", "base model with the prefix", "prefix"),
    "prefix_on_ckpt": ("prefix", "base model with the prefix", "prefix_on_ckpt"),
    "prefix_on_lora": ("prefix", "base model with the prefix", "prefix_on_lora"),
}


def save_run(root, state, model):
    optimizer = {f"{moment}.{name}": value for name, value in model.items() for moment in ("adam_m", "adam_v")}
    save_checkpoint(root / "checkpoint", {"step": 3, **state}, model, optimizer, 1)


def save_lora(folder, base, config):
    """The checkpoint of a LoRA run whose updates are zero."""
    options = LoraOptions(rank=2)
    values = {name: np.zeros(shape, np.float32) for name, shape in adapter_shapes(options, config).items()}
    save_run(folder, {"config": asdict(config), "adapter": {"base": str(base), "options": asdict(options)}}, values)


def save_prefix(folder, base, config):
    """A prefix in PEFT's format."""
    options = PrefixOptions(16)
    plans = {}
    for name, shape in prefix_shapes(options, config).items():
        tensor = StoredTensor(name, folder, "F32", shape, loaded=np.zeros(shape, np.float32))
        plans[name] = TensorPlan(name, shape, "F32", (tensor,))
    write_peft_prefix(Prefix(options, plans), str(base), config, folder)


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """A folder with `FORMATS` in it, and the parameters that all of them hold."""
    root = tmp_path_factory.mktemp("formats")
    random_model("gpt_bigcode").save_pretrained(root / "hf")
    weights = open_weights(root / "hf")
    config, values = weights.config, {name: plan.read() for name, plan in weights.parameters().items()}

    def run(target, **options):
        convert(ConvertRequest(str(root / "hf"), root / target, show_progress=False, **options))

    run("own")
    run("split", layout=ParallelLayout(tensor=2))
    run("tree", to="ckpt", layout=ParallelLayout(tensor=2))
    (root / "ckpt").mkdir()
    run("ckpt/a.ckpt")
    save_run(root / "run", {"config": asdict(config)}, values)
    save_lora(root / "lora", root / "hf", config)
    save_lora(root / "lora_on_lora", root / "lora", config)
    save_prefix(root / "prefix", root / "hf", config)
    save_prefix(root / "prefix_on_ckpt", root / "ckpt" / "a.ckpt", config)
    save_prefix(root / "prefix_on_lora", root / "lora", config)
    return root, values


@pytest.mark.parametrize("place", FORMATS)
def test_every_reader_finds_the_same_parameters_and_says_what_it_is(place, formats):
    root, values = formats
    kind, title, name = FORMATS[place]
    weights = open_weights(root / place)
    for found in (weights.parameters(), weights.parameters(open_weights(root / "hf").config)):
        assert set(found) == set(values)
        assert all(np.array_equal(found[key].read(), values[key]) for key in values)
    assert (weights.kind, weights.name) == (kind, name)
    step = root / place / "checkpoint" / "step_00000003"
    path = step if step.exists() else root / place
    assert weights.describe() == f"{title} {path}" + (" (step 3)" if kind == "training checkpoint" else "")
    assert weights.converts_to == ("mindcoder" if kind == "huggingface" else "huggingface")
    assert weights.unknown_fields == (
        {"norm_epsilon", "scale_attention", "activation"} if "ckpt" in place else frozenset()
    )
    assert (weights.prefix is not None) == (kind == "prefix")


@pytest.mark.parametrize("place", FORMATS)
def test_every_reader_knows_huggingfaces_names(place, formats):
    root, _ = formats
    plans = {plan.name: plan.read() for plan in open_weights(root / place).huggingface_plans()}
    expected = {name: tensor.read() for name, tensor in open_weights(root / "hf").tensors.items()}
    assert set(plans) == set(expected)
    assert all(np.array_equal(plans[name], values) for name, values in expected.items())


@pytest.mark.parametrize(
    "place, folders",
    [("own", {"own"}), ("lora", {"hf", "lora"}), ("lora_on_lora", {"hf", "lora", "lora_on_lora"}), ("prefix", {"hf"})],
)
def test_the_files_behind_the_values_are_those_of_every_adapter(place, folders, formats):
    root, _ = formats
    weights = open_weights(root / place)
    files = weights.files(weights.parameters())
    assert files == sorted(files) and {file.relative_to(root).parts[0] for file in files} == folders


def test_a_base_model_is_named_where_it_is_not_there_and_can_be_given(formats, tmp_path):
    root, values = formats
    save_lora(tmp_path / "lost", tmp_path / "nowhere", open_weights(root / "hf").config)
    with pytest.raises(UserError, match=r"base model .*nowhere does not exist; merge-lora BASE ADAPTER OUT takes one"):
        open_weights(tmp_path / "lost")
    found = open_adapted(tmp_path / "lost", root / "own").parameters()
    assert all(np.array_equal(found[name].read(), values[name]) for name in values)
    with pytest.raises(UserError, match="is not an adapter: neither a LoRA run nor a PEFT folder"):
        open_adapted(root / "own")
    narrow = replace(open_weights(root / "hf").config, intermediate_size=64)
    with pytest.raises(UserError, match=r"intermediate_size 112 instead of 64"):
        open_weights(root / "prefix_on_ckpt").parameters(narrow)
