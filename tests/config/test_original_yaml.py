"""YAML files of MindFormers as published, and their keys one by one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import SHARED_DATA

from mindcoder.config.effects import notes_on_effects
from mindcoder.config.load import load_config
from mindcoder.config.source import read_yaml
from mindcoder.errors import UserError
from mindcoder.families.from_section import config_from_section
from mindcoder.peft.from_section import lora_options, prefix_options
from mindcoder.peft.options import LoraOptions, PrefixOptions

PUBLISHED = sorted((SHARED_DATA / "originals" / "yaml").glob("*.yaml"))
SIZES = {"7b": 6.74e9, "13b": 13.02e9, "34b": 33.74e9, "15b": 15.52e9}


@pytest.mark.skipif(not PUBLISHED, reason=f"{SHARED_DATA} has no published YAML files")
@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_file_loads_and_every_key_is_accounted_for(path):
    config, source = load_config(path)
    network = config_from_section(config.model.settings)
    size = re.search(r"_(\d+b)", path.stem)
    if size:
        assert network.num_parameters() == pytest.approx(SIZES[size[1]], rel=0.002)
    notes = "\n".join(notes_on_effects(config, source, "CPU"))
    for key in ("use_kvcache_op", "is_flexible_shape", "use_paged_attention", "enable_check_overflow"):
        assert (f"{key} has no effect" in notes) == (key in path.read_text()), key
    flags = {f"{part}_dataset.data_loader.dataset_dir": ("--data", part) for part in ("train", "eval")}
    changed, _ = load_config(path, ["train_dataset.drop_remainder=False"], flags)
    assert changed.train_dataset.data_loader.locations == ["train"]
    written = read_yaml(path).data["model"]["model_config"]
    if "attention_probs_dropout_prob" in written:
        assert network.attention_dropout == written["attention_probs_dropout_prob"]
    if "pad_token" in written:
        assert network.pad_token_id == written["pad_token"]
    if "embedding_init_type" in written:
        assert network.embedding_dtype == written["embedding_init_type"]


def written(tmp_path: Path, model: str = "", kind: str = "LlamaConfig", rest: str = "") -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(
        f"run_mode: finetune\nlr_schedule: {{learning_rate: 1.e-3}}\n{rest}\nmodel:\n  model_config:\n"
        f"    {{type: {kind}, hidden_size: 64, num_layers: 2, num_heads: 4, vocab_size: 1000, pad_token_id: 0, "
        f"{model}}}\n"
    )
    return path


@pytest.mark.parametrize(
    "model, kind, field, value",
    [
        ("attention_probs_dropout_prob: 0.1", "WizardCoderConfig", "attention_dropout", 0.1),
        ("attention_probs_dropout_prob: 0.0, dropout_prob: 0.3", "WizardCoderConfig", "attention_dropout", 0.0),
        ("pad_token: 0", "WizardCoderConfig", "pad_token_id", 0),
        ("eos_token: 7", "WizardCoderConfig", "eos_token_id", 7),
        ("embedding_init_type: bfloat16", "LlamaConfig", "embedding_dtype", "bfloat16"),
        ("layernorm_compute_dtype: float16", "LlamaConfig", "norm_dtype", "float16"),
        ("softmax_compute_dtype: float16", "LlamaConfig", "softmax_dtype", "float16"),
        ("", "LlamaConfig", "initializer_range", 0.01),  # MindFormers 1.9's LlamaConfig
        ("", "WizardCoderConfig", "initializer_range", 0.02),
        ("", "WizardCoderConfig", "embedding_deviation", 0.01),
        ("init_method_std: 0.006", "LlamaConfig", "initializer_range", 0.006),
        ("initializer_range: 0.05", "WizardCoderConfig", "initializer_range", 0.05),
        ("hidden_act: fast_gelu", "WizardCoderConfig", "activation", "quick_gelu"),
        ("hidden_act: gelu", "WizardCoderConfig", "activation", "gelu_tanh"),
        ("hidden_act: gelu_erf", "WizardCoderConfig", "activation", "gelu"),
    ],
)
def test_a_key_takes_effect(tmp_path, model, kind, field, value):
    config, _ = load_config(written(tmp_path, model, kind))
    assert getattr(config_from_section(config.model.settings), field) == value


@pytest.mark.parametrize(
    "model, rest, expected",
    [
        ("quantization_config: {quant_method: rtn}", "", "expected no such key (weights say themselves how they"),
        ("quant: w8a8", "", "model.model_config.quant: found 'w8a8', expected no such key (weights say themselves how"),
        ("", "use_parallel: Flase", "use_parallel: found 'Flase', expected True or False"),
        ("", "optimizer: {type: PmaAdamW}", "optimizer.type: found 'PmaAdamW', expected one of 'AdamW'"),
        ("", "lr_scale: True", "lr_scale: found True, expected False (give learning_rate its final value"),
        ("", "layer_scale: True", "layer_scale: found True, expected False (one learning rate for all layers"),
        ("", "micro_batch_interleave_num: 2", "found 2, expected 1 (it multiplies the global batch"),
        ("", "moe_config: {expert_num: 8}", "moe_config.expert_num: found 8, expected 1"),
        ("", "train_dataset: {repeat: 2}", "train_dataset.repeat: found 2, expected 1 (runner_config.epochs"),
        ("", "train_dataset: {eod_reset: True}", "train_dataset.eod_reset: found True, expected False"),
        ("", "runner_config: {initial_epoch: 3}", "initial_epoch: found 3, expected 0 (resume_training"),
        ("", "only_save_strategy: True", "only_save_strategy: found True, expected False"),
        ("", "runner_wrapper: {scale_sense: {type: AdaptiveLossScaleUpdateCell}}", "found 'AdaptiveLossScaleUpdate"),
        ("", "callbacks: [{type: CheckpointMonitor}, {type: CheckpointMointor}]", "CheckpointMonitor is there 2 times"),
        ("input_sliced_sig: True", "", "input_sliced_sig: found True, expected False (labels are shifted"),
        ("pad_token: 1", "", "pad_token: 1 differs from pad_token_id 0, another name of the same"),
        ("pad_token_id: 1001", "", "a.yaml:6: key 'pad_token_id' is given twice, first on line 6"),
        ("pretrain_seqlen: 512, extend_method: PI", "", "give scaling_factor: 2 instead"),
        ("pet_config: {pet_type: slora}", "", "pet_config.pet_type: slora loads adapters for generation"),
        ("pet_config: {pet_type: lora, freeze_exclude: ['*head*']}", "", "everything but the adapter is frozen"),
        (
            "pet_config: {pet_type: lora}",
            "pet_method: ptuning2",
            "pet_method: ptuning2 differs from pet_config.pet_type",
        ),
        (
            "",
            "train_dataset: {data_loader: {dataset_dir: a}}\n"
            "train_dataset_task: {dataset_config: {data_loader: {dataset_dir: b}}}",
            "train_dataset_task.dataset_config differs from train_dataset",
        ),
    ],
)
def test_what_would_change_the_result_is_refused_by_name(tmp_path, model, rest, expected):
    with pytest.raises(UserError) as caught:
        load_config(written(tmp_path, model, rest=rest))
    assert expected in str(caught.value)
    assert str(tmp_path / "a.yaml") in str(caught.value)


def test_prefix_tuning_slora_and_lora_by_class_name_mean_what_they_say(tmp_path):
    prefix = "pet_config: {pet_type: prefixtuning, prefix_token_num: 16, mid_dim: 64, dropout_rate: 0.1}"
    config, source = load_config(written(tmp_path, prefix))
    assert prefix_options(config) == PrefixOptions(16, True, 64, 0.1) and lora_options(config) is None
    assert "prefixtuning is read as ptuning2 with prefix_projection" in "\n".join(
        notes_on_effects(config, source, "CPU")
    )
    path = written(tmp_path, "pet_config: {pet_type: slora, adapter_path: ''}")
    path.write_text(path.read_text().replace("run_mode: finetune", "run_mode: predict"))
    config, source = load_config(path)
    assert lora_options(config) is None and prefix_options(config) is None
    assert "adapters beside a base model are named with --adapter" in "\n".join(notes_on_effects(config, source, "CPU"))
    path = written(tmp_path)
    path.write_text(
        path.read_text()
        + "  arch: {type: LlamaForCausalLMWithLora, pet: {pet_config: {lora_rank: 4, in_channels: 9}}}\n"
    )
    options = lora_options(load_config(path)[0])
    assert isinstance(options, LoraOptions) and options.rank == 4


def test_a_padding_token_behind_llamas_vocabulary_is_noted(tmp_path):
    path = written(tmp_path)
    path.write_text(path.read_text().replace("pad_token_id: 0", "pad_token_id: 1000"))
    config, source = load_config(path)
    assert config_from_section(config.model.settings).pad_token_id is None
    assert "1000 is the first id outside the vocabulary" in "\n".join(notes_on_effects(config, source, "CPU"))


def test_checkpoint_name_or_path_is_loaded_where_it_exists(tmp_path):
    (tmp_path / "weights.ckpt").write_bytes(b"")
    name = tmp_path / "weights.ckpt"
    assert load_config(written(tmp_path, f"checkpoint_name_or_path: {name}"))[0].load_checkpoint == str(name)
    config, source = load_config(written(tmp_path, "checkpoint_name_or_path: llama2_7b"))
    assert config.load_checkpoint == ""
    assert "there is no such path; give load_checkpoint" in "\n".join(notes_on_effects(config, source, "CPU"))
