"""Template and tokenizer that belong to data and models; our templates as transformers fills them in."""

from __future__ import annotations

import json

import pytest
from families import sentencepiece_model

from mindcoder.data.chat_template import chat_template, write_chat_template
from mindcoder.data.conversation import Message, encode_conversation, encode_turns
from mindcoder.data.mindrecord_file import dataset_format
from mindcoder.data.preprocess import PreprocessOptions, preprocess
from mindcoder.data.prompt import TEMPLATES
from mindcoder.data.text_format import (
    FORMAT_FILE,
    UNKNOWN,
    TextFormat,
    agreed_format,
    read_text_format,
    text_format_of,
    write_text_format,
)
from mindcoder.errors import UserError
from mindcoder.tokenizer import load_tokenizer
from mindcoder.tokenizer.fingerprint import TokenizerPrint, fingerprint

SMALL, LARGE = TokenizerPrint(600, "aaaa"), TokenizerPrint(1024, "bbbb")
TALK = [
    Message("system", "Be brief."),
    Message("user", "Add {a} and {b}."),
    Message("assistant", "a + b"),
    Message("user", 'And "c"?\n'),
    Message("assistant", "call"),
    Message("tool", "42"),
]


def test_the_file_says_what_was_written(tmp_path):
    for made in (TextFormat("plain", SMALL), TextFormat(None, LARGE), TextFormat("llama2-chat")):
        write_text_format(tmp_path, made)
        assert read_text_format(tmp_path) == made
    write_text_format(tmp_path / "none", UNKNOWN)
    assert not (tmp_path / "none").exists() and read_text_format(tmp_path / "none") == UNKNOWN


@pytest.mark.parametrize(
    "content, expected",
    [
        ("[]", "holds a list, expected an object"),
        ('{"prompt_template": "alpaka"}', "prompt_template: no template 'alpaka'; available: wizardcoder"),
        ('{"prompt_template": ["plain"]}', "prompt_template: no template"),
        ('{"tokenizer": 5}', "tokenizer: expected vocab_size"),
        ('{"tokenizer": {"vocab_size": "5", "sha256": "a"}}', "tokenizer: expected vocab_size"),
        ('{"tokenizer": {"vocab_size": 5}}', "tokenizer: expected vocab_size"),
        ("\udc80", "is not UTF-8 text"),
    ],
)
def test_a_broken_file_is_one_line(content, expected, tmp_path):
    (tmp_path / FORMAT_FILE).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=expected):
        read_text_format(tmp_path)


def test_datasets_tokenizer_and_template_have_to_agree():
    made = [("a", TextFormat("plain", LARGE)), ("b", TextFormat(None, LARGE)), ("old", UNKNOWN)]
    assert agreed_format(made, LARGE, None) == TextFormat("plain", LARGE)
    assert agreed_format(made, None, None) == TextFormat("plain", LARGE)
    assert agreed_format([("old", UNKNOWN)], SMALL, "wizardcoder") == TextFormat("wizardcoder", SMALL)
    assert agreed_format([("documents", TextFormat(None, SMALL))], SMALL, "wizardcoder").template is None
    with pytest.raises(UserError, match=r"a: was made with another tokenizer \(1024 ids, fingerprint bbbb\).*600 ids"):
        agreed_format(made, SMALL, None)
    with pytest.raises(UserError, match=r"c: was made with another tokenizer \(600 ids.* than that of a \(1024 ids"):
        agreed_format([*made, ("c", TextFormat(None, SMALL))], None, None)
    with pytest.raises(UserError, match="a: was made with template plain, prompt_template .* is wizardcoder: give"):
        agreed_format(made, None, "wizardcoder")
    with pytest.raises(UserError, match="c: was made with template llama2-chat, that of a is plain"):
        agreed_format([*made, ("c", TextFormat("llama2-chat", LARGE))], None, None)


@pytest.mark.parametrize(
    "record, template", [({"instruction": "add", "output": "a + b"}, "starcoder2-instruct"), ({"text": "a = 1"}, None)]
)
def test_preprocess_writes_it_into_the_description(record, template, tmp_path, small_tokenizer):
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    target = tmp_path / "d.mindrecord"
    asked = PreprocessOptions(str(tmp_path / "a.jsonl"), target, 128, workers=1, template="starcoder2-instruct")
    preprocess(asked, small_tokenizer)
    assert dataset_format(str(target)) == TextFormat(template, fingerprint(small_tokenizer))


@pytest.fixture(scope="module", params=["bpe", "sentencepiece"])
def tokenizer_files(request, tmp_path_factory, tokenizer_folder):
    folder = tmp_path_factory.mktemp("tokenizer")
    if request.param == "bpe":
        load_tokenizer(tokenizer_folder).save(folder)
    else:
        from transformers import LlamaTokenizerFast

        (folder / "tokenizer.model").write_bytes(sentencepiece_model())
        fast = LlamaTokenizerFast(str(folder / "tokenizer.model"), from_slow=True, add_prefix_space=True)
        fast.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "plain"])
def test_transformers_fills_in_our_templates(name, tokenizer_files, tmp_path):
    import shutil

    from transformers import AutoTokenizer

    ours = load_tokenizer(tokenizer_files)
    shutil.copytree(tokenizer_files, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("of the base model")
    write_chat_template(tmp_path / "model", TextFormat(name, fingerprint(ours)))
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    for talk in (TALK[1:2], TALK[:2]):  # one turn: the very ids
        asked = [{"role": item.role, "content": item.content} for item in talk]
        found = theirs.apply_chat_template(asked, tokenize=True, add_generation_prompt=True)
        assert found == encode_conversation(talk, name, ours)
    # Several turns are tokenized one by one here and all at once there: compare the texts.
    told = [{"role": item.role, "content": item.content} for item in TALK]
    text = theirs.apply_chat_template(told, tokenize=False)
    turns = "".join(ours.decode(ids) for ids, _ in encode_turns(TALK, name, ours))
    assert "".join(text.split()) == "".join(turns.split())


def test_plain_texts_have_no_chat_template(tmp_path, tokenizer_folder):
    import shutil

    assert chat_template("plain", False) is None
    shutil.copy(tokenizer_folder / "tokenizer_config.json", tmp_path)
    before = (tmp_path / "tokenizer_config.json").read_text()
    write_chat_template(tmp_path, TextFormat("plain"))
    assert (tmp_path / "tokenizer_config.json").read_text() == before


def test_what_is_not_known_is_empty():
    assert not text_format_of({}, "x") and not UNKNOWN and TextFormat("plain")
    assert TextFormat(None, SMALL).over(TextFormat("plain", LARGE)) == TextFormat("plain", SMALL)
