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
    try:  # importing the verbs takes most of a second: Ctrl-C there is one line, too
        from mindcoder.backend.device import signals_held

        with signals_held():
            from mindcoder.cli.guard import WRONG_INPUT, describe, guarded

            try:
                parser = build_parser()
            except Exception as error:  # a package is missing or damaged
                words = sys.argv[1:] if argv is None else list(argv)
                if words[:1] != ["doctor"]:
                    if "--debug" in words:
                        traceback.print_exc()
                    what = f"a package cannot be imported: {type(error).__name__}: {error}"
                    what = describe(error)[0] if isinstance(error, ImportError) else f"error: {single_line(what, 300)}"
                    print(f"mindcoder: {what} (mindcoder doctor looks for more)", file=sys.stderr)
                    return WRONG_INPUT
                parser = doctors_parser()
            arguments = parser.parse_args(argv)
        return guarded(lambda: arguments.run(arguments), arguments.debug)
    except KeyboardInterrupt:
        print("mindcoder: interrupted", file=sys.stderr)
        return 130


def build_parser() -> Parser:
    """The parser of all verbs; imports them."""
    from mindcoder.cli.parser import OverviewFormatter, StrictParser
    from mindcoder.cli.verbs import GROUPS, overview

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
    flags_of: dict[str, list[str]] = {}
    for group in GROUPS.values():
        for verb in group:
            summary = f"{verb.summary[0].upper()}{verb.summary[1:]}."
            added = verbs.add_parser(verb.name, help=verb.summary, description=summary, flags_of_others=flags_of)
            verb.add_flags(added)
            added.set_defaults(run=verb.run)
            for flag in added.flags:
                flags_of.setdefault(flag, []).append(f"mindcoder {verb.name}")
    return parser


def doctors_parser() -> Parser:
    """The parser of doctor alone, for an installation in which the other verbs cannot be imported."""
    from mindcoder.cli.doctor_verb import add_doctor_flags, doctor_verb
    from mindcoder.cli.parser import StrictParser

    parser = StrictParser(prog="mindcoder", usage="%(prog)s doctor [flags]")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", prog="mindcoder")
    added = verbs.add_parser("doctor")
    add_doctor_flags(added)
    added.set_defaults(run=doctor_verb)
    return parser


if __name__ == "__main__":
    sys.exit(main())
