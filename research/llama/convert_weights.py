"""``.bin`` weights to safetensors beside them: ATB-Models' ``examples/convert/convert_weights.py``, with its flag."""

import sys

from mindcoder.cli.scripts import convert_weights_script

if __name__ == "__main__":
    sys.exit(convert_weights_script("convert_weights.py"))
