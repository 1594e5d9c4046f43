"""Keys that are understood but change nothing on this device or in this version: said once, never dropped silently.

A key has an effect when `EFFECTIVE` lists it; every other key that the file gives is noted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mindcoder.config.schema import RunConfig
from mindcoder.config.source import KeyPath, YamlSource

RENAMED = {
    "FP32StateAdamWeightDecay": "AdamW with float32 states",
    "FusedFP32StateAdamWeightDecay": "AdamW with float32 states",
    "CheckpointMointor": "CheckpointMonitor",
}

_EFFECTIVE_BY_SECTION = {
    "": "seed output_dir load_checkpoint pet_method resume_training run_mode use_parallel do_eval eval_step_interval",
    "runner_config": "epochs batch_size gradient_accumulation_steps max_steps peak_tflops",
    "runner_wrapper": "use_clip_grad max_grad_norm scale_sense",
    "runner_wrapper.scale_sense": "type loss_scale_value scale_factor scale_window",
    "optimizer": "type learning_rate beta1 beta2 betas eps weight_decay",
    "lr_schedule": "type learning_rate lr_end warmup_lr_init warmup_steps warmup_ratio total_steps "
    "decay_start_steps decay_start_ratio",
    "train_dataset": "drop_remainder",
    "train_dataset.data_loader": "type dataset_dir dataset_files dataset_weights shuffle streaming fim_rate "
    "fim_spm_rate length_buckets",
    "eval_dataset.data_loader": "type dataset_dir dataset_files",
    "recompute_config": "recompute",
    "loss_health": "spike_factor window patience rewind",
    "preference": "type beta gamma label_smoothing",
    "parallel_config": "data_parallel model_parallel pipeline_stage optimizer_shard micro_batch_num vocab_emb_dp "
    "use_seq_parallel",
    "callbacks.*": "type project online save_checkpoint_steps keep_checkpoint_max per_print_times",
    "context": "device_target device_id mode max_call_depth",
    "model.arch": "type",
    "model.model_config": "type batch_size seq_length vocab_size hidden_size num_layers num_heads multi_query "
    "n_kv_heads n_position expand_ratio intermediate_size hidden_act layernorm_epsilon initializer_range "
    "dropout_prob embedding_dropout_prob hidden_dropout_prob attention_dropout_prob hidden_dropout_rate "
    "attention_dropout_rate param_init_type compute_dtype layernorm_dtype layernorm_compute_type softmax_dtype "
    "softmax_compute_type bos_token_id eos_token_id pad_token_id max_decode_length max_new_tokens "
    "repetition_penalty temperature top_k top_p do_sample make_vocab_size_divisible_by max_position_embedding theta "
    "extend_method scaling_factor head_dim init_method_std sliding_window use_bias tie_word_embeddings multiple_of "
    "ffn_dim_multiplier rms_norm_eps qkv_has_bias attn_proj_has_bias mlp_has_bias use_seq_parallel offset "
    "block_size num_blocks",
    "model.model_config.pet_config": "pet_type lora_rank lora_alpha lora_dropout target_modules exclude_layers "
    "use_rslora loraplus_lr_ratio use_dora pre_seq_len prefix_projection projection_dim dropout_prob",
    "model.model_config.scaling_factor": "factor original_max_position_embeddings low_freq_factor high_freq_factor",
    "processor": "prompt_template",
    "processor.tokenizer": "type vocab_file merge_file merges_file tokenizer_file pad_token add_bos_token",
}
EFFECTIVE = {f"{section}.{key}".lstrip(".") for section, keys in _EFFECTIVE_BY_SECTION.items() for key in keys.split()}

ASCEND_ONLY = {
    "runner_config.sink_mode",
    "runner_config.sink_size",
    "context.max_device_memory",
    "context.graph_kernel_flags",
    "context.enable_graph_kernel",
    "context.ascend_config",
    "model.model_config.use_flash_attention",
    "model.model_config.use_prompt_flash_attention",
    "model.model_config.use_incre_flash_attention",
}
CLUSTER_ONLY = ("parallel.", "parallel_config.", "micro_batch_interleave_num")
REASONS = {
    "model.model_config.use_past": "generation always keeps keys and values",
    "model.model_config.checkpoint_name_or_path": "give load_checkpoint",
    "parallel_config.gradient_aggregation_group": "one group a weight matrix, one for all vectors",
    "parallel_config.context_parallel": "1 is all there is",
    "parallel_config.expert_parallel": "1 is all there is: no model here has experts",
    "train_dataset.input_columns": "the columns are those of the dataset",
    "train_dataset.batch_size": "runner_config.batch_size is used",
    "model.model_config.pet_config.lora_a_init": "uniform within 1 / sqrt(inputs), as in mindpet and peft",
    "model.model_config.pet_config.lora_b_init": "zeros, so that training starts from the base model",
    "model.model_config.pet_config.param_init_type": "an adapter is stored in float32",
    "model.model_config.pet_config.compute_dtype": "the network's compute_dtype is used",
    "model.model_config.pet_config.freeze_include": "everything but the adapter is frozen",
    "model.model_config.pet_config.freeze_exclude": "everything but the adapter is frozen",
    "model.model_config.ignore_token_id": "it is always -100",
    "callbacks.*.prefix": "checkpoints are named by their step",
    "callbacks.*.directory": "checkpoints are in output_dir/checkpoint",
}

# Values that ask for nothing, and names that only describe, need no remark.
NEUTRAL: tuple[object, ...] = (None, False, "", [], {})
DESCRIPTIVE = ("trainer.", "train_dataset_task.", "eval_dataset_task.", "metric", "eval_callbacks.", "processor.type",
               "processor.return_tensors", "runner_wrapper.type")  # fmt: skip


def _leaves(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else None
    if items is None or (isinstance(data, list) and not any(isinstance(item, dict) for item in data)):
        yield path, data
        return
    for key, value in items:
        yield from _leaves(value, (*path, key))


def notes_on_effects(config: RunConfig, source: YamlSource, device: str) -> list[str]:
    """One line for each key that the file gives and that changes nothing here, and for each renamed type.

    Args:
        config: the validated configuration.
        source: the file's data, to tell given keys from defaults.
        device: ``CPU`` or ``Ascend``.
    """
    notes = []
    for path, value in _leaves(source.data):
        pattern = ".".join("*" if isinstance(part, int) else part for part in path)
        name = ".".join(map(str, path))
        reason = _reason(pattern, value, config, device)
        if reason:
            place, line = source.place(path)
            notes.append(f"{place}:{line}: {name} has no effect: {reason}" if line else f"{name}: {reason}")
    notes += [
        f"{name} is read as {RENAMED[name]}"
        for name in (config.optimizer.type, *(callback.type for callback in config.callbacks))
        if name in RENAMED
    ]
    return notes


def _reason(pattern: str, value: object, config: RunConfig, device: str) -> str | None:
    """Why the key has no effect, or None when it has one or asks for nothing."""
    if value in NEUTRAL or pattern.startswith(DESCRIPTIVE):
        return None
    if pattern == "callbacks.*.type" and value in ("ObsMonitor", "ProfileMonitor", "TrainingStateMonitor"):
        return f"MindCoder has no {value}; files stay in output_dir"
    if pattern.startswith("runner_wrapper.scale_sense") and config.model.settings.compute_dtype != "float16":
        return "only float16 needs a loss scale"
    if value == "bfloat16" and device == "CPU":
        return "CPU has no bfloat16 kernels, float32 is used"
    if pattern.startswith(CLUSTER_ONLY) and not config.use_parallel:
        return "use_parallel is False, one process"
    if pattern.startswith("parallel."):
        return "the layout is parallel_config's, spelled out; MindSpore's parallel modes are not used"
    if pattern in EFFECTIVE:
        return None
    if pattern in ASCEND_ONLY and device == "CPU":
        return "Ascend only"
    return REASONS.get(pattern, "MindCoder has no use for it")
