"""The programs in MBPP answers, in one file for bigcode-evaluation-harness: the original script's flags and files.

python mbpp_process.py --path test/mbpp_online --out_path mbpp_npu_online.json
"""

import sys

from mindcoder.cli.mbpp_scripts import mbpp_process_script

if __name__ == "__main__":
    sys.exit(mbpp_process_script("mbpp_process.py"))
