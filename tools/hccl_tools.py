"""The original ``hccl_tools.py``; see ``--help``."""

import sys

from mindcoder.cli.rank_table_scripts import hccl_tools_script

if __name__ == "__main__":
    sys.exit(hccl_tools_script())
