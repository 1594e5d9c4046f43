"""Keys of MindFormers' files that are accepted but change no result here, each with the reason.

Every class is the base of the section of the same name, in this folder, in a family's folder or in
`mindcoder.config.schema`, which add the live keys. A key that would change what a run computes is not marked
`Ignored` but `Only`: the value that means what MindCoder does is accepted, others are refused with the alternative.
For the meaning of the keys see mindformers/models/llama/llama_config.py, mindformers/trainer/base_trainer.py
and research/wizardcoder/wizardcoder_config.py of github.com/mindspore-lab/mindformers, branches r0.6 to r1.5.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mindcoder.sections.section import Describes, Ignored, Only, Section

LAYOUT = "the layout is that of parallel_config; MindSpore's parallel modes are not used"
OPERATORS = "operators are chosen by the device"
MEMORY = "it only affects memory"
HOST_DATA = "MindCoder's own loader reads the data"
COLUMNS = "columns are determined by the dataset"
FILES = "checkpoints are safetensors folders that are independent of the number of devices"
NO_PROFILER = "MindCoder has no profiler of its own; `mindcoder bench` measures"
QUANTIZATION = "weights say themselves how they are quantized, see docs/quantization.md; leave the key out"
ALWAYS_SAID: tuple[object, ...] = (None,)  # warn even about False


class RunnerConfig(Section):
    """``runner_config``."""

    sink_mode: Annotated[bool | None, Ignored("batches are fed one by one; data sinking is MindFormers' on Ascend")] = (
        None
    )
    sink_size: Annotated[int | None, Ignored("batches are fed one by one", (None, -1))] = None
    sink_per_epoch: Annotated[bool | None, Ignored("batches are fed one by one")] = None
    gradient_accumulation_shard: Annotated[bool | None, Ignored(MEMORY)] = None
    full_batch: Annotated[bool | None, Ignored("every process reads its own part of the global batch")] = None
    initial_epoch: Annotated[int | None, Only((0,), "resume_training continues a run")] = None
    initial_step: Annotated[int | None, Only((0,), "resume_training continues a run")] = None
    has_trained_epoches: Annotated[int | None, Only((0,), "resume_training continues a run")] = None
    has_trained_steps: Annotated[int | None, Only((0,), "resume_training continues a run")] = None
    num_classes: Annotated[int | None, Ignored("it is for vision models")] = None
    image_size: Annotated[int | None, Ignored("it is for vision models")] = None


class RunnerWrapper(Section):
    """``runner_wrapper``."""

    type: Annotated[str, Describes("one training step serves all")] = "MFTrainOneStepCell"
    local_norm: Annotated[bool | None, Ignored("the global norm is logged")] = None
    calculate_per_token_loss: Annotated[
        bool | None, Ignored("the loss is always the mean over labeled tokens", (None, True))
    ] = None
    enable_check_overflow: Annotated[
        bool | None, Ignored("gradients are always checked; see loss_health.patience", (None, True))
    ] = None


class OptimizerSection(Section):
    """``optimizer``."""

    swap: Annotated[bool | None, Ignored(MEMORY)] = None
    use_fused: Annotated[bool | None, Ignored(OPERATORS)] = None


class StrategyCheckpoint(Section):
    """``parallel.strategy_ckpt_config``."""

    save_file: Annotated[str | None, Ignored(LAYOUT)] = None
    load_file: Annotated[str | None, Ignored(LAYOUT)] = None
    only_trainable_params: Annotated[bool | None, Ignored(LAYOUT)] = None


class ParallelOptimizerConfig(Section):
    """``parallel.parallel_optimizer_config``."""

    gradient_accumulation_shard: Annotated[bool | None, Ignored(LAYOUT)] = None
    parallel_optimizer_threshold: Annotated[int | None, Ignored(LAYOUT)] = None
    optimizer_weight_shard_size: Annotated[int | None, Ignored(LAYOUT)] = None


class ParallelSection(Section):
    """``parallel``: MindSpore's parallel context."""

    parallel_mode: Annotated[int | str | None, Ignored(LAYOUT)] = None
    gradients_mean: Annotated[bool | None, Ignored(LAYOUT)] = None
    enable_alltoall: Annotated[bool | None, Ignored(LAYOUT)] = None
    full_batch: Annotated[bool | None, Ignored(LAYOUT)] = None
    dataset_strategy: Annotated[Any, Ignored(LAYOUT)] = None
    search_mode: Annotated[str | None, Ignored(LAYOUT)] = None
    enable_parallel_optimizer: Annotated[
        bool | None, Ignored("parallel_config.optimizer_shard shards the optimizer states")
    ] = None
    strategy_ckpt_save_file: Annotated[str | None, Ignored(LAYOUT)] = None
    strategy_ckpt_config: StrategyCheckpoint | None = Field(None, description="MindSpore's strategy files")
    parallel_optimizer_config: ParallelOptimizerConfig | None = Field(None, description="MindSpore's sharded optimizer")
    loss_repeated_mean: Annotated[bool | None, Ignored(LAYOUT)] = None
    device_num: Annotated[int | None, Ignored(LAYOUT)] = None
    auto_parallel_search_mode: Annotated[str | None, Ignored(LAYOUT)] = None
    auto_pipeline: Annotated[bool | None, Ignored(LAYOUT, ALWAYS_SAID)] = None
    pipeline_config: Annotated[dict[str, Any] | None, Ignored(LAYOUT)] = None
    comm_fusion: Annotated[dict[str, Any] | None, Ignored(LAYOUT)] = None


