"""The building blocks of WizardCoder, for scripts that import them from here."""

from mindcoder.models.attention import SelfAttention
from mindcoder.models.decoder import Decoder, DecoderLayer
from mindcoder.models.embedding import Embedding
from mindcoder.models.mlp import MLP
from mindcoder.models.norm import Norm

__all__ = ["Decoder", "DecoderLayer", "Embedding", "MLP", "Norm", "SelfAttention"]
