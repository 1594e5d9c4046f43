"""The YAML file's sections: MindFormers' key names, typed. Unknown keys are refused.

Every section also lists keys of MindFormers that mean nothing here (another device, another subsystem); they are
typed too, and `mindcoder.config.effects` says which of them are given without effect.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mindcoder.config.dataset_section import DatasetSection, DatasetTask
from mindcoder.config.model_section import ModelSection, ProcessorSection
from mindcoder.config.section import Section

RunMode = Literal["train", "finetune", "eval", "predict"]


class TrainerSection(Section):
    """``trainer``: MindFormers' trainer class and model name; kept for its tools."""

    type: str = "CausalLanguageModelingTrainer"
    model_name: str = "wizardcoder"


class RunnerConfig(Section):
    """``runner_config``: how long to run and how large a step is."""

    epochs: int = Field(1, ge=1)
    batch_size: int = Field(1, ge=1, description="sequences in a micro batch")
    gradient_accumulation_steps: int = Field(1, ge=1)
    max_steps: int | None = Field(None, ge=1, description="stop after this many steps; wins over epochs")
    peak_tflops: float | None = Field(None, gt=0, description="of a device, for the share of it that is used (MFU)")
    sink_mode: bool = False
    sink_size: int = -1
    sink_per_epoch: bool | None = None
    gradient_accumulation_shard: bool | None = None
    initial_epoch: int = 0
    initial_step: int = 0
    has_trained_epoches: int | None = None
    has_trained_steps: int | None = None
    num_classes: int | None = None
    image_size: int | None = None
    full_batch: bool | None = None


class ScaleSense(Section):
    """``runner_wrapper.scale_sense``: dynamic or fixed loss scale for float16."""

    type: Literal["DynamicLossScaleUpdateCell", "FixedLossScaleUpdateCell", "AdaptiveLossScaleUpdateCell"] = (
        "DynamicLossScaleUpdateCell"
    )
    loss_scale_value: float = Field(65536, gt=0)
    scale_factor: int = Field(2, ge=1)
    scale_window: int = Field(1000, ge=1)
    loss_scale_window: int | None = None
    max_scale_window: int | None = None
    min_scale_window: int | None = None


class RunnerWrapper(Section):
    """``runner_wrapper``: the training step."""

    type: str = "MFTrainOneStepCell"
    scale_sense: ScaleSense | float | None = None
    use_clip_grad: bool = True
    max_grad_norm: float = Field(1.0, gt=0)
    local_norm: bool | None = None
    calculate_per_token_loss: bool | None = None


OptimizerType = Literal[
    "AdamW",
    "AdamWeightDecay",
    "FP32StateAdamWeightDecay",
    "FusedAdamWeightDecay",
    "FusedFP32StateAdamWeightDecay",
    "PmaAdamW",
    "adamw",
]


class OptimizerSection(Section):
    """``optimizer``. All types mean AdamW with float32 states, PyTorch's definition."""

    type: OptimizerType = "AdamW"
    learning_rate: float | None = Field(None, ge=0, description="used where lr_schedule gives none")
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    betas: list[float] | None = Field(None, min_length=2, max_length=2, description="wins over beta1 and beta2")
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.01, ge=0)


ScheduleType = Literal[
    "ConstantWarmUpLR",
    "LinearWithWarmUpLR",
    "CosineWithWarmUpLR",
    "WarmUpStableDecayLR",
    "CosineWithRestartsAndWarmUpLR",
    "ConstantWithCoolDownLR",
]


class LrSchedule(Section):
    """``lr_schedule``: learning rate by step."""

    type: ScheduleType = "CosineWithWarmUpLR"
    learning_rate: float | None = Field(None, ge=0, description="peak")
    lr_end: float = Field(0.0, ge=0, description="value at total_steps")
    warmup_lr_init: float = Field(0.0, ge=0)
    warmup_steps: int = Field(0, ge=0)
    warmup_ratio: float | None = Field(None, ge=0, le=1, description="of total_steps; wins over warmup_steps")
    total_steps: int = Field(-1, ge=-1, description="-1: all steps of the run")
    decay_start_steps: int | None = Field(None, ge=0)
    decay_start_ratio: float | None = Field(None, ge=0, le=1, description="WSD: where the decay begins")
    num_cycles: float | None = None
    lr_end1: float | None = None
    final_steps: int | None = None


