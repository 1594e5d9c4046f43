"""Sections of the YAML file: the keys that MindCoder reads, under MindFormers' names, typed and bounded.

Keys of MindFormers' files that have no effect here are in the base classes, `mindcoder.config.mindformers`, each with
the reason; `mindcoder.config.effects` warns about those that a file gives. All other keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mindcoder.config import mindformers
from mindcoder.config.dataset_section import DatasetSection, DatasetTask, EvalDatasetSection, EvalDatasetTask
from mindcoder.config.mindformers import EvalCallback, MetricSection, ParallelSection, TrainerSection
from mindcoder.config.model_section import ModelSection, PetSection, ProcessorSection
from mindcoder.config.section import Count, LearningRate, Section, Steps, StepsOrNone

RunMode = Literal["train", "finetune", "eval", "predict"]


class RunnerConfig(mindformers.RunnerConfig):
    """``runner_config``: length of the run and size of a step."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    batch_size: Count = Field(1, description="sequences per micro batch")
    gradient_accumulation_steps: Count = 1
    max_steps: Steps | None = Field(None, description="stop after this many steps; overrides epochs")
    peak_tflops: float | None = Field(None, gt=0, description="peak of a device, for model FLOPs utilization (MFU)")


class ScaleSense(Section):
    """``runner_wrapper.scale_sense``: dynamic or fixed loss scale for float16."""

    type: Literal["DynamicLossScaleUpdateCell", "FixedLossScaleUpdateCell"] = "DynamicLossScaleUpdateCell"
    loss_scale_value: float = Field(65536, gt=0, le=2.0**64)
    scale_factor: int = Field(2, ge=1, le=1024)
    scale_window: Steps = 1000


class RunnerWrapper(mindformers.RunnerWrapper):
    """``runner_wrapper``: the training step."""

    scale_sense: ScaleSense | Annotated[float, Field(gt=0, le=2.0**64)] | None = None
    use_clip_grad: bool = True
    max_grad_norm: float = Field(1.0, gt=0)


OptimizerType = Literal[
    "AdamW",
    "adamw",
    "AdamWeightDecay",
    "FP32StateAdamWeightDecay",
    "FusedAdamWeightDecay",
    "FusedFP32StateAdamWeightDecay",
    "AdamWeightDecayX",
]


class OptimizerSection(mindformers.OptimizerSection):
    """``optimizer``; see `mindcoder.train.from_section.build_optimizer` for the meaning of the types."""

    type: OptimizerType = "AdamW"
    learning_rate: LearningRate | None = Field(None, description="used if lr_schedule has none")
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    betas: list[Annotated[float, Field(ge=0, lt=1)]] | None = Field(
        None, min_length=2, max_length=2, description="overrides beta1 and beta2"
    )
    eps: float = Field(1e-8, gt=0, le=1)
    weight_decay: float = Field(0.01, ge=0, le=1000)


ScheduleType = Literal[
    "ConstantWarmUpLR",
    "constant_with_warmup",
    "LinearWithWarmUpLR",
    "linear",
    "CosineWithWarmUpLR",
    "cosine",
    "CosineWithRestartsAndWarmUpLR",
    "cosine_with_restarts",
    "PolynomialWithWarmUpLR",
    "polynomial",
    "WarmUpStableDecayLR",
    "ConstantWithCoolDownLR",
    "CosineAnnealingLR",
    "cosine_annealing",
    "CosineAnnealingWarmRestarts",
    "cosine_annealing_warm_restarts",
]


class LrSchedule(Section):
    """``lr_schedule``: learning rate by step; each type has its own keys (`mindcoder.config.schedule_keys`)."""

    type: ScheduleType = "CosineWithWarmUpLR"
    learning_rate: LearningRate | None = Field(None, description="peak")
    lr_end: LearningRate | None = Field(None, description="value at the end of the decay")
    warmup_lr_init: LearningRate = 0.0
    warmup_steps: StepsOrNone = 0
    warmup_ratio: float | None = Field(None, ge=0, le=1, description="fraction of total_steps; overrides warmup_steps")
    total_steps: int = Field(-1, ge=-1, le=1_000_000_000, description="-1: all steps of the run")
    decay_steps: StepsOrNone | None = Field(
        None, description="cosine: where lr_end is reached; else the decay's length"
    )
    decay_ratio: float | None = Field(None, ge=0, le=1, description="fraction of total_steps; overrides decay_steps")
    decay_start_steps: StepsOrNone | None = None
    decay_start_ratio: float | None = Field(
        None, ge=0, le=1, description="fraction of total_steps; overrides decay_start_steps"
    )
    num_cycles: float | None = Field(None, gt=0, le=1e6, description="cosine waves; 0.5 is one descent")
    power: float | None = Field(None, gt=0, le=100, description="exponent of the polynomial")
    keep_steps: StepsOrNone = Field(0, description="cool-down: steps at the peak")
    final_steps: StepsOrNone = Field(0, description="cool-down: steps at lr_end1")
    lr_end1: LearningRate = Field(0.0, description="cool-down: value after the decay")
    lr_end2: LearningRate | None = Field(None, description="cool-down: value after final_steps; default: lr_end1")
    base_lr: LearningRate | None = Field(None, description="annealing: peak")
    eta_min: LearningRate = Field(0.0, description="annealing: lowest value")
    t_max: Steps | None = Field(None, description="annealing: steps of a descent")
    t_0: Steps | None = Field(None, description="warm restarts: steps of the first descent")
    t_mult: int = Field(1, ge=1, le=1000, description="warm restarts: each descent is this times longer")


