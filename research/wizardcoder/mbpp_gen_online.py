"""Answers to MBPP: the seeds' entry point, handing over to ``mindcoder eval-code --task mbpp --generate_only``."""

import sys

from mindcoder.cli.scripts import mbpp_script

if __name__ == "__main__":
    sys.exit(mbpp_script("mbpp_gen_online.py", "--generate_only"))
