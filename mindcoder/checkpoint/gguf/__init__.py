"""GGUF files: reading, quantizing and writing."""
