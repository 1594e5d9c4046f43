"""Mistral in GGUF files: llama.cpp writes it as Llama, and what it reads so is Llama to us too.

llama.cpp applies no sliding window to that architecture, so a network with one is not written.
"""

from __future__ import annotations

from dataclasses import replace

from mindcoder.families.llama.gguf import FORM as LLAMA

FORM = replace(LLAMA, is_read=False)
