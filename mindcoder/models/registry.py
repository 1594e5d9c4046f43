"""Model families by Hugging Face ``model_type``."""

from __future__ import annotations

from types import ModuleType

from mindcoder.models import gpt_bigcode, llama, starcoder2

FAMILIES: dict[str, ModuleType] = {family.MODEL_TYPE: family for family in (gpt_bigcode, starcoder2, llama)}


def family_of(model_type: str) -> ModuleType:
    """The family module: ``config_from_huggingface``, ``config_to_huggingface`` and ``WEIGHTS``.

    Raises:
        ValueError: no such family.
    """
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ValueError(f"model_type {model_type!r:.60} is not one of {', '.join(FAMILIES)}")
    return FAMILIES[model_type]
