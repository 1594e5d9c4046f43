"""MindCoder: pretrain, fine-tune, evaluate and run code models on MindSpore."""

__version__ = "0.6.0"
