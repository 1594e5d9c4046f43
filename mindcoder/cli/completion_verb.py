"""completion: a script that lets the shell complete verbs, flags and file names."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "tcsh")


def add_completion_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of completion."""
    parser.add_argument("shell", choices=SHELLS, help='bash: put eval "$(mindcoder completion bash)" into ~/.bashrc')
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def completion_verb(arguments: argparse.Namespace) -> int:
    """Print the script, as shtab makes it from the parser of all verbs."""
    import shtab

    from mindcoder.cli.main import build_parser

    print(shtab.complete(build_parser(), shell=arguments.shell))
    return 0
