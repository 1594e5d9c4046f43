"""``model`` and ``processor``: architecture, generation and tokenizer, under MindFormers' names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, model_validator

from mindcoder.config.section import Section

DtypeName = Literal["float32", "float16", "bfloat16"]


class PetSection(Section):
    """``model.model_config.pet_config``: what is trained instead of all weights."""

    pet_type: Literal["lora", "ptuning2"] = "lora"
    pre_seq_len: int = Field(128, ge=16, multiple_of=16, description="ptuning2: length of the prefix")
    prefix_projection: bool = Field(False, description="ptuning2: learn two layers that make the prefix")
    projection_dim: int = Field(128, ge=1, description="ptuning2: features between them")
    dropout_prob: float = Field(0.01, ge=0, lt=1, description="ptuning2: rate on the prefix")
    lora_rank: int = Field(8, ge=1)
    lora_alpha: float = Field(16, gt=0)
    lora_dropout: float = Field(0.01, ge=0, lt=1)
    target_modules: str | list[str] | None = Field(None, description="patterns; default: the attention's layers")
    exclude_layers: str | list[str] | None = None
    use_rslora: bool = Field(False, description="scale by alpha / sqrt(rank) instead of alpha / rank")
    loraplus_lr_ratio: float = Field(1.0, gt=0, description="learning rate of B over that of A")
    use_dora: bool = Field(False, description="learn the lengths of the weights' rows beside their directions")
    lora_a_init: str | None = None
    lora_b_init: str | None = None
    param_init_type: DtypeName | None = None
    compute_dtype: DtypeName | None = None
    freeze_include: list[str] | None = None
    freeze_exclude: list[str] | None = None


class DecoderSection(Section):
    """What ``model.model_config`` holds for every family: sizes, dtypes, token ids and how to generate."""

    type: str
    batch_size: int = Field(1, ge=1, description="sequences generated together")
    seq_length: int = Field(1024, ge=2)
    vocab_size: int = Field(49153, ge=1)
    make_vocab_size_divisible_by: int = Field(1, ge=1, description="pads the token tables with rows that stay zero")
    hidden_size: int = Field(ge=1)
    num_layers: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    n_kv_heads: int | None = Field(None, ge=1, description="default: num_heads")
    intermediate_size: int | None = Field(None, ge=1)
    initializer_range: float = Field(0.02, gt=0)
    dropout_prob: float | None = Field(None, ge=0, lt=1, description="default of the other rates")
    attention_dropout_prob: float | None = Field(None, ge=0, lt=1)
    attention_dropout_rate: float | None = Field(None, ge=0, lt=1)
    param_init_type: DtypeName = "float32"
    compute_dtype: DtypeName = "float32"
    layernorm_dtype: DtypeName | None = None
    layernorm_compute_type: DtypeName | None = None
    softmax_dtype: DtypeName | None = None
    softmax_compute_type: DtypeName | None = None
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0
    pad_token_id: int | None = None
    eos_token: int | None = None
    ignore_token_id: Literal[-100] = -100
    checkpoint_name_or_path: str = ""
    use_past: bool = False
    use_seq_parallel: bool | None = None
    use_select_recompute: bool | None = None
    use_flash_attention: bool | None = None
    use_prompt_flash_attention: bool | None = None
    use_incre_flash_attention: bool | None = None
    block_size: int | None = Field(None, ge=1, description="tokens of a cache block; default 16")
    num_blocks: int | None = Field(None, ge=1, description="cache blocks; default: all that the batch can need")
    is_dynamic: bool | None = None
    offset: int | list[int] | None = None
    max_decode_length: int | None = Field(None, ge=1)
    max_new_tokens: int | None = Field(None, ge=1)
    repetition_penalty: float = Field(1.0, gt=0)
    temperature: float = Field(1.0, gt=0)
    top_k: int = Field(0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    do_sample: bool = False
    pet_config: PetSection | None = None

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.n_kv_heads or self.num_heads

    @property
    def inner_size(self) -> int:
        """Features between the MLP's products."""
        return self.intermediate_size or 4 * self.hidden_size

    @property
    def position_limit(self) -> int | None:
        """Longest text the positions allow; None where they are computed."""
        return None

    @property
    def dropout(self) -> float:
        """Default of the dropout rates."""
        return self.dropout_prob or 0.0

    @property
    def attention_dropout(self) -> float:
        """Rate on attention probabilities."""
        return first_given(self.attention_dropout_prob, self.attention_dropout_rate, default=self.dropout)


