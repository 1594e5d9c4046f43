"""Keys that are understood but change nothing on this device or in this version: said once, never dropped silently."""

from __future__ import annotations

from mindcoder.config.schema import RunConfig
from mindcoder.config.source import YamlSource

RENAMED = {
    "FP32StateAdamWeightDecay": "AdamW with float32 states",
    "FusedFP32StateAdamWeightDecay": "AdamW with float32 states",
    "CheckpointMointor": "CheckpointMonitor",
}

ASCEND_ONLY = (
    "context.max_device_memory",
    "context.enable_graph_kernel",
    "context.graph_kernel_flags",
    "context.ascend_config",
    "context.mempool_block_size",
    "model.model_config.use_flash_attention",
    "model.model_config.use_prompt_flash_attention",
    "model.model_config.use_incre_flash_attention",
)

SINGLE_PROCESS = ("parallel", "parallel_config", "micro_batch_interleave_num")

NOT_OURS = (
    "runner_config.sink_size",
    "runner_config.sink_per_epoch",
    "runner_config.initial_epoch",
    "runner_config.initial_step",
    "runner_config.has_trained_epoches",
    "runner_config.has_trained_steps",
    "runner_config.num_classes",
    "runner_config.image_size",
    "runner_config.full_batch",
    "runner_config.gradient_accumulation_shard",
    "runner_wrapper.local_norm",
    "runner_wrapper.calculate_per_token_loss",
    "train_dataset.python_multiprocessing",
    "train_dataset.numa_enable",
    "train_dataset.prefetch_size",
    "train_dataset.repeat",
    "train_dataset.auto_tune",
    "train_dataset.autotune_per_step",
    "train_dataset.profile",
    "train_dataset.eod_reset",
    "train_dataset.eod_token_id",
    "train_dataset.dynamic_batch",
    "train_dataset.tokenizer",
    "train_dataset.input_columns",
    "train_dataset.output_columns",
    "train_dataset.column_order",
    "train_dataset.num_parallel_workers",
    "train_dataset.filepath_prefix",
    "train_dataset.construct_args_key",
    "train_dataset_task",
    "eval_dataset_task",
    "eval_epoch_interval",
    "recompute_config.parallel_optimizer_comm_recompute",
    "recompute_config.mp_comm_recompute",
    "recompute_config.recompute_slice_activation",
    "recompute_config.recompute_offset",
    "context.save_graphs",
    "context.save_graphs_path",
    "context.jit_config",
    "context.jit_level",
    "context.memory_optimize_level",
    "context.deterministic",
    "context.affinity_cpu_list",
    "context.infer_boost",
    "context.runtime_num_threads",
    "context.inter_op_parallel_num",
    "context.pynative_synchronize",
    "context.enable_compile_cache",
    "context.compile_cache_path",
    "model.model_config.use_seq_parallel",
    "model.model_config.block_size",
    "model.model_config.num_blocks",
    "model.model_config.is_dynamic",
    "model.model_config.offset",
    "model.model_config.use_past",
    "auto_trans_ckpt",
    "only_save_strategy",
    "src_strategy_path_or_dir",
    "load_ckpt_format",
    "load_ckpt_async",
    "transform_process_num",
    "remote_save_url",
    "ignore_data_skip",
    "data_skip_steps",
    "auto_tune",
    "filepath_prefix",
    "autotune_per_step",
    "profile",
    "profile_start_step",
    "profile_stop_step",
    "init_start_profile",
    "profile_communication",
    "profile_memory",
    "layer_scale",
    "layer_decay",
    "lr_scale",
    "lr_scale_factor",
    "moe_config",
    "enable_mindio_ttp_save_ckpt",
    "lr_schedule.num_cycles",
    "lr_schedule.lr_end1",
    "lr_schedule.final_steps",
    "trainer",
    "eval_callbacks",
    "processor.image_processor",
    "processor.audio_processor",
    "processor.return_tensors",
)

CALLBACK_KEYS = (
    "save_checkpoint_seconds",
    "keep_checkpoint_per_n_minutes",
    "integrated_save",
    "async_save",
    "save_network_params",
    "save_trainable_params",
    "save_optimizer",
    "checkpoint_format",
    "exception_save",
    "remove_redundancy",
    "learning_rate",
    "micro_batch_num",
    "micro_batch_interleave_num",
    "origin_epochs",
    "dataset_size",
    "global_batch_size",
    "upload_frequence",
    "keep_last",
)

# Values that ask for nothing need no remark.
NEUTRAL: tuple[object, ...] = (None, False, "", "./autotune", [], {})


def _value(source: YamlSource, name: str) -> object:
    data: object = source.data
    for part in name.split("."):
        if not isinstance(data, dict) or part not in data:
            return None
        data = data[part]
    return data


def notes_on_effects(config: RunConfig, source: YamlSource, device: str) -> list[str]:
    """One line for each key that the file gives and that changes nothing here, and for each renamed type.

    Args:
        config: the validated configuration.
        source: the file's data, to tell given keys from defaults.
        device: ``CPU`` or ``Ascend``.
    """
    notes = []

    def note(name: str, reason: str) -> None:
        place, line = source.place(tuple(name.split(".")))
        notes.append(f"{place}:{line}: {name} has no effect: {reason}" if line else f"{place}: {name}: {reason}")

    if config.runner_config.sink_mode and device == "CPU":
        note("runner_config.sink_mode", "data sinking exists on Ascend only")
    if device == "CPU":
        for name in ASCEND_ONLY:
            if _value(source, name) not in NEUTRAL:
                note(name, "Ascend only")
        settings = config.model.settings
        if "bfloat16" in (settings.param_init_type, settings.compute_dtype):
            note("model.model_config.compute_dtype", "CPU has no bfloat16 kernels, float32 is used")
    if not config.use_parallel:
        for name in SINGLE_PROCESS:
            if _value(source, name) not in NEUTRAL:
                note(name, "use_parallel is False, one process")
    for name in NOT_OURS:
        if _value(source, name) not in NEUTRAL:
            note(name, "MindCoder has no use for it")
    for index, callback in enumerate(source.data.get("callbacks") or []):
        if callback.get("type") == "ObsMonitor":
            note(f"callbacks.{index}.type", "ObsMonitor uploads to Huawei OBS; files stay in output_dir")
        for key in CALLBACK_KEYS:
            if callback.get(key) not in NEUTRAL:
                note(f"callbacks.{index}.{key}", "checkpoints are always whole, safetensors and written in place")
    for name in (config.optimizer.type, *(callback.type for callback in config.callbacks)):
        if name in RENAMED:
            notes.append(f"{name} is read as {RENAMED[name]}")
    return notes