GATHERED = "keys and values are all-gathered, with the results of every algorithm"
INTERLEAVE = "it multiplies the global batch: give runner_config.gradient_accumulation_steps"


class ParallelConfig(Section):
    """``parallel_config``."""

    gradient_aggregation_group: Annotated[int | None, Ignored("one group per weight matrix, one for all vectors")] = (
        None
    )
    seq_split_num: Annotated[int | None, Ignored("sequences are not split for the pipeline", (None, 1))] = None
    context_parallel_algo: Annotated[
        Literal["colossalai_cp", "ulysses_cp", "hybrid_cp"] | None, Ignored(GATHERED, (None, "colossalai_cp"))
    ] = None
    ulysses_degree_in_cp: Annotated[int | None, Ignored(GATHERED, (None, 1))] = None
    micro_batch_interleave_num: Annotated[int | None, Only((1,), INTERLEAVE)] = None
    mem_coeff: Annotated[float | None, Ignored("it is for MindSpore's automatic parallelism")] = None


WHOLE_LAYERS = "recompute works on whole layers"


class RecomputeConfig(Section):
    """``recompute_config``."""

    select_recompute: Annotated[bool | list[Any] | None, Ignored(WHOLE_LAYERS)] = None
    parallel_optimizer_comm_recompute: Annotated[bool | None, Ignored(WHOLE_LAYERS)] = None
    mp_comm_recompute: Annotated[bool | None, Ignored(WHOLE_LAYERS)] = None
    recompute_slice_activation: Annotated[bool | None, Ignored(WHOLE_LAYERS)] = None
    select_comm_recompute: Annotated[bool | list[Any] | None, Ignored(WHOLE_LAYERS)] = None
    select_recompute_exclude: Annotated[bool | list[Any] | None, Ignored(WHOLE_LAYERS)] = None
    select_comm_recompute_exclude: Annotated[bool | list[Any] | None, Ignored(WHOLE_LAYERS)] = None
    recompute_offset: Annotated[int | list[int] | None, Ignored(WHOLE_LAYERS)] = None


STEPS_DECIDE = "save_checkpoint_steps decides"
WHOLE_STATE = "a checkpoint always contains the full training state"


class Callback(Section):
    """One entry of ``callbacks``."""

    prefix: Annotated[str | None, Ignored("checkpoints are named by their step")] = None
    directory: Annotated[str | None, Ignored("checkpoints are in output_dir/checkpoint")] = None
    save_checkpoint_seconds: Annotated[int | None, Ignored(STEPS_DECIDE, (None, 0))] = None
    keep_checkpoint_per_n_minutes: Annotated[int | None, Ignored("keep_checkpoint_max decides", (None, 0))] = None
    integrated_save: Annotated[bool | None, Ignored(FILES)] = None
    async_save: Annotated[bool | None, Ignored("checkpoints are written synchronously")] = None
    save_network_params: Annotated[bool | None, Ignored(WHOLE_STATE)] = None
    save_trainable_params: Annotated[bool | None, Ignored(WHOLE_STATE)] = None
    save_optimizer: Annotated[bool | None, Ignored(WHOLE_STATE)] = None
    checkpoint_format: Annotated[str | None, Ignored(FILES, (None, "safetensors"))] = None
    exception_save: Annotated[bool | None, Ignored("an interrupted run saves if possible")] = None
    remove_redundancy: Annotated[bool | None, Ignored(FILES)] = None
    learning_rate: Annotated[Any, Ignored("the log shows the actual learning rate")] = None
    micro_batch_num: Annotated[int | None, Ignored("the log does its own counting")] = None
    micro_batch_interleave_num: Annotated[int | None, Ignored("the log does its own counting")] = None
    origin_epochs: Annotated[int | None, Ignored("the log does its own counting")] = None
    dataset_size: Annotated[int | None, Ignored("the log does its own counting")] = None
    global_batch_size: Annotated[int | None, Ignored("the log does its own counting")] = None
    upload_frequence: Annotated[int | None, Ignored("files stay in output_dir")] = None
    keep_last: Annotated[bool | None, Ignored("files stay in output_dir")] = None


