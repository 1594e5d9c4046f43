"""``model`` and ``processor``: architecture, generation and tokenizer, under MindFormers' names."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mindcoder.config.section import Section

DtypeName = Literal["float32", "float16", "bfloat16"]


class ModelConfigSection(Section):
    """``model.model_config``: the architecture and how to generate with it."""

    type: Literal["WizardCoderConfig"] = "WizardCoderConfig"
    batch_size: int = Field(1, ge=1, description="sequences generated together")
    seq_length: int = Field(1024, ge=2)
    vocab_size: int = Field(49153, ge=1)
    hidden_size: int = Field(6144, ge=1)
    num_layers: int = Field(40, ge=1)
    num_heads: int = Field(48, ge=1)
    multi_query: bool = True
    n_kv_heads: int | None = Field(None, ge=1, description="wins over multi_query")
    n_position: int = Field(8192, ge=1)
    expand_ratio: int = Field(4, ge=1)
    intermediate_size: int | None = Field(None, ge=1, description="wins over expand_ratio")
    hidden_act: Literal["gelu", "gelu_pytorch_tanh", "gelu_tanh", "fast_gelu"] = "gelu"
    layernorm_epsilon: float = Field(1e-5, gt=0)
    initializer_range: float = Field(0.02, gt=0)
    dropout_prob: float | None = Field(None, ge=0, lt=1, description="default of the three rates below")
    embedding_dropout_prob: float | None = Field(None, ge=0, lt=1)
    hidden_dropout_prob: float | None = Field(None, ge=0, lt=1)
    attention_dropout_prob: float | None = Field(None, ge=0, lt=1)
    hidden_dropout_rate: float | None = Field(None, ge=0, lt=1)
    attention_dropout_rate: float | None = Field(None, ge=0, lt=1)
    param_init_type: DtypeName = "float32"
    compute_dtype: DtypeName = "float32"
    layernorm_dtype: DtypeName | None = None
    layernorm_compute_type: DtypeName | None = None
    softmax_dtype: DtypeName | None = None
    softmax_compute_type: DtypeName | None = None
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0
    pad_token_id: int | None = 49152
    eos_token: int | None = None
    checkpoint_name_or_path: str = ""
    use_past: bool = False
    use_seq_parallel: bool | None = None
    use_select_recompute: bool | None = None
    use_flash_attention: bool | None = None
    use_prompt_flash_attention: bool | None = None
    use_incre_flash_attention: bool | None = None
    block_size: int | None = None
    num_blocks: int | None = None
    is_dynamic: bool | None = None
    offset: int | list[int] | None = None
    max_decode_length: int | None = Field(None, ge=1)
    max_new_tokens: int | None = Field(None, ge=1)
    repetition_penalty: float = Field(1.0, gt=0)
    temperature: float = Field(1.0, gt=0)
    top_k: int = Field(0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    do_sample: bool = False


class ArchSection(Section):
    """``model.arch``."""

    type: Literal["WizardCoderLMHeadModel"] = "WizardCoderLMHeadModel"


class ModelSection(Section):
    """``model``."""

    settings: ModelConfigSection = Field(default_factory=ModelConfigSection, alias="model_config")
    arch: ArchSection = ArchSection()


class TokenizerSection(Section):
    """``processor.tokenizer``."""

    type: Literal["WizardCoderTokenizer", "StarCoderTokenizer"] = "WizardCoderTokenizer"
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


class ProcessorSection(Section):
    """``processor``."""

    type: str = "GPTProcessor"
    return_tensors: str = "ms"
    tokenizer: TokenizerSection = TokenizerSection()
    image_processor: dict[str, Any] | None = None
    audio_processor: dict[str, Any] | None = None
