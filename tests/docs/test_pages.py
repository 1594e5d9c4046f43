"""The documentation's commands name verbs, flags and files that exist. `test_walk.py` runs them."""

from __future__ import annotations

import re

import pytest
from conftest import REPOSITORY

from docs.pages import PAGES, TRANSLATIONS, Block, blocks, inline_commands, unmarked_commands
from mindcoder.cli.main import build_parser
from mindcoder.cli.verbs import GROUPS
from mindcoder.config.shipped import shipped

VERBS = {verb.name for group in GROUPS.values() for verb in group}
OURS = re.compile(r"(configs|research|scripts|tools|datasets|docs|examples|benchmarks|tests|mindcoder)/[\w./-]+\w")
MADE_BY_RUNNING = re.compile(r"research/\S+\.(csv|log|json)$|rank_table")


def flags_of(verb: str) -> set[str]:
    """All flags of a verb, those of its own sub-verbs included."""
    parser = build_parser()._subparsers._group_actions[0].choices[verb]
    parsers = [parser]
    if parser._subparsers is not None:
        parsers += parser._subparsers._group_actions[0].choices.values()
    return {flag for item in parsers for flag in item._option_string_actions}


def check_command(words: list[str], place: str) -> None:
    """A ``mindcoder`` command names a verb and flags that exist."""
    verb = words[1]
    if verb.startswith("--") or verb in ("VERB", "…"):
        return
    assert verb in VERBS, f"{place}: no verb {verb}"
    known = flags_of(verb)
    for word in words[2:]:
        flag = word.partition("=")[0]
        if flag.startswith("--") and " " not in flag and flag != "--":
            assert flag in known, f"{place}: {verb} has no {flag}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_name_what_exists(page):
    for block in blocks(page):
        for words in block.commands():
            if words[0] == "mindcoder" and len(words) > 1:
                check_command(words, str(block))
    for text in inline_commands(page):
        words = [word for word in text.split() if re.fullmatch(r"[\w=./-]+", word)]
        if len(words) > 1:
            check_command(words, f"{page}: `{text}`")


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    own = "" if page.startswith("docs/originals") else text  # that page names the original repositories' files too
    for match in re.finditer(r"(?<![\w/.~-])" + OURS.pattern, own):
        path = match[0]
        if not MADE_BY_RUNNING.search(path) and "{" not in own[match.end() : match.end() + 1]:
            recipe = path.removeprefix("configs/").removesuffix(".yaml") in shipped()  # found by its former path
            there = (REPOSITORY / path).exists() or recipe or list(REPOSITORY.glob(path + "*"))
            assert there, f"{page}: {path} does not exist"
    folder = (REPOSITORY / page).parent
    for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", text):
        assert (folder / target).exists(), f"{page}: a link to {target}, which does not exist"


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_commands_is_run_or_says_why_not(page):
    assert unmarked_commands(page) == [], "mark the block bash, so that the walk runs it"
    for block in blocks(page):
        assert not block.reason or len(block.reason) > 10, block
        serves = any(words[:2] == ["mindcoder", "serve"] for words in block.commands())
        assert not serves or block.reason or (block.port and len(block.commands()) == 1), (
            f"{block}: a server does not end by itself: a block of its own with <!-- background: PORT -->"
        )


@pytest.mark.parametrize("page", TRANSLATIONS)
def test_translations_have_the_commands_of_the_original_in_its_order(page):
    """So the walk need not run them twice."""
    commands = iter([words for block in blocks(TRANSLATIONS[page]) for words in block.commands()])
    for block in blocks(page):
        for words in block.commands():
            assert words in commands, f"{block}: {TRANSLATIONS[page]} has no such command here: {words}"


def test_comments_quotes_and_continued_lines_are_understood():
    block = Block(
        "x.md", 1, "# all\nA=1 mindcoder convert a \\\n  b  # there\npython x.py --text 'def f():\n  pass' && make test"
    )
    assert block.commands() == [
        ["mindcoder", "convert", "a", "b"],
        ["python", "x.py", "--text", "def f():\n  pass"],
        ["make", "test"],
    ]
