"""Alpaca JSON or JSONL to MindRecord: the original entry point, handing over to ``mindcoder preprocess``."""

import sys

from mindcoder.cli.scripts import preprocess_script

if __name__ == "__main__":
    sys.exit(preprocess_script("llama_preprocess.py"))
