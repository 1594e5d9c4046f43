"""Files that accompany weights: tokenizer, generation settings, the original config.json."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindcoder.files import file_there, read_json_object

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
    "chat_template.json",
)
GENERATION_FILE = "generation_config.json"
# config.json under another name, so that our folder is not mistaken for Hugging Face's
ORIGINAL_CONFIG = "huggingface_config.json"


def find_companions(folder: Path) -> dict[str, Path]:
    """The companion files in ``folder``, by file name."""
    return {name: folder / name for name in (*TOKENIZER_FILES, GENERATION_FILE) if file_there(folder / name)}


def find_original_config(folder: Path) -> Mapping[str, Any] | None:
    """The original config.json that `copy_companions` has stored in ``folder``.

    Raises:
        UserError: it is damaged.
    """
    file = folder / ORIGINAL_CONFIG
    return read_json_object(file) if file_there(file) else None


def copy_companions(companions: Mapping[str, Path], original: Mapping[str, Any] | None, folder: Path) -> None:
    """Copy them into ``folder``, the original config.json under its other name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in companions.items():
        if path.resolve() != (folder / name).resolve():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, folder / name)
    if original is not None:
        (folder / ORIGINAL_CONFIG).write_text(json.dumps(original, indent=2) + "\n", encoding="utf-8")