COMPILER = "MindSpore's default is kept"


class ContextSection(Section):
    """``context``."""

    max_device_memory: Annotated[
        str | None, Ignored("memory is allocated on demand; only `plan` uses the key", live=True)
    ] = None
    enable_graph_kernel: Annotated[bool | None, Ignored(COMPILER)] = None
    graph_kernel_flags: Annotated[str | None, Ignored(COMPILER)] = None
    save_graphs: Annotated[bool | int | None, Ignored("to save graphs set MindSpore's MS_DEV_SAVE_GRAPHS")] = None
    save_graphs_path: Annotated[str | None, Ignored("to save graphs set MindSpore's MS_DEV_SAVE_GRAPHS_PATH")] = None
    jit_config: Annotated[dict[str, Any] | None, Ignored(COMPILER)] = None
    jit_level: Annotated[str | None, Ignored(COMPILER)] = None
    ascend_config: Annotated[dict[str, Any] | None, Ignored("dtypes are set in model_config")] = None
    mempool_block_size: Annotated[str | None, Ignored(COMPILER)] = None
    memory_optimize_level: Annotated[str | None, Ignored(COMPILER)] = None
    deterministic: Annotated[str | None, Ignored("runs on CPU are bitwise reproducible; Ascend keeps its default")] = (
        None
    )
    affinity_cpu_list: Annotated[Any, Ignored(COMPILER)] = None
    runtime_num_threads: Annotated[int | None, Ignored("all cores are used; MINDCODER_THREADS sets another number")] = (
        None
    )
    inter_op_parallel_num: Annotated[int | None, Ignored(COMPILER)] = None
    infer_boost: Annotated[str | None, Ignored(COMPILER)] = None
    pynative_synchronize: Annotated[bool | None, Ignored(COMPILER)] = None
    enable_compile_cache: Annotated[bool | None, Ignored(COMPILER)] = None
    compile_cache_path: Annotated[str | None, Ignored(COMPILER)] = None


class RunConfig(Section):
    """The top of the file."""

    eval_epoch_interval: Annotated[int | None, Ignored("eval_step_interval decides")] = None
    micro_batch_interleave_num: Annotated[int | None, Only((1,), INTERLEAVE)] = None
    auto_trans_ckpt: Annotated[bool | None, Ignored("weights of any parallel layout can be loaded")] = None
    only_save_strategy: Annotated[
        bool | None, Only((False,), "there are no strategy files; `mindcoder plan` shows the layout")
    ] = None
    src_strategy_path_or_dir: Annotated[str | None, Ignored("weights of any parallel layout can be loaded")] = None
    load_ckpt_format: Annotated[str | None, Ignored("the format is detected from the file")] = None
    load_ckpt_async: Annotated[bool | None, Ignored("weights are loaded before the first step")] = None
    transform_process_num: Annotated[int | None, Ignored("weights of any parallel layout can be loaded")] = None
    remote_save_url: Annotated[str | None, Ignored("files stay in output_dir")] = None
    ignore_data_skip: Annotated[
        bool | None, Only((False,), "a resumed run continues with the data it has not seen")
    ] = None
    data_skip_steps: Annotated[int | None, Only((0,), "a resumed run knows which data it has seen")] = None
    auto_tune: Annotated[bool | None, Ignored(HOST_DATA)] = None
    filepath_prefix: Annotated[str | None, Ignored(HOST_DATA)] = None
    autotune_per_step: Annotated[int | None, Ignored(HOST_DATA)] = None
    profile: Annotated[bool | None, Ignored(NO_PROFILER)] = None
    profile_start_step: Annotated[int | None, Ignored(NO_PROFILER)] = None
    profile_stop_step: Annotated[int | None, Ignored(NO_PROFILER)] = None
    init_start_profile: Annotated[bool | None, Ignored(NO_PROFILER)] = None
    profile_communication: Annotated[bool | None, Ignored(NO_PROFILER)] = None
    profile_memory: Annotated[bool | None, Ignored(NO_PROFILER)] = None
    layer_scale: Annotated[
        bool | None, Only((False,), "one learning rate for all layers; MindFormers 1.9 refuses True as well")
    ] = None
    layer_decay: Annotated[float | None, Ignored("layer_scale is False")] = None
    lr_scale: Annotated[
        bool | None, Only((False,), "give learning_rate its final value: MindFormers would multiply it by the devices")
    ] = None
    lr_scale_factor: Annotated[int | None, Ignored("lr_scale is False")] = None
    enable_mindio_ttp_save_ckpt: Annotated[bool | None, Ignored(FILES)] = None


