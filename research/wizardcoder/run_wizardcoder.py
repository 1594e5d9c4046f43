"""Train, fine-tune, evaluate or run WizardCoder: the original entry point, handing over to ``mindcoder``."""

import sys
from pathlib import Path

from mindcoder.cli.scripts import run_script

if __name__ == "__main__":
    sys.exit(run_script("run_wizardcoder.py", "WizardCoder", str(Path(__file__).with_name("run_wizardcoder.yaml"))))