class ParallelConfig(mindformers.ParallelConfig):
    """``parallel_config``: the device mesh."""

    data_parallel: Count = 1
    model_parallel: Count = 1
    pipeline_stage: Count = 1
    context_parallel: Count = 1
    expert_parallel: Count | None = None
    optimizer_shard: bool | None = None
    micro_batch_num: Count | None = None
    vocab_emb_dp: bool | None = None
    use_seq_parallel: bool | None = None


class RecomputeConfig(mindformers.RecomputeConfig):
    """``recompute_config``: activations to recompute in the backward pass instead of keeping them."""

    recompute: bool | list[int] = False


class Callback(mindformers.Callback):
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
    save_checkpoint_steps: Steps | None = Field(None, description="default: only at the end")
    keep_checkpoint_max: Count = 5
    per_print_times: Steps = 1

    @property
    def kind(self) -> str:
        """The type, with misspellings corrected."""
        return "CheckpointMonitor" if self.type == "CheckpointMointor" else self.type


class ContextSection(mindformers.ContextSection):
    """``context``: device and MindSpore settings."""

    device_target: Literal["auto", "CPU", "Ascend"] = "auto"
    device_id: int = Field(0, ge=0, le=1 << 20)
    mode: Literal[0, 1, "GRAPH_MODE", "PYNATIVE_MODE"] = 0
    max_call_depth: int = Field(10000, ge=1000, le=10_000_000)


class PreferenceSection(Section):
    """``preference``: preference tuning on pairs of answers."""

    type: Literal["dpo", "simpo"] = "dpo"
    beta: float = Field(0.1, gt=0)
    gamma: float = Field(0.0, ge=0, description="simpo's margin")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)


class LossHealthSection(Section):
    """``loss_health``: handling of loss spikes and NaN losses."""

    spike_factor: float = Field(
        0.0, ge=0, description="multiple of the median of recent losses that counts as a spike; 0 disables detection"
    )
    window: int = Field(50, ge=10, le=1_000_000)
    patience: StepsOrNone = Field(
        0, description="consecutive updates that may be skipped because of non-finite gradients"
    )
    rewind: bool = Field(
        False, description="after a spike, restore the latest checkpoint and continue with the next data"
    )


class RunConfig(mindformers.RunConfig):
    """The whole file."""

    seed: int = Field(0, ge=0, lt=1 << 31)
    output_dir: str = Field("./output", min_length=1)
    load_checkpoint: str = ""
    pet_method: Literal["", "lora", "ptuning2"] = Field("", description="without a pet_config its defaults are used")
    resume_training: bool | str = False
    run_mode: RunMode = "finetune"
    use_parallel: bool = False
    do_eval: bool = False
    eval_step_interval: int = Field(
        100, ge=-1, le=1_000_000_000, description="steps between evaluations; below 1: only at the end"
    )
    trainer: TrainerSection = TrainerSection()
    runner_config: RunnerConfig = RunnerConfig()
    runner_wrapper: RunnerWrapper = RunnerWrapper()
    optimizer: OptimizerSection = OptimizerSection()
    lr_schedule: LrSchedule = LrSchedule()
    train_dataset: DatasetSection = DatasetSection()
    train_dataset_task: DatasetTask | None = None
    eval_dataset: EvalDatasetSection = EvalDatasetSection()
    eval_dataset_task: EvalDatasetTask | None = None
    parallel: ParallelSection = ParallelSection()
    parallel_config: ParallelConfig = ParallelConfig()
    recompute_config: RecomputeConfig = RecomputeConfig()
    preference: PreferenceSection | None = None
    loss_health: LossHealthSection = LossHealthSection()
    callbacks: list[Callback] = []
    eval_callbacks: list[EvalCallback] = []
    context: ContextSection = ContextSection()
    model: ModelSection = ModelSection()
    processor: ProcessorSection = ProcessorSection()
    metric: MetricSection | list[MetricSection] = MetricSection()
    moe_config: dict[str, Any] | None = Field(None, description="experts are not there: expert_num has to be 1")

    @property
    def adapter(self) -> PetSection | None:
        """The parameter-efficient method, wherever the file states it; None for full fine-tuning."""
        given = self.model.settings.pet_config or (self.model.arch.pet.pet_config if self.model.arch.pet else None)
        if given is not None:
            return None if given.pet_type == "slora" else given
        named = "lora" if self.model.arch.type == "LlamaForCausalLMWithLora" else self.pet_method
        return PetSection(pet_type=named) if named else None
