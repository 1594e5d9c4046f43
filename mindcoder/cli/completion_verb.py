"""completion: a shell completion script for verbs, flags, file names and shipped configurations."""

from __future__ import annotations

import argparse

from mindcoder.config.shipped import shipped

SHELLS = ("bash", "zsh", "tcsh")
FILE_WORDS = ("FILE", "PATH", "DIR", "GLOB", "JSONL", "CSV", "SRC", "DST", "OUT", "RUN", "DATASET", "TABLE")

# How each shell completes a configuration: a function of `_config_functions`; tcsh has none and completes files.
CONFIG = {"bash": "_mindcoder_configs", "zsh": "_mindcoder_configs", "tcsh": "f"}


def add_completion_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of completion."""
    parser.add_argument(
        "shell",
        choices=SHELLS,
        metavar="{bash,zsh,tcsh}",
        help='bash: put eval "$(mindcoder completion bash)" into ~/.bashrc',
    )
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def completion_verb(arguments: argparse.Namespace) -> int:
    """Print the script that shtab generates from the parser of all verbs."""
    import shtab

    from mindcoder.cli.main import build_parser

    parser = build_parser()
    _complete_files(parser)
    script = shtab.complete(parser, shell=arguments.shell, preamble=_config_functions(arguments.shell))
    # if the script has nothing to offer, the shell completes file names as for other commands
    print(script.replace("complete -o bashdefault -F", "complete -o bashdefault -o default -F"))
    return 0


def _config_functions(shell: str) -> str:
    """Shell functions that offer the shipped configurations, as they are now, and files."""
    names = " ".join(shipped())
    if shell == "bash":
        return f'_mindcoder_configs() {{\n  compgen -W "{names}" -- "$1"\n  _shtab_compgen_files "$1"\n}}'
    if shell == "zsh":
        return f"_mindcoder_configs() {{\n  _alternative 'configs:shipped:({names})' 'files:file:_files'\n}}"
    return ""


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Mark the arguments that are files or configurations, judging by their names."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                _complete_files(child)
        elif action.metavar == "CONFIG":
            action.complete = CONFIG  # type: ignore[attr-defined]
        elif isinstance(action.metavar, str) and action.metavar.split("|")[-1].split("=")[-1] in FILE_WORDS:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
