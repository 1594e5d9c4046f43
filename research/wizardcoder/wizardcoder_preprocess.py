"""Alpaca JSON or JSONL to MindRecord: the seeds' entry point, handing over to ``mindcoder preprocess``."""

import sys

from mindcoder.cli.arguments import Parser
from mindcoder.cli.data_verbs import add_preprocess_flags, preprocess_verb
from mindcoder.cli.main import guarded


def main() -> int:
    """Parse the seeds' flags and run."""
    parser = Parser(prog="wizardcoder_preprocess.py", description=__doc__)
    add_preprocess_flags(parser)
    arguments = parser.parse_args()
    return guarded(lambda: preprocess_verb(arguments), arguments.debug)


if __name__ == "__main__":
    sys.exit(main())
