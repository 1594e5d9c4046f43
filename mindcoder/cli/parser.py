"""The argument parser of verbs and scripts: one-line errors with the nearest name, defaults in ``--help``."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NoReturn

from mindcoder.cli.guard import WRONG_INPUT, drop_unwritable_output, lost_output, open_standard_streams
from mindcoder.errors import single_line


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Appends the default to a flag's help, unless the help mentions it."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        given = action.default
        is_empty = isinstance(given, (str, list, tuple, set, frozenset)) and not given
        silent = given is None or given is False or is_empty or given is argparse.SUPPRESS
        if silent or not action.option_strings or "default" in text or isinstance(action, argparse._HelpAction):
            return text
        shown = f"{given:g}" if isinstance(given, float) else str(given).replace("%", "%%")
        return f"{text}; default: {shown}" if text else f"default: {shown}"


class OverviewFormatter(HelpFormatter):
    """Omits the list of verbs, which the epilog has in groups."""

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action, None, None]:
        yield from ()


class Parser(argparse.ArgumentParser):
    """Prints errors on one line and exits with code 2."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("formatter_class", HelpFormatter)
        super().__init__(*args, **options)
        self._failure: OSError | None = None  # error while writing to stdout

    def _print_message(self, message: str, file: Any = None) -> None:
        """Remember an error that argparse would ignore."""
        try:
            (file or sys.stderr).write(message)
        except OSError as error:
            self._failure = error if file is sys.stdout else self._failure

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        open_standard_streams()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {single_line(message, 500)} (--help lists the flags)\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        if message:
            self._print_message(message, sys.stderr)
        lost = lost_output(self._failure)
        if lost is not None and status == 0:
            status = WRONG_INPUT
            self._print_message(f"mindcoder: {lost}\n", sys.stderr)
        drop_unwritable_output()  # as in `mindcoder --help | head -1`
        sys.exit(status)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse values that are not among ``choices``, suggesting the nearest."""
        if action.choices is not None and value not in action.choices:
            names = [str(choice) for choice in action.choices]
            if isinstance(action, argparse._SubParsersAction):
                self.error(f"unknown verb {single_line(repr(value), 80)}{nearest(str(value), names)}")
            raise argparse.ArgumentError(action, f"found {single_line(repr(value), 80)}{nearest(str(value), names)}")


class StrictParser(Parser):
    """Reports an unknown flag before a missing required one: ``--confg x`` is a misspelled ``--config``.

    Args:
        flags_of_others: gives the commands that have a flag, for the message about one that this parser does not have.
    """

    def __init__(
        self, *args: Any, flags_of_others: Callable[[], Mapping[str, list[str]]] = dict, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._flags_of_others = flags_of_others

    @property
    def flags(self) -> list[str]:
        """All flags, such as ``--config``."""
        return list(self._option_string_actions)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        given = sys.argv[1:] if args is None else list(args)
        if self._subparsers is None:
            self._refuse_unknown(given)
        known, unknown = super().parse_known_args(given, namespace)
        if unknown:
            self.error(f"found {single_line(' '.join(unknown), 200)}, which belongs to no flag")
        return known, unknown

    def _refuse_unknown(self, given: Sequence[str]) -> None:
        flags = self.flags
        for text in given:
            if text == "--":
                return
            name = text.partition("=")[0]
            if name.startswith("--") and " " not in name and not any(flag.startswith(name) for flag in flags):
                others = self._flags_of_others().get(name)
                hint = f"; it is a flag of {', '.join(others[:3])}" if others else nearest(name, flags)
                self.error(f"unknown flag {single_line(name, 80)}{hint}")


def nearest(name: str, names: Sequence[str]) -> str:
    """``; did you mean 'x'?``, or all names if there are few and none is close."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f", expected one of {', '.join(names)}" if len(names) <= 30 else ""
