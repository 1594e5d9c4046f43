"""Answers from the graphs of ``export_wizardcoder_inc.py``, and their speed: the original script's flags.

python inference_wizardcoder_mslite.py --device_id 0 --batch_size 1 --seq_length 2048 --tokenizer_path tokenizer/
"""

import sys

from mindcoder.cli.mslite_scripts import inference_mslite_script

if __name__ == "__main__":
    sys.exit(inference_mslite_script("inference_wizardcoder_mslite.py"))
