"""pass@k of MBPP answers: the seeds' entry point, handing over to ``mindcoder eval-code --task mbpp``."""

import sys

from mindcoder.cli.scripts import mbpp_script

if __name__ == "__main__":
    sys.exit(mbpp_script("mbpp_process.py"))
