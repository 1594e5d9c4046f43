"""The original ``merge_hccl.py``; see ``--help``."""

import sys

from mindcoder.cli.rank_table_scripts import merge_hccl_script

if __name__ == "__main__":
    sys.exit(merge_hccl_script())
