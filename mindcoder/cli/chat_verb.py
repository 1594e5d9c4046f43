"""chat and complete: a model in the terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mindcoder.cli.arguments import add_adapter_flag, positive
from mindcoder.cli.logs import start_logging
from mindcoder.cli.model_flags import add_model_flags, add_sampling_flags, answer_options, open_flagged_model, sampling
from mindcoder.errors import UserError
from mindcoder.files import read_text

if TYPE_CHECKING:
    from mindcoder.generate.chat import Chat
    from mindcoder.generate.model import Model
    from mindcoder.tokenizer.infill import Repository

HELP = """\
/reset        forget the conversation
/system TEXT  set the system message (alone: show it)
/adapter NAME choose an adapter, or "base" (alone: show them)
/save FILE    write the conversation as JSON
/load FILE    go on with a saved one
/exit         leave (also Ctrl-D)
Ctrl-C stops an answer. A pasted text of several lines is one question; Alt-Enter makes a new line."""
BASE = "base"  # the model without an adapter
LEAVING = frozenset({"quit", "exit", "quit()", "exit()", "bye", ":q", "q", "退出"})  # words that exit other programs
HISTORY = Path("~/.mindcoder_history")


def add_chat_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of chat."""
    add_model_flags(parser)
    add_adapter_flag(parser, "the first of which answers until /adapter chooses another")
    add_sampling_flags(parser)
    parser.add_argument("--system", default="", metavar="TEXT", help="system message")
    parser.add_argument("--input_text", metavar="TEXT", help="ask this question and exit")
    parser.add_argument("--input_file", metavar="FILE", help="ask every line of a file separately and exit")
    parser.add_argument("--max_input_length", type=positive, metavar="N", help="refuse longer questions, in tokens")
    parser.add_argument("--draft", metavar="PATH", help="draft model with the same tokenizer, for speculative decoding")
    parser.add_argument(
        "--lookahead",
        type=positive,
        default=4,
        metavar="N",
        help="tokens the draft model proposes per step; default: 4",
    )
    parser.add_argument(
        "--history", metavar="FILE", default=str(HISTORY), help=f"of what was typed; default: {HISTORY}"
    )


