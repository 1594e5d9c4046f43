"""``model`` and ``processor``: architecture, generation and tokenizer, under MindFormers' names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, model_validator

from mindcoder.config import mindformers
from mindcoder.config.section import Count, Describes, Layers, Rate, Section, Size, TokenId

DtypeName = Literal["float32", "float16", "bfloat16"]


class PetSection(mindformers.PetSection):
    """``model.model_config.pet_config``: parameter-efficient fine-tuning.

    ``prefixtuning`` is P-tuning v2 with its projection, under names of its own. ``slora`` loads adapters beside a base
    model for generation, which MindCoder does for any adapter (``--adapter``): it trains nothing.
    """

    pet_type: Literal["lora", "ptuning2", "prefixtuning", "slora"] = "lora"
    pre_seq_len: int = Field(128, ge=16, le=1 << 16, multiple_of=16, description="ptuning2: length of the prefix")
    prefix_projection: bool = Field(False, description="ptuning2: learn a two-layer MLP that produces the prefix")
    projection_dim: Size = Field(128, description="ptuning2: hidden size of that MLP")
    dropout_prob: Rate = Field(0.01, description="ptuning2: dropout rate on the prefix")
    prefix_token_num: int = Field(
        128, ge=16, le=1 << 16, multiple_of=16, description="prefixtuning: length of the prefix"
    )
    mid_dim: Size = Field(512, description="prefixtuning: hidden size of the MLP that produces the prefix")
    dropout_rate: Rate = Field(0.01, description="prefixtuning: dropout rate on the prefix")
    lora_rank: Count = 8
    lora_alpha: float = Field(16, gt=0, le=1e6)
    lora_dropout: Rate = 0.01
    target_modules: str | list[str] | None = Field(None, description="patterns; default: the attention's layers")
    exclude_layers: str | list[str] | None = None
    use_rslora: bool = Field(False, description="scale by alpha / sqrt(rank) instead of alpha / rank")
    loraplus_lr_ratio: float = Field(1.0, gt=0, le=1e6, description="learning rate of B divided by that of A (LoRA+)")
    use_dora: bool = Field(
        False, description="learn the norms of the weights' rows separately from their directions (DoRA)"
    )


PREFIX_TYPES = ("ptuning2", "prefixtuning")
PET_KEYS = {  # keys of each pet_type; a key of another type has no effect
    "lora": ("lora_", "target_modules", "exclude_layers", "use_rslora", "loraplus_lr_ratio", "use_dora"),
    "ptuning2": ("pre_seq_len", "prefix_projection", "projection_dim", "dropout_prob"),
    "prefixtuning": ("prefix_token_num", "mid_dim", "dropout_rate"),
    "slora": ("adapter_path",),
}


class DecoderSection(mindformers.DecoderSection):
    """Keys of ``model.model_config`` that all families share: sizes, dtypes, token ids and generation parameters."""

    type: str
    batch_size: Count = Field(1, description="sequences generated together")
    seq_length: int = Field(1024, ge=2, le=1 << 24)
    vocab_size: Size = 49153
    make_vocab_size_divisible_by: Count = Field(
        1, description="pad embedding and head to a multiple of this, with rows that stay zero"
    )
    hidden_size: Size
    num_layers: Layers
    num_heads: Count
    n_kv_heads: Count | None = Field(None, description="default: num_heads")
    intermediate_size: Size | None = None
    initializer_range: float | None = Field(
        None, gt=0, le=100, description="initial standard deviation of weights; default 0.02"
    )
    dropout_prob: Rate | None = Field(None, description="default of the other rates")
    attention_probs_dropout_prob: Rate | None = Field(None, description="on attention probabilities")
    attention_dropout_prob: Rate | None = Field(None, description="the same under another name")
    attention_dropout_rate: Rate | None = Field(None, description="the same under another name")
    param_init_type: DtypeName = "float32"
    embedding_init_type: DtypeName | None = Field(
        None, description="dtype of the token embedding; default: param_init_type"
    )
    compute_dtype: DtypeName = "float32"
    layernorm_dtype: DtypeName | None = None
    layernorm_compute_type: DtypeName | None = None
    layernorm_compute_dtype: DtypeName | None = None
    softmax_dtype: DtypeName | None = None
    softmax_compute_type: DtypeName | None = None
    softmax_compute_dtype: DtypeName | None = None
    bos_token_id: TokenId | None = 0
    eos_token_id: TokenId | list[TokenId] | None = 0
    pad_token_id: TokenId | None = None
    eos_token: TokenId | None = Field(None, description="eos_token_id under WizardCoder's name")
    pad_token: TokenId | None = Field(None, description="pad_token_id under WizardCoder's name")
    checkpoint_name_or_path: str = Field("", description="used as load_checkpoint if that is empty and the path exists")
    use_seq_parallel: bool | None = None
    block_size: Count | None = Field(None, description="tokens per KV cache block; default 16")
    num_blocks: Size | None = Field(None, description="KV cache blocks; default: all that the batch can need")
    offset: int | list[int] | None = None
    max_decode_length: Size | None = None
    max_new_tokens: Size | None = None
    repetition_penalty: float = Field(1.0, gt=0, le=1e6)
    temperature: float = Field(1.0, gt=0, le=1e6)
    top_k: int = Field(0, ge=0, le=1 << 24)
    top_p: float = Field(1.0, gt=0, le=1)
    do_sample: bool = False
    pet_config: PetSection | None = None

    @property
    def kv_heads(self) -> int:
        """Number of key/value heads."""
        return self.n_kv_heads or self.num_heads

    @property
    def inner_size(self) -> int:
        """Intermediate size of the MLP."""
        return self.intermediate_size or 4 * self.hidden_size

    @property
    def position_limit(self) -> int | None:
        """Maximum sequence length of learned positions; None with rotary positions."""
        return None

    @property
    def dropout(self) -> float:
        """Default dropout rate."""
        return self.dropout_prob or 0.0

    @property
    def attention_dropout(self) -> float:
        """Dropout rate on attention probabilities."""
        return first_given(
            self.attention_probs_dropout_prob,
            self.attention_dropout_prob,
            self.attention_dropout_rate,
            default=self.dropout,
        )

    @property
    def norm_dtype(self) -> DtypeName:
        """Compute dtype of the norms."""
        return self.layernorm_dtype or self.layernorm_compute_type or self.layernorm_compute_dtype or "float32"

    @property
    def attention_softmax_dtype(self) -> DtypeName:
        """Compute dtype of the attention softmax."""
        return self.softmax_dtype or self.softmax_compute_type or self.softmax_compute_dtype or "float32"

    @property
    def given_pad_id(self) -> int | None:
        """The padding token as given in the file."""
        return self.pad_token if self.pad_token is not None else self.pad_token_id

    @property
    def pad_is_outside(self) -> bool:
        """Whether the padding token is one that MindFormers' tokenizer appends to the vocabulary (Llama 1's files)."""
        return False

    @property
    def pad_id(self) -> int | None:
        """The padding token; None if the model has none."""
        return None if self.pad_is_outside else self.given_pad_id

    @property
    def eos_ids(self) -> list[int]:
        """End-of-sequence tokens; empty if the model has none."""
        given = self.eos_token_id if self.eos_token is None else self.eos_token
        return [] if given is None else given if isinstance(given, list) else [given]

    @property
    def weight_deviation(self) -> float:
        """Initial standard deviation of the weight matrices."""
        return self.initializer_range if self.initializer_range is not None else 0.02

    @property
    def embedding_deviation(self) -> float:
        """Initial standard deviation of the token and position embeddings."""
        return self.weight_deviation


# Aliases: a file may give several of these if they have the same value.
SAME_THING = (
    ("attention_probs_dropout_prob", "attention_dropout_prob", "attention_dropout_rate"),
    ("hidden_dropout_prob", "hidden_dropout_rate"),
    ("layernorm_dtype", "layernorm_compute_type", "layernorm_compute_dtype"),
    ("softmax_dtype", "softmax_compute_type", "softmax_compute_dtype"),
    ("pad_token_id", "pad_token"),
    ("eos_token_id", "eos_token"),
    ("initializer_range", "init_method_std"),
)


def first_given(*values: float | None, default: float) -> float:
    """The first value that is not None."""
    return next((value for value in values if value is not None), default)


class ResidualDropout(Section):
    """Dropout keys of the families with dropout on embeddings and residual branches."""

    embedding_dropout_prob: Rate | None = None
    hidden_dropout_prob: Rate | None = None
    hidden_dropout_rate: Rate | None = None
    hidden_act: Literal["gelu", "gelu_pytorch_tanh", "gelu_tanh", "gelu_erf", "fast_gelu"] = Field(
        "gelu",
        description="gelu is the tanh form, as in MindSpore, gelu_erf the exact one, fast_gelu x * sigmoid(1.702 x)",
    )
    layernorm_epsilon: float = Field(1e-5, gt=0, le=1)


class ModelConfigSection(DecoderSection, ResidualDropout):
    """``model.model_config`` of StarCoder and WizardCoder (GPT-BigCode); the defaults are WizardCoder-15B's."""

    type: Literal["WizardCoderConfig", "StarCoderConfig"] = "WizardCoderConfig"
    hidden_size: Size = 6144
    num_layers: Layers = 40
    num_heads: Count = 48
    multi_query: bool = Field(True, description="overridden by n_kv_heads")
    n_position: Size = 8192
    expand_ratio: int = Field(4, ge=1, le=1024, description="overridden by intermediate_size")
    pad_token_id: TokenId | None = 49152
    embedding_initializer_range: float = Field(
        0.01,
        gt=0,
        le=100,
        description="initial standard deviation of token and position embeddings; always MindFormers' default",
    )

    @property
    def kv_heads(self) -> int:
        """Number of key/value heads."""
        return self.n_kv_heads or (1 if self.multi_query else self.num_heads)

    @property
    def inner_size(self) -> int:
        """Intermediate size of the MLP."""
        return self.intermediate_size or self.expand_ratio * self.hidden_size

    @property
    def position_limit(self) -> int | None:
        """Rows of the learned position embedding."""
        return self.n_position

    @property
    def embedding_deviation(self) -> float:
        """Initial standard deviation of the token and position embeddings.

        MindFormers' WizardCoderEmbeddingLayer initializes both with ``initializer("normal")``, whose deviation is 0.01
        (research/wizardcoder/wizardcoder.py, branch r1.1.0); it does not read ``initializer_range``.
        """
        return self.embedding_initializer_range


