"""Quantization of weights after training: algorithms, and the verb that streams a model through one of them."""
