"""Train, fine-tune, evaluate or run WizardCoder: the seeds' entry point, handing over to ``mindcoder``."""

import sys

from mindcoder.cli.arguments import Parser, add_run_flags
from mindcoder.cli.main import RUN_MODES, guarded
from mindcoder.cli.run_verbs import run


def main() -> int:
    """Parse the seeds' flags and run."""
    parser = Parser(prog="run_wizardcoder.py", description=__doc__)
    parser.add_argument("--run_mode", choices=RUN_MODES, required=True)
    add_run_flags(parser)
    arguments = parser.parse_args()
    return guarded(lambda: run(arguments.run_mode, arguments), arguments.debug)


if __name__ == "__main__":
    sys.exit(main())
