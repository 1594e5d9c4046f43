"""Sections of the YAML file: the keys that MindCoder reads, under MindFormers' names, typed and bounded.

Keys of MindFormers' files that have no effect here are in the base classes, `mindcoder.sections.mindformers`, each with
the reason; `mindcoder.config.effects` warns about those that a file gives. All other keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mindcoder.config.dataset_section import DatasetSection, DatasetTask, EvalDatasetSection, EvalDatasetTask
from mindcoder.config.model_section import ModelSection
from mindcoder.config.processor_section import ProcessorSection
from mindcoder.sections import mindformers
from mindcoder.sections.mindformers import EvalCallback, MetricSection, ParallelSection, TrainerSection
from mindcoder.sections.pet_section import PetSection
from mindcoder.sections.section import Count, LearningRate, Ours, Section, Steps, StepsOrNone

RunMode = Literal["train", "finetune", "eval", "predict"]


class RunnerConfig(mindformers.RunnerConfig):
    """``runner_config``: length of the run and size of a step."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = Field(1, description="passes over the data")
    batch_size: Count = Field(1, description="sequences per micro batch and data-parallel rank")
    gradient_accumulation_steps: Count = Field(
        1, description="micro batches per update; equals one large batch, tokens weighted alike"
    )
    max_steps: Annotated[Steps | None, Ours()] = Field(
        None, description="stop after this many updates; overrides epochs"
    )
    peak_tflops: Annotated[float | None, Ours()] = Field(
        None, gt=0, description="peak of a device in TFLOP/s, for model FLOPs utilization (MFU)"
    )


class ScaleSense(Section):
    """``runner_wrapper.scale_sense``: dynamic or fixed loss scale for float16."""

    type: Literal["DynamicLossScaleUpdateCell", "FixedLossScaleUpdateCell"] = Field(
        "DynamicLossScaleUpdateCell", description="dynamic or fixed scale"
    )
    loss_scale_value: float = Field(65536, gt=0, le=2.0**64, description="initial scale")
    scale_factor: int = Field(
        2,
        ge=1,
        le=1024,
        description="divides the scale after an overflow, multiplies it after scale_window updates without",
    )
    scale_window: Steps = Field(1000, description="updates without overflow before the scale grows")


class RunnerWrapper(mindformers.RunnerWrapper):
    """``runner_wrapper``: the training step."""

    scale_sense: ScaleSense | Annotated[float, Field(gt=0, le=2.0**64)] | None = Field(
        None, description="loss scale, used with compute_dtype float16 only; a number: a fixed scale"
    )
    use_clip_grad: bool = Field(True, description="clip gradients by their global norm")
    max_grad_norm: float = Field(1.0, gt=0, description="norm to which gradients are clipped")


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

    type: OptimizerType = Field(
        "AdamW", description="AdamW with or without bias correction; docs/configuration.md has the difference"
    )
    learning_rate: LearningRate | None = Field(None, description="peak learning rate if lr_schedule has none")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay rate of the first moment")
    beta2: float = Field(0.95, ge=0, lt=1, description="decay rate of the second moment")
    betas: list[Annotated[float, Field(ge=0, lt=1)]] | None = Field(
        None, min_length=2, max_length=2, description="both at once; overrides beta1 and beta2"
    )
    eps: float = Field(1e-8, gt=0, le=1, description="added to the root of the second moment")
    weight_decay: float = Field(
        0.01,
        ge=0,
        le=1000,
        description="decay of the matrices per update, times the learning rate; biases and norms have none",
    )


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

    type: ScheduleType = Field(
        "CosineWithWarmUpLR", description="shape of the curve; docs/configuration.md lists the keys of each"
    )
    learning_rate: LearningRate | None = Field(None, description="peak learning rate")
    lr_end: LearningRate | None = Field(None, description="learning rate at the end of the decay")
    warmup_lr_init: LearningRate = Field(0.0, description="learning rate at the start of the warm-up")
    warmup_steps: StepsOrNone = Field(0, description="updates of the warm-up")
    warmup_ratio: float | None = Field(None, ge=0, le=1, description="fraction of total_steps; overrides warmup_steps")
    total_steps: int = Field(
        -1, ge=-1, le=1_000_000_000, description="length of the schedule in updates; -1: the whole run"
    )
    decay_steps: StepsOrNone | None = Field(
        None, description="cosine: updates until lr_end; other types: updates of the decay"
    )
    decay_ratio: float | None = Field(None, ge=0, le=1, description="fraction of total_steps; overrides decay_steps")
    decay_start_steps: StepsOrNone | None = Field(
        None, description="WarmUpStableDecayLR: update at which the decay starts"
    )
    decay_start_ratio: float | None = Field(
        None, ge=0, le=1, description="fraction of total_steps; overrides decay_start_steps"
    )
    num_cycles: float | None = Field(
        None, gt=0, le=1e6, description="cosine waves, 0.5 is one descent; with restarts: descents"
    )
    power: float | None = Field(None, gt=0, le=100, description="exponent of the polynomial")
    keep_steps: StepsOrNone = Field(0, description="cool-down: updates at the peak")
    final_steps: StepsOrNone = Field(0, description="cool-down: updates at lr_end1")
    lr_end1: LearningRate = Field(0.0, description="cool-down: learning rate after the decay")
    lr_end2: LearningRate | None = Field(
        None, description="cool-down: learning rate after final_steps; default: lr_end1"
    )
    base_lr: LearningRate | None = Field(None, description="annealing: peak learning rate")
    eta_min: LearningRate = Field(0.0, description="annealing: lowest learning rate")
    t_max: Steps | None = Field(None, description="annealing: updates of a descent")
    t_0: Steps | None = Field(None, description="warm restarts: updates of the first descent")
    t_mult: int = Field(1, ge=1, le=1000, description="warm restarts: every descent is this times longer")


