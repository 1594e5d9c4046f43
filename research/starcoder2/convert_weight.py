"""Hugging Face weights to MindSpore: the original entry point, handing over to ``mindcoder convert``."""

import sys

from mindcoder.cli.scripts import convert_weight_script

if __name__ == "__main__":
    sys.exit(convert_weight_script("convert_weight.py"))
