"""Keys of ``model.model_config`` that families share: sizes, dtypes, token ids, dropout and generation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from mindcoder.sections import mindformers
from mindcoder.sections.pet_section import PetSection
from mindcoder.sections.section import Count, Layers, Ours, Rate, Section, Size, TokenId

DtypeName = Literal["float32", "float16", "bfloat16"]


class DecoderSection(mindformers.DecoderSection):
    """Keys of ``model.model_config`` that all families share: sizes, dtypes, token ids and generation parameters."""

    type: str = Field(description="family")
    batch_size: Count = Field(1, description="texts that predict generates together")
    seq_length: int = Field(
        1024, ge=2, le=1 << 24, description="tokens per training sequence; longest text when generating"
    )
    vocab_size: Size = Field(49153, description="tokens in the vocabulary, padding token included")
    make_vocab_size_divisible_by: Annotated[Count, Ours()] = Field(
        1, description="pad token embedding and head to a multiple of this, with rows that stay zero"
    )
    hidden_size: Size = Field(description="features per token (H)")
    num_layers: Layers = Field(description="decoder layers (L)")
    num_heads: Count = Field(description="query heads (N)")
    n_kv_heads: Count | None = Field(None, description="key/value heads (K); default: num_heads")
    intermediate_size: Size | None = Field(
        None, description="intermediate size of the MLP (F); default: by the family's rule"
    )
    initializer_range: float | None = Field(
        None, gt=0, le=100, description="standard deviation of the initial weights; default: 0.02, Llama: 0.01"
    )
    dropout_prob: Rate | None = Field(None, description="dropout rate of all that has no rate of its own; default: 0")
    attention_probs_dropout_prob: Rate | None = Field(
        None, description="dropout rate on the attention probabilities; default: dropout_prob"
    )
    attention_dropout_prob: Rate | None = Field(None, description="another name of attention_probs_dropout_prob")
    attention_dropout_rate: Rate | None = Field(None, description="another name of attention_probs_dropout_prob")
    param_init_type: DtypeName = Field("float32", description="dtype in which weights are kept")
    embedding_init_type: DtypeName | None = Field(
        None, description="dtype of the token embedding; default: param_init_type"
    )
    compute_dtype: DtypeName = Field(
        "float32", description="dtype of the matrix products; on CPU bfloat16 only rounds their factors"
    )
    layernorm_dtype: DtypeName | None = Field(None, description="dtype in which norms are computed; default: float32")
    layernorm_compute_type: DtypeName | None = Field(None, description="another name of layernorm_dtype")
    layernorm_compute_dtype: DtypeName | None = Field(None, description="another name of layernorm_dtype")
    softmax_dtype: DtypeName | None = Field(
        None, description="accepted as MindFormers has it; the softmax of flash attention is float32"
    )
    softmax_compute_type: DtypeName | None = Field(None, description="another name of softmax_dtype")
    softmax_compute_dtype: DtypeName | None = Field(None, description="another name of softmax_dtype")
    bos_token_id: TokenId | None = Field(0, description="token that begins a text")
    eos_token_id: TokenId | list[TokenId] | None = Field(0, description="token that ends a text, or several")
    pad_token_id: TokenId | None = Field(None, description="token that fills batches up; none: the model has none")
    eos_token: TokenId | None = Field(None, description="another name of eos_token_id, WizardCoder's")
    pad_token: TokenId | None = Field(None, description="another name of pad_token_id, WizardCoder's")
    checkpoint_name_or_path: str = Field("", description="used as load_checkpoint if that is empty and the path exists")
    use_seq_parallel: bool | None = Field(
        None, description="the same as parallel_config.use_seq_parallel; either turns it on"
    )
    block_size: Count | None = Field(None, description="tokens per block of the KV cache; default: 16")
    num_blocks: Size | None = Field(None, description="blocks of the KV cache; default: all that the batch can need")
    offset: int | list[int] | None = Field(
        None, description="layers more or fewer than the even share, per pipeline stage"
    )
    max_decode_length: Size | None = Field(
        None, description="longest prompt and answer together, in tokens; default: seq_length"
    )
    max_new_tokens: Size | None = Field(None, description="longest answer in tokens; default: up to max_decode_length")
    repetition_penalty: float = Field(
        1.0, gt=0, le=1e6, description="above 1: lower the scores of tokens that are already in the text; 1: off"
    )
    temperature: float = Field(1.0, gt=0, le=1e6, description="divides the logits before sampling")
    top_k: int = Field(0, ge=0, le=1 << 24, description="sample among this many most probable tokens; 0: all")
    top_p: float = Field(
        1.0, gt=0, le=1, description="sample among the most probable tokens whose probabilities add up to this; 1: all"
    )
    do_sample: bool = Field(False, description="sample; otherwise the most probable token (greedy)")
    pet_config: PetSection | None = Field(
        None, description="adapter (parameter-efficient fine-tuning); default: all weights are trained"
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Key and message of every value that contradicts another; families add theirs."""
        yield from ()

    @property
    def kv_heads(self) -> int:
        """Number of key/value heads."""
        return self.n_kv_heads or self.num_heads

    @property
    def ffn_hidden_size(self) -> int:
        """Intermediate size of the MLP."""
        return self.intermediate_size or 4 * self.hidden_size

    @property
    def max_positions(self) -> int | None:
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
    def init_std(self) -> float:
        """Initial standard deviation of the weight matrices."""
        return self.initializer_range if self.initializer_range is not None else 0.02

    @property
    def embedding_init_std(self) -> float:
        """Initial standard deviation of the token and position embeddings."""
        return self.init_std


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

    embedding_dropout_prob: Rate | None = Field(
        None, description="dropout rate on the embedding; default: dropout_prob"
    )
    hidden_dropout_prob: Rate | None = Field(
        None, description="dropout rate on what a layer adds; default: dropout_prob"
    )
    hidden_dropout_rate: Rate | None = Field(None, description="another name of hidden_dropout_prob")
    hidden_act: Literal["gelu", "gelu_pytorch_tanh", "gelu_tanh", "gelu_erf", "fast_gelu"] = Field(
        "gelu",
        description="gelu: tanh form; gelu_erf: exact (Hugging Face's gelu); fast_gelu: x * sigmoid(1.702 x)",
    )
    layernorm_epsilon: float = Field(1e-5, gt=0, le=1, description="added to the variance in layer norms")
