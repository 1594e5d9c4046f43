"""MindSpore weights to Hugging Face: the original entry point, handing over to ``mindcoder convert``."""

import sys

from mindcoder.cli.scripts import convert_reversed_script

if __name__ == "__main__":
    sys.exit(convert_reversed_script("convert_reversed.py"))