class ScalingFactors(Section):
    """``scaling_factor`` with ``extend_method: LLAMA3``."""

    factor: float = Field(gt=0, le=1e6)
    original_max_position_embeddings: Size
    low_freq_factor: float = Field(1.0, gt=0)
    high_freq_factor: float = Field(4.0, gt=0)


class RotarySection(DecoderSection, mindformers.RotarySection):
    """Keys of the families with rotary positions, under the names of MindFormers' LlamaConfig."""

    max_position_embedding: Size | None = Field(None, description="context length in pretraining; default: seq_length")
    theta: float = Field(10000.0, gt=0, le=1e12)
    extend_method: Literal["None", "PI", "linear", "DYNAMIC_NTK", "LLAMA3"] = "None"
    scaling_factor: Annotated[float, Field(gt=0, le=1e6)] | ScalingFactors = 1.0
    pretrain_seqlen: Size | None = Field(None, description="r0.7's way to scale; refused beside an extend_method")
    head_dim: Count | None = Field(None, description="default: hidden_size / num_heads")
    init_method_std: float | None = Field(None, gt=0, le=100, description="MindFormers' name of initializer_range")

    @property
    def context_length(self) -> int:
        """Context length the model was trained with."""
        return self.max_position_embedding or self.seq_length

    @property
    def weight_deviation(self) -> float:
        """Initial standard deviation of the weight matrices and embeddings."""
        return first_given(self.init_method_std, self.initializer_range, default=0.02)