class ParallelConfig(mindformers.ParallelConfig):
    """``parallel_config``: the device mesh."""

    data_parallel: Count = Field(1, description="replicas, each with its part of the data")
    model_parallel: Count = Field(1, description="devices among which every layer is divided (tensor parallel)")
    pipeline_stage: Count = Field(1, description="groups of consecutive layers, one per device")
    context_parallel: Count = Field(
        1, description="devices among which every sequence is divided by tokens (context parallel)"
    )
    expert_parallel: Count | None = Field(None, description="devices per set of experts; only 1 is supported")
    optimizer_shard: bool | None = Field(
        None, description="divide the optimizer states over the data-parallel ranks (ZeRO-1)"
    )
    micro_batch_num: Count | None = Field(
        None, description="micro batches per update in a pipeline, times gradient_accumulation_steps"
    )
    vocab_emb_dp: bool | None = Field(None, description="False: divide the token embedding and the head as well")
    use_seq_parallel: bool | None = Field(
        None, description="divide norms and dropout along the sequence (sequence parallel)"
    )


class RecomputeConfig(mindformers.RecomputeConfig):
    """``recompute_config``: activations to recompute in the backward pass instead of keeping them."""

    recompute: bool | list[int] = Field(
        False,
        description="keep only every layer's input: half the activation memory, a quarter more time; a list is True",
    )


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
    ] = Field(description="MFLossMonitor: log; CheckpointMonitor: checkpoints; WandbMonitor, SwanLabMonitor: trackers")
    project: Annotated[str, Ours()] = Field("mindcoder", description="WandbMonitor, SwanLabMonitor: project")
    online: Annotated[bool, Ours()] = Field(
        False, description="WandbMonitor, SwanLabMonitor: send to their servers; else only files in output_dir"
    )
    save_checkpoint_steps: Steps | None = Field(
        None, description="CheckpointMonitor: updates between checkpoints; default: only at the end"
    )
    keep_checkpoint_max: Count = Field(5, description="CheckpointMonitor: checkpoints that are kept")
    per_print_times: Steps = Field(1, description="MFLossMonitor: updates between two lines of the log")

    @property
    def kind(self) -> str:
        """The type, with misspellings corrected."""
        return "CheckpointMonitor" if self.type == "CheckpointMointor" else self.type


class ContextSection(mindformers.ContextSection):
    """``context``: device and MindSpore settings."""

    device_target: Literal["auto", "CPU", "Ascend"] = Field(
        "auto", description="auto: Ascend if there is one, else CPU"
    )
    device_id: int = Field(0, ge=0, le=1 << 20, description="Ascend device of a single process")
    mode: Literal[0, 1, "GRAPH_MODE", "PYNATIVE_MODE"] = Field(
        0, description="0, GRAPH_MODE: compiled; 1, PYNATIVE_MODE: operator by operator, slow"
    )
    max_call_depth: int = Field(
        10000, ge=1000, le=10_000_000, description="limit of MindSpore's compiler for nested calls"
    )