class TrainerSection(Section):
    """``trainer``: MindFormers' trainer class and model name."""

    type: Annotated[str, Describes("the verb decides")] = "CausalLanguageModelingTrainer"
    model_name: Annotated[str, Describes("model.model_config decides")] = "wizardcoder"


class MetricSection(Section):
    """``metric``."""

    type: Annotated[
        str,
        Ignored("eval reports loss, perplexity, token accuracy; eval-code scores answers", ("PerplexityMetric",)),
    ] = "PerplexityMetric"


class EvalCallback(Callback):
    """One entry of ``eval_callbacks``."""

    type: Annotated[str, Describes("evaluation reports by itself")] = ""


class PetSection(Section):
    """``model.model_config.pet_config``."""

    lora_a_init: Annotated[
        str | None, Ignored("initialization is uniform within 1 / sqrt(inputs), as in mindpet and PEFT")
    ] = None
    lora_b_init: Annotated[
        str | None, Only(("zeros", "zero"), "training starts from the base model")
    ] = None  # fmt: skip
    param_init_type: Annotated[str | None, Ignored("an adapter is stored in float32")] = None
    compute_dtype: Annotated[str | None, Ignored("the network's compute_dtype is used")] = None
    freeze_include: Annotated[list[str] | None, Ignored("everything but the adapter is frozen")] = None
    freeze_exclude: Annotated[list[str] | None, Only((), "everything but the adapter is frozen")] = None
    in_channels: Annotated[int | None, Ignored("the layers' own sizes are used")] = None
    out_channels: Annotated[int | None, Ignored("the layers' own sizes are used")] = None
    adapter_path: Annotated[
        str | None, Only((), "name adapters with --adapter NAME=FOLDER of predict, chat and serve")
    ] = None


PAGED = "generation always keeps keys and values in blocks"


class DecoderSection(Section):
    """``model.model_config`` of every family."""

    use_past: Annotated[bool | None, Ignored("generation always keeps keys and values")] = None
    use_past_shard: Annotated[bool | None, Ignored(LAYOUT)] = None
    use_kvcache_op: Annotated[bool | None, Ignored(PAGED, ALWAYS_SAID)] = None
    use_paged_attention: Annotated[bool | None, Ignored(PAGED, ALWAYS_SAID)] = None
    is_flexible_shape: Annotated[bool | None, Ignored("one graph serves all lengths", ALWAYS_SAID)] = None
    is_dynamic: Annotated[bool | None, Ignored("one graph serves all lengths")] = None
    compute_in_2d: Annotated[bool | None, Ignored("activations are always [tokens, features]", ALWAYS_SAID)] = None
    use_select_recompute: Annotated[bool | None, Ignored(WHOLE_LAYERS)] = None
    use_flash_attention: Annotated[bool | None, Ignored(OPERATORS)] = None
    use_prompt_flash_attention: Annotated[bool | None, Ignored(OPERATORS)] = None
    use_incre_flash_attention: Annotated[bool | None, Ignored(OPERATORS)] = None
    ignore_token_id: Annotated[int | None, Only((-100,), "masked labels are always -100")] = None
    auto_map: Annotated[dict[str, Any] | None, Ignored("tokenizers come from files, never from code")] = None
    quant: Annotated[str | None, Only((), QUANTIZATION)] = None
    quant_config: Annotated[dict[str, Any] | None, Only((), QUANTIZATION)] = None
    quantization_config: Annotated[dict[str, Any] | None, Only((), QUANTIZATION)] = None


EXACT_ROTATION = "angles are computed in float32"
DOCUMENTS = "attention never crosses documents of packed datasets (preprocess --packing)"


