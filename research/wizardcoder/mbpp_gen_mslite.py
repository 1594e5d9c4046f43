"""Answers to MBPP from exported graphs, one file a problem: the original script's flags, prompts and files.

    python mbpp_gen_mslite.py --start_index 0 --end_index 130 --output_path test/mbpp \\
        --mbpp_path mbpp.test.jsonl --tokenizer_path tokenizer/ --model_path wizardcoder-15b_mslite_inc
"""

import sys

from mindcoder.cli.mbpp_scripts import mbpp_generate_script

if __name__ == "__main__":
    sys.exit(mbpp_generate_script("mbpp_gen_mslite.py"))
