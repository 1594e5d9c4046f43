"""Turns a YAML file into a validated, typed configuration. Imports nothing heavy."""

from mindcoder.config.load import load_config
from mindcoder.config.schema import RunConfig

__all__ = ["RunConfig", "load_config"]
