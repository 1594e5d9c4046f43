"""Reader of GGUF files: llama.cpp's format, with metadata, tokenizer and quantized tensors in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mindcoder.checkpoint.gguf.header import read_header
from mindcoder.checkpoint.gguf.location import gguf_file
from mindcoder.checkpoint.gguf.network import family_of_architecture, read_network
from mindcoder.checkpoint.gguf.tensor import stored_tensor
from mindcoder.checkpoint.gguf.text_input import text_files, text_format, token_ids
from mindcoder.checkpoint.huggingface_names import plans_to_ours
from mindcoder.checkpoint.plan import FoundPlans
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class GgufWeights(Weights):
    """Weights of a file; what is quantized in it is float32 to those who read it."""

    kind = "gguf"
    title = "GGUF file"

    @classmethod
    def open(cls, path: Path) -> GgufWeights | None:
        """Open a file, or a folder with exactly one; None if it is none.

        Raises:
            UserError: it is damaged or describes another network than ours, or the folder holds several.
        """
        file = gguf_file(path)
        if file is None:
            return None
        header = read_header(file)
        family_of_architecture(header.metadata.get("general.architecture"), file)
        tensors = {name: stored_tensor(info, file) for name, info in header.tensors.items()}
        config = read_network(header, tensors, token_ids(header.metadata, file), file)
        return cls(
            path=path,
            config=config,
            tensors=tensors,
            companions=text_files(header.metadata, file),
            text_format=text_format(header.metadata, file),
        )

    def find_plans(self, config: TransformerConfig) -> FoundPlans:
        """The parameters by the family's names in GGUF."""
        form = family_of(config.model_type).gguf
        assert form is not None
        return plans_to_ours(self.tensors, config, form.weights)