class StarCoder2Section(RotarySection, ResidualDropout):
    """``model.model_config`` of StarCoder2; the defaults are StarCoder2-3B's."""

    type: Literal["StarCoder2Config"]
    vocab_size: Size = 49152
    hidden_size: Size = 3072
    num_layers: Layers = 30
    num_heads: Count = 24
    n_kv_heads: Count | None = 2
    intermediate_size: Size | None = Field(None, description="default: 4 * hidden_size")
    sliding_window: Size | None = Field(None, description="number of tokens a token attends to, itself included")
    use_bias: bool = True
    tie_word_embeddings: bool = True


class LlamaSection(RotarySection, mindformers.LlamaSection):
    """``model.model_config`` of Llama, Code Llama and WizardCoder-Python; the defaults are Llama-7B's."""

    type: Literal["LlamaConfig", "CodeLlamaConfig"]
    vocab_size: Size = 32000
    hidden_size: Size = 4096
    num_layers: Layers = 32
    num_heads: Count = 32
    multiple_of: Count = 256
    ffn_dim_multiplier: float | None = Field(None, gt=0, le=1024)
    hidden_act: Annotated[Literal["silu", "swish"], Describes("two names of one function")] = "silu"
    rms_norm_eps: float = Field(1e-5, gt=0, le=1)
    qkv_has_bias: bool = False
    attn_proj_has_bias: bool = False
    mlp_has_bias: bool = False
    tie_word_embeddings: bool = False
    bos_token_id: TokenId | None = 1
    eos_token_id: TokenId | list[TokenId] | None = 2
    pad_token_id: TokenId | None = 0

    @property
    def pad_is_outside(self) -> bool:
        """Whether the padding token is one that MindFormers' tokenizer appends to the vocabulary (Llama 1's files)."""
        return self.given_pad_id == self.vocab_size

    @property
    def weight_deviation(self) -> float:
        """Initial standard deviation of the weight matrices and embeddings; MindFormers' default of init_method_std
        is 0.01.
        """
        return first_given(self.init_method_std, self.initializer_range, default=0.01)

    @property
    def inner_size(self) -> int:
        """Two thirds of 4 H, times ``ffn_dim_multiplier``, rounded up to ``multiple_of`` (Llama's reference code)."""
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


