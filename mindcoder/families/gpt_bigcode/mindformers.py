"""GPT-BigCode in MindFormers: StarCoder and WizardCoder."""

from __future__ import annotations

from mindcoder.families.base import MindFormersClasses

CLASSES = (
    MindFormersClasses(
        "WizardCoderConfig",
        config="WizardCoderConfig",
        model="WizardCoderLMHeadModel",
        tokenizer="WizardCoderTokenizer",
        model_type="wizardcoder",
        # From mindspore-lab/mindformers r1.1.0, research/wizardcoder/wizardcoder_config.py.
        defaults={
            "dropout_prob": 0.1,
            "seq_length": 1024,
            "n_position": 8192,
            "vocab_size": 50257,
            "hidden_size": 768,
            "num_layers": 12,
            "num_heads": 12,
            "expand_ratio": 4,
            "hidden_dropout_prob": 0.1,
            "attention_dropout_prob": 0.1,
            "initializer_range": 0.02,
            "pad_token_id": 49152,
            "param_init_type": "float16",
            "layernorm_dtype": "float32",
            "softmax_dtype": "float16",
            "compute_dtype": "float16",
            "hidden_act": "gelu",
            "top_p": 0.95,
            "top_k": 1,
            "max_decode_length": 20,
            "eos_token_id": 2,
        },
    ),
    MindFormersClasses(
        "StarCoderConfig",
        config="StarCoderConfig",
        model="StarCoderLMHeadModel",
        tokenizer="StarCoderTokenizer",
        model_type="starcoder",
    ),
)
