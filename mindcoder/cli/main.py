"""``mindcoder <verb>``."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mindcoder import __version__
from mindcoder.errors import single_line

if TYPE_CHECKING:
    from mindcoder.cli.parser import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code: 0 success, 1 failure, 2 invalid input, 128 + the signal that ended it."""
    try:  # importing a verb takes most of a second: Ctrl-C there is one line, too
        from mindcoder.backend.device import signals_held

        with signals_held():
            from mindcoder.cli.guard import WRONG_INPUT, describe, guarded

            words = sys.argv[1:] if argv is None else list(argv)
            try:
                parser = build_parser(next((word for word in words if not word.startswith("-")), ""))
            except Exception as error:  # a package is missing or damaged
                if "--debug" in words:
                    traceback.print_exc()
                what = f"a package cannot be imported: {type(error).__name__}: {error}"
                what = describe(error)[0] if isinstance(error, ImportError) else f"error: {single_line(what, 300)}"
                print(f"mindcoder: {what} (mindcoder doctor looks for more)", file=sys.stderr)
                return WRONG_INPUT
            arguments = parser.parse_args(argv)
        return guarded(lambda: arguments.run(arguments), arguments.debug)
    except KeyboardInterrupt:
        print("mindcoder: interrupted", file=sys.stderr)
        return 130


def build_parser(verb: str | None = None) -> Parser:
    """The parser of all verbs.

    Args:
        verb: import only this one's module; the others have no flags then. None imports all.
    """
    from mindcoder.cli.parser import OverviewFormatter, StrictParser
    from mindcoder.cli.verbs import GROUPS, flags_of_verbs, overview

    parser = StrictParser(
        prog="mindcoder",
        usage="%(prog)s VERB [flags]",
        description="Pretrain, fine-tune, evaluate and run code models on MindSpore.",
        epilog=overview(),
        formatter_class=OverviewFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mindcoder {__version__}")
    verbs = parser.add_subparsers(
        dest="verb", required=True, metavar="VERB", prog="mindcoder", help="one of the commands below"
    )
    for group in GROUPS.values():
        for known in group:
            summary = f"{known.summary[0].upper()}{known.summary[1:]}."
            added = verbs.add_parser(
                known.name, help=known.summary, description=summary, flags_of_others=flags_of_verbs
            )
            if verb in (None, known.name):
                known.add_flags(added)
    return parser


if __name__ == "__main__":
    sys.exit(main())