def add_complete_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of complete."""
    add_model_flags(parser)
    add_sampling_flags(parser)
    parser.add_argument("--prefix", metavar="TEXT", help="code before the gap")
    parser.add_argument("--suffix", metavar="TEXT", default="", help="code after the gap")
    parser.add_argument("--file", metavar="FILE", help="a file with <FILL_ME> at the gap")
    parser.add_argument(
        "--related",
        nargs="+",
        default=[],
        metavar="FILE",
        help="other files of the repository, which the model sees first",
    )
    parser.add_argument("--repo_name", default="", metavar="NAME", help="name of the repository")


def chat_verb(arguments: argparse.Namespace) -> int:
    """Chat until the user exits, or answer the questions given by flags."""
    start_logging()
    questions = _questions(arguments)
    from mindcoder.generate.chat import Chat

    if arguments.draft is not None and arguments.temperature > 0:
        raise UserError("--draft supports greedy decoding only: leave --temperature at 0")
    if arguments.draft is not None and arguments.adapter:
        raise UserError("--draft and --adapter cannot be combined: merge the adapter into its base with merge-lora")
    model = open_flagged_model(arguments)
    speculative = None
    if arguments.draft is not None:
        from mindcoder.generate.model import open_draft

        speculative = open_draft(model, arguments.draft, arguments.dtype, arguments.lookahead)
    chat = Chat(model, sampling(arguments), arguments.max_output_length, arguments.system, speculative)
    if questions is None:
        return converse(chat, _reader(arguments.history, model), sys.stdout)
    for question in questions:
        _check_length(model, question, arguments.max_input_length)
    for question in questions:
        answer(chat, question, sys.stdout)
        chat.reset()
    return 0


def complete_verb(arguments: argparse.Namespace) -> int:
    """Fill in the middle; only the answer goes to stdout."""
    start_logging()
    prefix, suffix = _gap(arguments)
    repository = _repository(arguments)
    model = open_flagged_model(arguments)
    options = answer_options(arguments)
    for piece in model.generate(prefix, suffix=suffix, repository=repository, stream=True, **options):
        _write(sys.stdout, piece)
    _write(sys.stdout, "\n")
    return 0


def converse(chat: Chat, read: Callable[[], str], out: TextIO) -> int:
    """Read questions and commands until ``read`` raises EOFError or the user exits."""
    _write(out, f"{chat.model.name}, template {chat.model.template}; /help lists the commands\n")
    while True:
        try:
            line = read().strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return 0
        try:
            if line.startswith("/"):
                if not command(chat, line, out):
                    return 0
            elif line.lower() in LEAVING:
                if _wants_to_leave(line, read, out):
                    return 0
            elif line:
                answer(chat, line, out)
        except UserError as error:
            _write(out, f"{error}\n")


def _wants_to_leave(line: str, read: Callable[[], str], out: TextIO) -> bool:
    _write(out, f"{line!r} was not asked: leave? (y leaves, anything else goes on; /exit leaves at once)\n")
    try:
        return read().strip().lower() in ("y", "yes", "是")
    except KeyboardInterrupt:
        return False
    except EOFError:
        return True


def command(chat: Chat, line: str, out: TextIO) -> bool:
    """Run ``/name rest``; returns whether the conversation continues."""
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    if name in ("/exit", "/quit"):
        return False
    if name == "/reset":
        chat.reset()
        _write(out, "the conversation is forgotten\n")
    elif name == "/system":
        chat.system = rest or chat.system
        _write(out, f"system message: {chat.system or 'none'}\n")
    elif name == "/adapter":
        if rest:
            chat.choose_adapter(None if rest == BASE else rest)
        _write(out, f"adapter: {chat.adapter or BASE}; available: {', '.join([BASE, *chat.model.engine.adapters])}\n")
    elif name in ("/save", "/load"):
        if not rest:
            raise UserError(f"{name} needs a file")
        (chat.save if name == "/save" else chat.load)(rest)
        _write(out, f"{len(chat.messages)} messages {'written to' if name == '/save' else 'read from'} {rest}\n")
    elif name == "/help":
        _write(out, HELP + "\n")
    else:
        raise UserError(f"no command {name}; /help lists them")
    return True


def answer(chat: Chat, question: str, out: TextIO) -> None:
    """Stream an answer, then print its speed on stderr; Ctrl-C stops the answer only."""
    from mindcoder.backend.device import interruptible

    pieces = chat.ask(question)
    try:
        with interruptible():
            for piece in pieces:
                _write(out, piece)
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]
    _write(out, "\n")
    print(f"[{chat.last}]", file=sys.stderr, flush=True)


def _reader(history: str, model: Model) -> Callable[[], str]:
    """Line editing with history in a terminal; plain lines from a pipe."""
    if not sys.stdin.isatty():
        return _read_line
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _new_line(event) -> None:
        event.current_buffer.insert_text("\n")

    session: PromptSession = PromptSession(history=FileHistory(str(Path(history).expanduser())), key_bindings=keys)
    return lambda: session.prompt("> ")


def _read_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _questions(arguments: argparse.Namespace) -> list[str] | None:
    """The questions given by flags; None to ask the user."""
    if arguments.input_text is not None:
        return [arguments.input_text]
    if arguments.input_file is None:
        return None
    return [line for line in _read(arguments.input_file).splitlines() if line.strip()]


def _gap(arguments: argparse.Namespace) -> tuple[str, str]:
    from mindcoder.tokenizer.special_tokens import FILL_HERE

    if arguments.file is None and arguments.prefix is None:
        raise UserError("complete needs --prefix (and --suffix), or --file with <FILL_ME> in it")
    if arguments.file is None:
        return arguments.prefix, arguments.suffix
    text = _read(arguments.file)
    if FILL_HERE not in text:
        raise UserError(f"has no {FILL_HERE} where the gap is", arguments.file)
    prefix, _, suffix = text.partition(FILL_HERE)
    return prefix, suffix


def _repository(arguments: argparse.Namespace) -> Repository | None:
    """The files that the model sees first; None where nothing is given, and the gap is all that it sees."""
    if not arguments.related and not arguments.repo_name:
        return None
    from mindcoder.tokenizer.infill import Repository

    files = tuple((_shown_path(file), _read(file)) for file in arguments.related)
    return Repository(files, _shown_path(arguments.file) if arguments.file else "", arguments.repo_name)


def _shown_path(file: str) -> str:
    """A path as a model has seen them: relative, with slashes; of files elsewhere the name alone."""
    path = Path(file)
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()


def _read(file: str) -> str:
    return read_text(file)


def _check_length(model: Model, question: str, limit: int | None) -> None:
    tokens = len(model.tokenizer.encode(question))
    if limit is not None and tokens > limit:
        raise UserError(f"a question has {tokens} tokens, more than --max_input_length {limit}: {question[:60]!r}")


def _write(out: TextIO, text: str) -> None:
    out.write(text)
    out.flush()
