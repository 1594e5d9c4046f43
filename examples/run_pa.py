"""ATB-Models' ``examples/run_pa.py``, with its flags: ``python -m examples.run_pa --model_path DIR``."""

import sys

from mindcoder.cli.run_pa_script import run_pa_script

if __name__ == "__main__":
    sys.exit(run_pa_script("run_pa.py"))