class LlamaSection(Section):
    """``model.model_config`` of Llama."""

    qkv_concat: Annotated[
        bool | None, Ignored("query, key and value are separate matrices; the result is the same")
    ] = None
    parallel_optimizer: Annotated[bool | None, Ignored(LAYOUT)] = None
    use_rope_slice: Annotated[bool | None, Ignored(OPERATORS)] = None
    use_ring_attention: Annotated[bool | None, Ignored(LAYOUT)] = None
    use_attn_mask_compression: Annotated[bool | None, Ignored(OPERATORS)] = None
    use_eod_attn_mask_compression: Annotated[bool | None, Only((False,), DOCUMENTS)] = None
    fine_grain_interleave: Annotated[int | None, Ignored(LAYOUT)] = None
    pp_interleave_num: Annotated[int | None, Ignored("each stage has consecutive layers")] = None
    residual_dtype: Annotated[str | None, Ignored("the residual stream has compute_dtype")] = None
    fused_rms_norm: Annotated[bool | None, Ignored(OPERATORS)] = None
    input_sliced_sig: Annotated[bool | None, Only((False,), "labels are shifted against the inputs here")] = None
    rmsnorm_compute_2d: Annotated[bool | None, Ignored(OPERATORS)] = None
    chunk_prefill: Annotated[bool | None, Ignored("chunked prefill is always on")] = None
    calculate_per_token_loss: Annotated[
        bool | None, Ignored("the loss is always the mean over labeled tokens", (None, True))
    ] = None
    return_hidden_states: Annotated[bool | None, Ignored("generation only needs logits")] = None
    llm_backend: Annotated[str | None, Ignored(OPERATORS)] = None


class RotarySection(Section):
    """Rotary keys of ``model.model_config``."""

    rotary_dtype: Annotated[str | None, Ignored(EXACT_ROTATION, (None, "float32"))] = None


class TokenizerSection(Section):
    """``processor.tokenizer``."""

    unk_token: Annotated[str | None, Ignored("the token is defined by the vocabulary")] = None
    bos_token: Annotated[str | None, Ignored("the token is defined by the vocabulary")] = None
    eos_token: Annotated[str | None, Ignored("the token is defined by the vocabulary")] = None
    add_eos_token: Annotated[bool | None, Ignored("documents and answers always end with the end-of-text token")] = None
    model_max_length: Annotated[int | None, Ignored("seq_length decides")] = None
    auto_register: Annotated[str | None, Ignored("tokenizers come from files, never from code")] = None


class ProcessorSection(Section):
    """``processor``."""

    type: Annotated[str, Describes("the tokenizer alone matters")] = "GPTProcessor"
    return_tensors: Annotated[str, Describes("MindSpore's")] = "ms"
    image_processor: Annotated[dict[str, Any] | None, Ignored("models here read text")] = None
    audio_processor: Annotated[dict[str, Any] | None, Ignored("models here read text")] = None


class DatasetSection(Section):
    """``train_dataset`` and ``eval_dataset``."""

    input_columns: Annotated[list[str] | None, Ignored(COLUMNS)] = None
    output_columns: Annotated[list[str] | None, Ignored(COLUMNS)] = None
    column_order: Annotated[list[str] | None, Ignored(COLUMNS)] = None
    construct_args_key: Annotated[list[str] | None, Ignored(COLUMNS)] = None
    tokenizer: Annotated[dict[str, Any] | None, Ignored("processor.tokenizer is used")] = None
    num_parallel_workers: Annotated[int | None, Ignored(HOST_DATA, (None, 1))] = None
    python_multiprocessing: Annotated[bool | None, Ignored(HOST_DATA)] = None
    batch_size: Annotated[int | None, Ignored("runner_config.batch_size is used")] = None
    repeat: Annotated[int | None, Only((1,), "runner_config.epochs says how often the data are read")] = None
    numa_enable: Annotated[bool | None, Ignored(HOST_DATA)] = None
    prefetch_size: Annotated[int | None, Ignored(HOST_DATA, (None, 1))] = None
    seed: Annotated[int | None, Ignored("the top-level seed decides the order")] = None
    auto_tune: Annotated[bool | None, Ignored(HOST_DATA)] = None
    filepath_prefix: Annotated[str | None, Ignored(HOST_DATA)] = None
    autotune_per_step: Annotated[int | None, Ignored(HOST_DATA)] = None
    profile: Annotated[bool | None, Ignored(HOST_DATA)] = None
    eod_reset: Annotated[bool | None, Only((False,), DOCUMENTS)] = None
    eod_token_id: Annotated[int | None, Ignored("eod_reset is False")] = None
    dynamic_batch: Annotated[bool | None, Ignored("length_buckets truncates batches of short rows")] = None


class DataLoaderSection(Section):
    """``train_dataset.data_loader``."""

    path: Annotated[str | None, Ignored("dataset_dir or dataset_files says where the data are")] = None
    phase: Annotated[str | None, Ignored("the verb decides")] = None


class DatasetTask(Section):
    """``train_dataset_task``: MindFormers' wrapper around a dataset section."""

    type: Annotated[str, Describes("one kind of dataset")] = "CausalLanguageModelDataset"