def first_given(*values: float | None, default: float) -> float:
    """The first value that is not None."""
    return next((value for value in values if value is not None), default)


class ResidualDropout(Section):
    """Dropout keys of the families that drop embeddings and residual branches."""

    embedding_dropout_prob: float | None = Field(None, ge=0, lt=1)
    hidden_dropout_prob: float | None = Field(None, ge=0, lt=1)
    hidden_dropout_rate: float | None = Field(None, ge=0, lt=1)
    hidden_act: Literal["gelu", "gelu_pytorch_tanh", "gelu_tanh", "fast_gelu"] = "gelu"
    layernorm_epsilon: float = Field(1e-5, gt=0)


class ModelConfigSection(DecoderSection, ResidualDropout):
    """``model.model_config`` of StarCoder and WizardCoder (GPT-BigCode); the defaults are WizardCoder-15B."""

    type: Literal["WizardCoderConfig", "StarCoderConfig"] = "WizardCoderConfig"
    hidden_size: int = Field(6144, ge=1)
    num_layers: int = Field(40, ge=1)
    num_heads: int = Field(48, ge=1)
    multi_query: bool = Field(True, description="n_kv_heads wins over it")
    n_position: int = Field(8192, ge=1)
    expand_ratio: int = Field(4, ge=1, description="intermediate_size wins over it")
    pad_token_id: int | None = 49152

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.n_kv_heads or (1 if self.multi_query else self.num_heads)

    @property
    def inner_size(self) -> int:
        """Features between the MLP's products."""
        return self.intermediate_size or self.expand_ratio * self.hidden_size

    @property
    def position_limit(self) -> int | None:
        """Rows of the learned position table."""
        return self.n_position


class ScalingFactors(Section):
    """``scaling_factor`` with ``extend_method: LLAMA3``."""

    factor: float = Field(gt=0)
    original_max_position_embeddings: int = Field(ge=1)
    low_freq_factor: float = Field(1.0, gt=0)
    high_freq_factor: float = Field(4.0, gt=0)


class RotarySection(DecoderSection):
    """Keys of the families with rotary positions, under the names of MindFormers' LlamaConfig."""

    max_position_embedding: int | None = Field(None, ge=1, description="context of the training; default: seq_length")
    theta: float = Field(10000.0, gt=0)
    extend_method: Literal["None", "PI", "linear", "DYNAMIC_NTK", "LLAMA3"] = "None"
    scaling_factor: float | ScalingFactors = 1.0
    rotary_dtype: DtypeName | None = None
    head_dim: int | None = Field(None, ge=1, description="default: hidden_size / num_heads")
    init_method_std: float | None = Field(None, gt=0, description="MindFormers' name of initializer_range")

    @property
    def context_length(self) -> int:
        """Tokens of the context the model was trained with."""
        return self.max_position_embedding or self.seq_length


class StarCoder2Section(RotarySection, ResidualDropout):
    """``model.model_config`` of StarCoder2; the defaults are StarCoder2-3B."""

    type: Literal["StarCoder2Config"]
    vocab_size: int = Field(49152, ge=1)
    hidden_size: int = Field(3072, ge=1)
    num_layers: int = Field(30, ge=1)
    num_heads: int = Field(24, ge=1)
    n_kv_heads: int | None = Field(2, ge=1)
    intermediate_size: int | None = Field(None, ge=1, description="default: 4 * hidden_size")
    sliding_window: int | None = Field(None, ge=1, description="tokens a token looks at, itself included")
    use_bias: bool = True
    tie_word_embeddings: bool = True