class ParallelOptimizerConfig(Section):
    """``parallel.parallel_optimizer_config``."""

    gradient_accumulation_shard: bool | None = None
    parallel_optimizer_threshold: int | None = None
    optimizer_weight_shard_size: int | None = None


class StrategyCheckpoint(Section):
    """``parallel.strategy_ckpt_config``."""

    save_file: str | None = None
    load_file: str | None = None
    only_trainable_params: bool | None = None


class ParallelSection(Section):
    """``parallel``: MindSpore's parallel context. MindCoder's parallelism is explicit; see ``parallel_config``."""

    parallel_mode: int | str | None = None
    gradients_mean: bool | None = None
    enable_alltoall: bool | None = None
    full_batch: bool | None = None
    dataset_strategy: Any = None
    search_mode: str | None = None
    enable_parallel_optimizer: bool | None = None
    strategy_ckpt_save_file: str | None = None
    strategy_ckpt_config: StrategyCheckpoint | None = None
    parallel_optimizer_config: ParallelOptimizerConfig | None = None
    loss_repeated_mean: bool | None = None
    device_num: int | None = None
    auto_parallel_search_mode: str | None = None
    pipeline_config: dict[str, Any] | None = None
    comm_fusion: dict[str, Any] | None = None


class ParallelConfig(Section):
    """``parallel_config``: the device mesh."""

    data_parallel: int = Field(1, ge=1)
    model_parallel: int = Field(1, ge=1)
    pipeline_stage: int = Field(1, ge=1)
    context_parallel: int = Field(1, ge=1)
    expert_parallel: int | None = None
    optimizer_shard: bool | None = None
    micro_batch_num: int | None = Field(None, ge=1)
    vocab_emb_dp: bool | None = None
    gradient_aggregation_group: int | None = None
    use_seq_parallel: bool | None = None
    seq_split_num: int | None = None
    micro_batch_interleave_num: int | None = None
    mem_coeff: float | None = None


class RecomputeConfig(Section):
    """``recompute_config``: what the backward pass computes again instead of keeping."""

    recompute: bool | list[int] = False
    select_recompute: bool | list[Any] = False
    parallel_optimizer_comm_recompute: bool | None = None
    mp_comm_recompute: bool | None = None
    recompute_slice_activation: bool | None = None
    select_comm_recompute: bool | list[Any] | None = None
    select_recompute_exclude: bool | list[Any] | None = None
    select_comm_recompute_exclude: bool | list[Any] | None = None
    recompute_offset: int | list[int] | None = None


class Callback(Section):
    """One entry of ``callbacks``."""

    type: Literal[
        "MFLossMonitor",
        "CheckpointMonitor",
        "CheckpointMointor",
        "ObsMonitor",
        "SummaryMonitor",
        "EvalCallBack",
        "ProfileMonitor",
        "TrainingStateMonitor",
        "WandbMonitor",
        "SwanLabMonitor",
    ]
    project: str = Field("mindcoder", description="of WandbMonitor and SwanLabMonitor")
    online: bool = Field(False, description="WandbMonitor and SwanLabMonitor: send to their servers")
    prefix: str = "wizardcoder"
    directory: str | None = None
    save_checkpoint_steps: int = Field(0, ge=0, description="0: only at the end")
    save_checkpoint_seconds: int | None = None
    keep_checkpoint_max: int = Field(5, ge=1)
    keep_checkpoint_per_n_minutes: int | None = None
    per_print_times: int = Field(1, ge=1)
    integrated_save: bool | None = None
    async_save: bool | None = None
    save_network_params: bool | None = None
    save_trainable_params: bool | None = None
    save_optimizer: bool | None = None
    checkpoint_format: str | None = None
    exception_save: bool | None = None
    remove_redundancy: bool | None = None
    learning_rate: Any = None
    micro_batch_num: int | None = None
    micro_batch_interleave_num: int | None = None
    origin_epochs: int | None = None
    dataset_size: int | None = None
    global_batch_size: int | None = None
    upload_frequence: int | None = None
    keep_last: bool | None = None