class PreferenceSection(Section):
    """``preference``: preference tuning on pairs of answers."""

    type: Literal["dpo", "simpo"] = Field("dpo", description="loss")
    beta: float = Field(0.1, gt=0, description="strength: how far answers may move from the reference")
    gamma: float = Field(0.0, ge=0, description="simpo: margin between the answers of a pair")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="probability that a pair is the wrong way round")


class LossHealthSection(Section):
    """``loss_health``: handling of loss spikes and NaN losses."""

    spike_factor: float = Field(
        0.0, ge=0, description="multiple of the median of recent losses that counts as a spike; 0: none does"
    )
    window: int = Field(50, ge=10, le=1_000_000, description="recent losses of which the median is taken")
    patience: StepsOrNone = Field(0, description="consecutive updates with non-finite gradients that may be skipped")
    rewind: bool = Field(
        False, description="after a spike, go back to the latest checkpoint and continue with the next data"
    )


class RunConfig(mindformers.RunConfig):
    """The whole file."""

    seed: int = Field(0, ge=0, lt=1 << 31, description="seed of the initial weights, of the data order and of dropout")
    output_dir: str = Field("./output", min_length=1, description="folder for checkpoints, curves and logs")
    load_checkpoint: str = Field(
        "", description="weights to start from: checkpoint, run, Hugging Face folder or .ckpt; empty: random"
    )
    pet_method: Literal["", "lora", "ptuning2"] = Field(
        "", description="adapter with default values; a pet_config sets them one by one"
    )
    resume_training: bool | str = Field(
        False, description="continue from the latest checkpoint in output_dir, or from the named one"
    )
    run_mode: RunMode = Field("finetune", description="what the file is for; the verb decides")
    use_parallel: bool = Field(False, description="run as one rank of a distributed job")
    do_eval: bool = Field(False, description="evaluate on eval_dataset while training")
    eval_step_interval: int = Field(
        100, ge=-1, le=1_000_000_000, description="updates between two evaluations; below 1: only at the end"
    )
    trainer: TrainerSection = Field(TrainerSection(), description="MindFormers' trainer class and model name")
    runner_config: RunnerConfig = Field(RunnerConfig(), description="length of the run and size of an update")
    runner_wrapper: RunnerWrapper = Field(RunnerWrapper(), description="gradient clipping and loss scale")
    optimizer: OptimizerSection = Field(OptimizerSection(), description="AdamW and its constants")
    lr_schedule: LrSchedule = Field(LrSchedule(), description="learning rate by update; every type has its own keys")
    train_dataset: DatasetSection = Field(DatasetSection(), description="data to train on")
    train_dataset_task: DatasetTask | None = Field(None, description="MindFormers' copy of train_dataset")
    eval_dataset: EvalDatasetSection = Field(EvalDatasetSection(), description="data to evaluate on")
    eval_dataset_task: EvalDatasetTask | None = Field(None, description="MindFormers' copy of eval_dataset")
    parallel: ParallelSection = Field(ParallelSection(), description="MindSpore's own parallel modes")
    parallel_config: ParallelConfig = Field(ParallelConfig(), description="layout over the devices")
    recompute_config: RecomputeConfig = Field(
        RecomputeConfig(), description="activations to compute again in the backward pass instead of keeping them"
    )
    preference: Annotated[PreferenceSection | None, Ours()] = Field(
        None, description="preference tuning (DPO, SimPO); the dataset holds pairs"
    )
    loss_health: Annotated[LossHealthSection, Ours()] = Field(
        LossHealthSection(), description="handling of NaN losses and loss spikes"
    )
    callbacks: list[Callback] = Field([], description="what happens besides training: log, checkpoints, trackers")
    eval_callbacks: list[EvalCallback] = Field([], description="MindFormers' callbacks of an evaluation")
    context: ContextSection = Field(ContextSection(), description="device and MindSpore settings")
    model: ModelSection = Field(ModelSection(), description="network")
    processor: ProcessorSection = Field(ProcessorSection(), description="tokenizer and prompt template")
    metric: MetricSection | list[MetricSection] = Field(MetricSection(), description="MindFormers' metric")
    moe_config: dict[str, Any] | None = Field(
        None, description="mixture of experts; models here have none, expert_num has to be 1"
    )

    @property
    def adapter(self) -> PetSection | None:
        """The parameter-efficient method, wherever the file states it; None for full fine-tuning."""
        given = self.model.settings.pet_config or (self.model.arch.pet.pet_config if self.model.arch.pet else None)
        if given is not None:
            return None if given.pet_type == "slora" else given
        named = "lora" if self.model.arch.has_lora else self.pet_method
        return PetSection(pet_type=named) if named else None