class LlamaSection(RotarySection):
    """``model.model_config`` of Llama, Code Llama and WizardCoder-Python; the defaults are Llama-7B."""

    type: Literal["LlamaConfig", "CodeLlamaConfig"]
    vocab_size: int = Field(32000, ge=1)
    hidden_size: int = Field(4096, ge=1)
    num_layers: int = Field(32, ge=1)
    num_heads: int = Field(32, ge=1)
    multiple_of: int = Field(256, ge=1)
    ffn_dim_multiplier: float | None = Field(None, gt=0)
    hidden_act: Literal["silu", "swish"] = "silu"
    rms_norm_eps: float = Field(1e-5, gt=0)
    qkv_has_bias: bool = False
    attn_proj_has_bias: bool = False
    mlp_has_bias: bool = False
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pad_token_id: int | None = 0
    qkv_concat: bool | None = None
    parallel_optimizer: bool | None = None
    use_rope_slice: bool | None = None
    use_ring_attention: bool | None = None
    use_attn_mask_compression: bool | None = None
    use_eod_attn_mask_compression: bool | None = None
    fine_grain_interleave: int | None = None
    pp_interleave_num: int | None = None
    residual_dtype: DtypeName | None = None
    fused_rms_norm: bool | None = None
    input_sliced_sig: bool | None = None
    rmsnorm_compute_2d: bool | None = None
    chunk_prefill: bool | None = None
    calculate_per_token_loss: bool | None = None
    return_hidden_states: bool | None = None
    quant_config: dict[str, Any] | None = None
    llm_backend: str | None = None

    @property
    def inner_size(self) -> int:
        """Two thirds of 4 H, stretched by ``ffn_dim_multiplier``, up to a multiple (Llama's reference code)."""
        if self.intermediate_size:
            return self.intermediate_size
        size = 4 * self.hidden_size
        if self.ffn_dim_multiplier is not None:
            size = int((self.ffn_dim_multiplier + 0.01) * size)
        size = int(2 * size / 3)
        return -(-size // self.multiple_of) * self.multiple_of


AnyModelSection = ModelConfigSection | StarCoder2Section | LlamaSection

ARCHITECTURES = {
    "WizardCoderConfig": "WizardCoderLMHeadModel",
    "StarCoderConfig": "StarCoderLMHeadModel",
    "StarCoder2Config": "StarCoder2ForCausalLM",
    "LlamaConfig": "LlamaForCausalLM",
    "CodeLlamaConfig": "LlamaForCausalLM",
}


class ArchSection(Section):
    """``model.arch``; has to name the class that belongs to ``model_config.type``."""

    type: (
        Literal["WizardCoderLMHeadModel", "StarCoderLMHeadModel", "StarCoder2ForCausalLM", "LlamaForCausalLM"] | None
    ) = None


class ModelSection(Section):
    """``model``."""

    settings: Annotated[AnyModelSection, Discriminator("type")] = Field(
        default_factory=ModelConfigSection, alias="model_config"
    )
    arch: ArchSection = ArchSection()

    @model_validator(mode="before")
    @classmethod
    def _default_type(cls, data: Any) -> Any:
        """A ``model_config`` without ``type`` is WizardCoder's, as it was when there was no other."""
        settings = data.get("model_config") if isinstance(data, dict) else None
        if isinstance(settings, dict) and "type" not in settings:
            return {**data, "model_config": {"type": "WizardCoderConfig", **settings}}
        return data


class TokenizerSection(Section):
    """``processor.tokenizer``."""

    type: Literal[
        "WizardCoderTokenizer",
        "StarCoderTokenizer",
        "StarCoder2Tokenizer",
        "LlamaTokenizer",
        "LlamaTokenizerFast",
        "CodeLlamaTokenizer",
        "CodeLlamaTokenizerFast",
    ] = "WizardCoderTokenizer"
    vocab_file: str | None = None
    merge_file: str | None = None
    merges_file: str | None = None
    tokenizer_file: str | None = None
    unk_token: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    pad_token: str | None = None
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None

    @property
    def is_given(self) -> bool:
        """Whether the file or a flag names a tokenizer."""
        return bool(self.vocab_file or self.tokenizer_file)


class ProcessorSection(Section):
    """``processor``."""

    type: str = "GPTProcessor"
    prompt_template: Literal["wizardcoder", "starcoder2-instruct", "llama2-chat", "plain"] = "wizardcoder"
    return_tensors: str = "ms"
    tokenizer: TokenizerSection = TokenizerSection()
    image_processor: dict[str, Any] | None = None
    audio_processor: dict[str, Any] | None = None