class ContextSection(Section):
    """``context``: the device and MindSpore's settings."""

    device_target: Literal["auto", "CPU", "Ascend"] = "auto"
    device_id: int = Field(0, ge=0)
    mode: Literal[0, 1, "GRAPH_MODE", "PYNATIVE_MODE"] = 0
    max_call_depth: int = Field(10000, ge=1000)
    max_device_memory: str | None = None
    enable_graph_kernel: bool | None = None
    graph_kernel_flags: str | None = None
    save_graphs: bool | int | None = None
    save_graphs_path: str | None = None
    jit_config: dict[str, Any] | None = None
    jit_level: str | None = None
    ascend_config: dict[str, Any] | None = None
    mempool_block_size: str | None = None
    memory_optimize_level: str | None = None
    deterministic: str | None = None
    affinity_cpu_list: Any = None
    runtime_num_threads: int | None = None
    inter_op_parallel_num: int | None = None
    infer_boost: str | None = None
    pynative_synchronize: bool | None = None
    enable_compile_cache: bool | None = None
    compile_cache_path: str | None = None


class PreferenceSection(Section):
    """``preference``: learn from pairs of answers instead of texts."""

    type: Literal["dpo", "simpo"] = "dpo"
    beta: float = Field(0.1, gt=0)
    gamma: float = Field(0.0, ge=0, description="simpo's margin")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)


class LossHealthSection(Section):
    """``loss_health``: losses that jump or are no numbers."""

    spike_factor: float = Field(0.0, ge=0, description="times the median of the last losses; 0 notices no spikes")
    window: int = Field(50, ge=10)
    patience: int = Field(0, ge=0, description="updates in a row that may be skipped because they are not finite")
    rewind: bool = Field(False, description="after a spike go back to the newest checkpoint, on with the next data")


class MetricSection(Section):
    """``metric``: evaluation always reports loss, perplexity and token accuracy."""

    type: str = "PerplexityMetric"


class RunConfig(Section):
    """The whole file."""

    seed: int = Field(0, ge=0)
    output_dir: str = "./output"
    load_checkpoint: str = ""
    pet_method: Literal["", "lora", "ptuning2"] = Field("", description="without a pet_config it takes its defaults")
    resume_training: bool | str = False
    run_mode: RunMode = "finetune"
    use_parallel: bool = False
    do_eval: bool = False
    eval_step_interval: int = Field(100, description="steps between evaluations; below 1: only at the end")
    eval_epoch_interval: int | None = None
    trainer: TrainerSection = TrainerSection()
    runner_config: RunnerConfig = RunnerConfig()
    runner_wrapper: RunnerWrapper = RunnerWrapper()
    optimizer: OptimizerSection = OptimizerSection()
    lr_schedule: LrSchedule = LrSchedule()
    train_dataset: DatasetSection = DatasetSection()
    train_dataset_task: DatasetTask | None = None
    eval_dataset: DatasetSection = DatasetSection()
    eval_dataset_task: DatasetTask | None = None
    parallel: ParallelSection = ParallelSection()
    parallel_config: ParallelConfig = ParallelConfig()
    micro_batch_interleave_num: int = 1
    recompute_config: RecomputeConfig = RecomputeConfig()
    preference: PreferenceSection | None = None
    loss_health: LossHealthSection = LossHealthSection()
    callbacks: list[Callback] = []
    eval_callbacks: list[Callback] = []
    context: ContextSection = ContextSection()
    model: ModelSection = ModelSection()
    processor: ProcessorSection = ProcessorSection()
    metric: MetricSection | list[MetricSection] = MetricSection()
    moe_config: dict[str, Any] | None = None
    auto_trans_ckpt: bool | None = None
    only_save_strategy: bool | None = None
    src_strategy_path_or_dir: str | None = None
    load_ckpt_format: str | None = None
    load_ckpt_async: bool | None = None
    transform_process_num: int | None = None
    remote_save_url: str | None = None
    ignore_data_skip: bool | None = None
    data_skip_steps: int | None = None
    auto_tune: bool | None = None
    filepath_prefix: str | None = None
    autotune_per_step: int | None = None
    profile: bool | None = None
    profile_start_step: int | None = None
    profile_stop_step: int | None = None
    init_start_profile: bool | None = None
    profile_communication: bool | None = None
    profile_memory: bool | None = None
    layer_scale: bool | None = None
    layer_decay: float | None = None
    lr_scale: bool | None = None
    lr_scale_factor: int | None = None
    enable_mindio_ttp_save_ckpt: bool | None = None
