"""Train, fine-tune, evaluate or run StarCoder2: the original entry point, handing over to ``mindcoder``."""

import sys

from mindcoder.cli.scripts import run_script

if __name__ == "__main__":
    sys.exit(run_script("run_starcoder2.py", "StarCoder2"))
