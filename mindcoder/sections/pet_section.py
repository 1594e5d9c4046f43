"""``model.model_config.pet_config``: adapters, under MindFormers' and mindpet's names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mindcoder.sections import mindformers
from mindcoder.sections.section import Count, Ours, Rate, Size


class PetSection(mindformers.PetSection):
    """``model.model_config.pet_config``: parameter-efficient fine-tuning.

    ``prefixtuning`` is P-tuning v2 with its projection, under names of its own. ``slora`` loads adapters beside a base
    model for generation, which MindCoder does for any adapter (``--adapter``): it trains nothing.
    """

    pet_type: Literal["lora", "ptuning2", "prefixtuning", "slora"] = Field(
        "lora", description="lora; ptuning2; prefixtuning: ptuning2 with its MLP; slora: adapters for predict"
    )
    pre_seq_len: int = Field(128, ge=16, le=1 << 16, multiple_of=16, description="ptuning2: tokens of the prefix")
    prefix_projection: bool = Field(False, description="ptuning2: learn a two-layer MLP that produces the prefix")
    projection_dim: Size = Field(128, description="ptuning2: hidden size of that MLP")
    dropout_prob: Rate = Field(0.01, description="ptuning2: dropout rate on the prefix")
    prefix_token_num: int = Field(
        128, ge=16, le=1 << 16, multiple_of=16, description="prefixtuning: tokens of the prefix"
    )
    mid_dim: Size = Field(512, description="prefixtuning: hidden size of the MLP")
    dropout_rate: Rate = Field(0.01, description="prefixtuning: dropout rate on the prefix")
    lora_rank: Count = Field(8, description="lora: rank of the two matrices A and B")
    lora_alpha: float = Field(16, gt=0, le=1e6, description="lora: the product B A is scaled by lora_alpha / lora_rank")
    lora_dropout: Rate = Field(0.01, description="lora: dropout rate on the input of A")
    target_modules: str | list[str] | None = Field(
        None, description="lora: patterns of the linear layers that get an adapter; default: attention"
    )
    exclude_layers: str | list[str] | None = Field(None, description="lora: patterns of linear layers that get none")
    use_rslora: Annotated[bool, Ours()] = Field(
        False, description="lora: scale by lora_alpha / sqrt(lora_rank) (rsLoRA)"
    )
    loraplus_lr_ratio: Annotated[float, Ours()] = Field(
        1.0, gt=0, le=1e6, description="lora: learning rate of B divided by that of A (LoRA+)"
    )
    use_dora: Annotated[bool, Ours()] = Field(
        False, description="lora: learn the norms of the weights' rows apart from their directions (DoRA)"
    )


PREFIX_TYPES = ("ptuning2", "prefixtuning")
PET_KEYS = {  # keys of each pet_type; a key of another type has no effect
    "lora": ("lora_", "target_modules", "exclude_layers", "use_rslora", "loraplus_lr_ratio", "use_dora"),
    "ptuning2": ("pre_seq_len", "prefix_projection", "projection_dim", "dropout_prob"),
    "prefixtuning": ("prefix_token_num", "mid_dim", "dropout_rate"),
    "slora": ("adapter_path",),
}
