"""The graphs of prefill and decoding as MindIR: the original entry point, handing over to ``mindcoder export``.

python export_wizardcoder_inc.py --device_id 0 --batch_size 1 --seq_length 2048 --model_path path/wizardcoder.ckpt
"""

import sys

from mindcoder.cli.mslite_scripts import export_inc_script

if __name__ == "__main__":
    sys.exit(export_inc_script("export_wizardcoder_inc.py"))
