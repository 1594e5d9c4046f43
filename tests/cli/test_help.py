"""What `mindcoder` says about its verbs and flags, and about misspelt ones."""

from __future__ import annotations

import argparse
import shutil
import subprocess

import pytest

from mindcoder.cli.main import build_parser, main
from mindcoder.cli.verbs import GROUPS

VERBS = [verb.name for group in GROUPS.values() for verb in group]


def said(capsys, *command) -> tuple[int, str]:
    """Exit code, and what stands on both streams."""
    with pytest.raises(SystemExit) as ended:
        main(command)
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out + shown.err


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["finetune", "--confg", "x.yaml"], "unknown flag --confg; did you mean '--config'?"),
        (["fientune", "--config", "x.yaml"], "unknown verb 'fientune'; did you mean 'finetune'?"),
        (["predict", "--config", "x", "--loadcheckpoint=a"], "did you mean '--load_checkpoint'?"),
        (["finetune", "--config", "x", "--predict_data", "y"], "it is a flag of mindcoder predict"),
        (["eval", "--config", "x", "--device_target", "ascend"], "found 'ascend'; did you mean 'Ascend'?"),
        (["chat", "folder", "other"], "found other, which belongs to no flag"),
        (["convert", "a", "b", "--to", "onnx"], "expected one of"),
        (["nothing-like-it"], "expected one of train-tokenizer, preprocess"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest_one(capsys, command, expected):
    code, text = said(capsys, *command)
    assert code == 2 and expected in text and len(text.strip().splitlines()) == 1


def test_verbs_are_grouped_and_all_there(capsys):
    code, text = said(capsys, "--help")
    assert code == 0
    for title, verbs in GROUPS.items():
        block = text.split(f"\n{title}:\n")[1].split("\n\n")[0]
        assert [line.split()[0] for line in block.splitlines()] == [verb.name for verb in verbs]


def _parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                found += _parsers(child)
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_every_default(capsys, verb):
    code, text = said(capsys, verb, "--help")
    assert code == 0
    flat = " ".join(text.split())
    parser = next(item for item in _parsers(build_parser()) if item.prog == f"mindcoder {verb}")
    for action in parser._actions:
        if action.help is argparse.SUPPRESS or not action.option_strings:
            continue
        value, flag = action.default, action.option_strings[0]
        shown = " ".join(parser._get_formatter()._expand_help(action).split()) if action.help else ""
        assert flag in flat and shown and shown.replace(" ", "") in flat.replace(" ", ""), f"{verb} {flag} has no help"
        if value not in (None, False, "", [], frozenset(), argparse.SUPPRESS):
            assert "default" in shown, f"{verb} {flag}: {value!r} in {shown!r}"


def test_finetune_has_no_flags_of_predict(capsys):
    _, finetune = said(capsys, "finetune", "--help")
    _, predict = said(capsys, "predict", "--help")
    for flag in ("--predict_data", "--predict_length", "--raw", "--output_file"):
        assert flag in predict and flag not in finetune
    for flag in ("--train_data", "--resume", "--overwrite"):
        assert flag in finetune and flag not in predict


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_verbs_and_flags(capsys, tmp_path):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)

    def complete(line: str) -> set[str]:
        """What bash offers after ``line``."""
        words = line.split(" ")
        quoted = " ".join(f"'{word}'" for word in words)
        commands = (
            f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; "
            'function=$(complete -p mindcoder | sed "s/.*-F \\([^ ]*\\).*/\\1/"); '
            '$function; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", commands], capture_output=True, text=True, timeout=60)
        return {item.strip() for item in done.stdout.split("\n") if item.strip()}

    assert complete("mindcoder fin") == {"finetune"}
    assert {"--train_data", "--train_dataset"} <= complete("mindcoder finetune --train_d")
    assert complete("mindcoder finetune --predict") == set()
    assert complete(f"mindcoder chat {tmp_path}/compl") == {str(script)}
    assert complete(f"mindcoder finetune --config {tmp_path}/compl") == {str(script)}
    assert "wizardcoder/tiny_lora" in complete("mindcoder finetune --config wizardcoder/tiny_l")
    assert complete("mindcoder configs sh") == {"show"}
    assert complete("mindcoder configs show models/tiny_w") == {"models/tiny_wizardcoder"}