LLAMA_VARIANTS = ("ParallelLlamaForCausalLM", "LlamaForCausalLMWithLora")


class ArchPet(Section):
    """``model.arch.pet``."""

    pet_type: Literal["lora"] = "lora"
    pet_config: PetSection = PetSection()


class ArchSection(Section):
    """``model.arch``; must name the class that belongs to ``model_config.type``."""

    type: (
        Literal[
            "WizardCoderLMHeadModel",
            "StarCoderLMHeadModel",
            "StarCoder2ForCausalLM",
            "LlamaForCausalLM",
            "ParallelLlamaForCausalLM",
            "LlamaForCausalLMWithLora",
        ]
        | None
    ) = None
    pet: ArchPet | None = Field(None, description="r0.6's place of model_config.pet_config")

    @property
    def model_class(self) -> str | None:
        """The class name without layout and adapter suffixes, which are configured elsewhere."""
        return "LlamaForCausalLM" if self.type in LLAMA_VARIANTS else self.type


class ModelSection(Section):
    """``model``."""

    settings: Annotated[AnyModelSection, Discriminator("type")] = Field(
        default_factory=ModelConfigSection, alias="model_config"
    )
    arch: ArchSection = ArchSection()

    @model_validator(mode="before")
    @classmethod
    def _default_type(cls, data: Any) -> Any:
        """A ``model_config`` without ``type`` is WizardCoder's, which once was the only one."""
        settings = data.get("model_config") if isinstance(data, dict) else None
        if isinstance(settings, dict) and "type" not in settings:
            return {**data, "model_config": {"type": "WizardCoderConfig", **settings}}
        return data


class TokenizerSection(mindformers.TokenizerSection):
    """``processor.tokenizer``."""

    type: Annotated[
        Literal[
            "WizardCoderTokenizer",
            "StarCoderTokenizer",
            "StarCoder2Tokenizer",
            "LlamaTokenizer",
            "LlamaTokenizerFast",
            "LLaMATokenizer",
            "LlamaProcessor",
            "Llama3Tokenizer",
            "CodeLlamaTokenizer",
            "CodeLlamaTokenizerFast",
        ],
        Describes("the vocabulary's file says what it is"),
    ] = "WizardCoderTokenizer"
    vocab_file: str | None = None
    merge_file: str | None = None
    merges_file: str | None = None
    tokenizer_file: str | None = None
    pad_token: str | None = None
    add_bos_token: bool | None = None

    @property
    def is_given(self) -> bool:
        """Whether the file or a flag names a tokenizer."""
        return bool(self.vocab_file or self.tokenizer_file)


class ProcessorSection(mindformers.ProcessorSection):
    """``processor``."""

    prompt_template: Literal["wizardcoder", "starcoder2-instruct", "llama2-chat", "plain"] = "wizardcoder"
    tokenizer: TokenizerSection = TokenizerSection()
