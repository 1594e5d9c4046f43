"""``model``: the families' keys of ``model.model_config``, and ``model.arch``, under MindFormers' names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, model_validator

from mindcoder.config import mindformers
from mindcoder.config.decoder_section import DecoderSection, ResidualDropout, first_given
from mindcoder.config.pet_section import PetSection
from mindcoder.config.section import Count, Describes, Layers, Ours, Section, Size, TokenId


class ModelConfigSection(DecoderSection, ResidualDropout):
    """``model.model_config`` of StarCoder and WizardCoder (GPT-BigCode); the defaults are WizardCoder-15B's."""

    type: Literal["WizardCoderConfig", "StarCoderConfig"] = Field("WizardCoderConfig", description="family")
    hidden_size: Size = Field(6144, description="features per token (H)")
    num_layers: Layers = Field(40, description="decoder layers (L)")
    num_heads: Count = Field(48, description="query heads (N)")
    multi_query: bool = Field(True, description="one key/value head for all query heads; overridden by n_kv_heads")
    n_position: Size = Field(8192, description="rows of the learned position embedding, the longest sequence")
    expand_ratio: int = Field(
        4,
        ge=1,
        le=1024,
        description="intermediate size of the MLP divided by hidden_size; overridden by intermediate_size",
    )
    pad_token_id: TokenId | None = Field(49152, description="token that fills batches up; none: the model has none")
    embedding_initializer_range: Annotated[float, Ours()] = Field(
        0.01,
        gt=0,
        le=100,
        description="standard deviation of the initial token and position embeddings, MindFormers' by default",
    )

    @property
    def kv_heads(self) -> int:
        """Number of key/value heads."""
        return self.n_kv_heads or (1 if self.multi_query else self.num_heads)

    @property
    def ffn_hidden_size(self) -> int:
        """Intermediate size of the MLP."""
        return self.intermediate_size or self.expand_ratio * self.hidden_size

    @property
    def max_positions(self) -> int | None:
        """Rows of the learned position embedding."""
        return self.n_position

    @property
    def embedding_init_std(self) -> float:
        """Initial standard deviation of the token and position embeddings.

        MindFormers' WizardCoderEmbeddingLayer initializes both with ``initializer("normal")``, whose deviation is 0.01
        (research/wizardcoder/wizardcoder.py, branch r1.1.0); it does not read ``initializer_range``.
        """
        return self.embedding_initializer_range


class ScalingFactors(Section):
    """``scaling_factor`` with ``extend_method: LLAMA3``."""

    factor: float = Field(gt=0, le=1e6, description="how much longer the context becomes")
    original_max_position_embeddings: Size = Field(description="context length before")
    low_freq_factor: float = Field(
        1.0, gt=0, description="wavelengths above the original context divided by this are scaled"
    )
    high_freq_factor: float = Field(
        4.0, gt=0, description="wavelengths below the original context divided by this stay as they are"
    )


class RotarySection(DecoderSection, mindformers.RotarySection):
    """Keys of the families with rotary positions, under the names of MindFormers' LlamaConfig."""

    max_position_embedding: Size | None = Field(
        None, description="context length in pretraining; default: seq_length; texts may be longer"
    )
    theta: float = Field(10000.0, gt=0, le=1e12, description="base of the rotary position embedding (RoPE)")
    extend_method: Literal["None", "PI", "linear", "DYNAMIC_NTK", "LLAMA3"] = Field(
        "None", description="RoPE scaling for longer contexts; PI and linear are the same"
    )
    scaling_factor: Annotated[float, Field(gt=0, le=1e6)] | ScalingFactors = Field(
        1.0, description="how much longer the context becomes; with LLAMA3 a section of factors"
    )
    pretrain_seqlen: Size | None = Field(None, description="r0.7's way to scale; refused beside an extend_method")
    head_dim: Count | None = Field(None, description="features per head (D); default: hidden_size / num_heads")
    init_method_std: float | None = Field(
        None, gt=0, le=100, description="another name of initializer_range, MindFormers'"
    )

    @property
    def context_length(self) -> int:
        """Context length the model was trained with."""
        return self.max_position_embedding or self.seq_length

    @property
    def init_std(self) -> float:
        """Initial standard deviation of the weight matrices and embeddings."""
        return first_given(self.init_method_std, self.initializer_range, default=0.02)


class StarCoder2Section(RotarySection, ResidualDropout):
    """``model.model_config`` of StarCoder2; the defaults are StarCoder2-3B's."""

    type: Literal["StarCoder2Config"] = Field(description="family")
    vocab_size: Size = Field(49152, description="tokens in the vocabulary, padding token included")
    hidden_size: Size = Field(3072, description="features per token (H)")
    num_layers: Layers = Field(30, description="decoder layers (L)")
    num_heads: Count = Field(24, description="query heads (N)")
    n_kv_heads: Count | None = Field(2, description="key/value heads (K)")
    intermediate_size: Size | None = Field(
        None, description="intermediate size of the MLP (F); default: by the family's rule"
    )
    sliding_window: Size | None = Field(
        None, description="tokens that a token attends to, itself included; default: all"
    )
    use_bias: bool = Field(True, description="biases in attention and MLP")
    tie_word_embeddings: bool = Field(True, description="the head uses the token embedding's weights")


class LlamaSection(RotarySection, mindformers.LlamaSection):
    """``model.model_config`` of Llama, Code Llama and WizardCoder-Python; the defaults are Llama-7B's."""

    type: Literal["LlamaConfig", "CodeLlamaConfig"] = Field(description="family; both are the same network")
    vocab_size: Size = Field(32000, description="tokens in the vocabulary, padding token included")
    hidden_size: Size = Field(4096, description="features per token (H)")
    num_layers: Layers = Field(32, description="decoder layers (L)")
    num_heads: Count = Field(32, description="query heads (N)")
    multiple_of: Count = Field(
        256, description="rounds the computed intermediate size up; overridden by intermediate_size"
    )
    ffn_dim_multiplier: float | None = Field(
        None, gt=0, le=1024, description="factor of the computed intermediate size; overridden by intermediate_size"
    )
    hidden_act: Annotated[Literal["silu", "swish"], Describes("two names of one function")] = "silu"
    rms_norm_eps: float = Field(1e-5, gt=0, le=1, description="added to the mean square in RMS norms")
    qkv_has_bias: bool = Field(False, description="biases in the query, key and value projections")
    attn_proj_has_bias: bool = Field(
        False, description="bias in the attention's output projection; equal to qkv_has_bias"
    )
    mlp_has_bias: bool = Field(False, description="biases in the MLP")
    tie_word_embeddings: bool = Field(False, description="the head uses the token embedding's weights")
    bos_token_id: TokenId | None = Field(1, description="token that begins a text")
    eos_token_id: TokenId | list[TokenId] | None = Field(2, description="token that ends a text, or several")
    pad_token_id: TokenId | None = Field(0, description="token that fills batches up; none: the model has none")

    @property
    def pad_is_outside(self) -> bool:
        """Whether the padding token is one that MindFormers' tokenizer appends to the vocabulary (Llama 1's files)."""
        return self.given_pad_id == self.vocab_size

    @property
    def init_std(self) -> float:
        """Initial standard deviation of the weight matrices and embeddings; MindFormers' default of init_method_std
        is 0.01.
        """
        return first_given(self.init_method_std, self.initializer_range, default=0.01)

    @property
    def ffn_hidden_size(self) -> int:
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

    pet_type: Literal["lora"] = Field("lora", description="kind of adapter")
    pet_config: PetSection = Field(PetSection(), description="adapter's keys, as in model_config.pet_config")


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
    ) = Field(None, description="has to be the class that belongs to model_config.type")
    pet: ArchPet | None = Field(None, description="r0.6's place of model_config.pet_config")

    @property
    def model_class(self) -> str | None:
        """The class name without layout and adapter suffixes, which are configured elsewhere."""
        return "LlamaForCausalLM" if self.type in LLAMA_VARIANTS else self.type


class ModelSection(Section):
    """``model``."""

    settings: Annotated[AnyModelSection, Discriminator("type")] = Field(
        default_factory=ModelConfigSection,
        alias="model_config",
        description="sizes, dtypes and generation keys; its type selects the family",
    )
    arch: ArchSection = Field(ArchSection(), description="MindFormers' class of the network")

    @model_validator(mode="before")
    @classmethod
    def _default_type(cls, data: Any) -> Any:
        """A ``model_config`` without ``type`` is WizardCoder's, which once was the only one."""
        settings = data.get("model_config") if isinstance(data, dict) else None
        if isinstance(settings, dict) and "type" not in settings:
            return {**data, "model_config": {"type": "WizardCoderConfig", **settings}}
        return data
