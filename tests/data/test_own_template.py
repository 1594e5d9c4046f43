"""A model's own chat template: what is trained is what is served, and both are what transformers makes of it."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
from command import mindcoder
from own_templates import CHATML, FAMILIES, MARKED, QWEN, write_folder

from mindcoder.checkpoint.companions import copy_companions, find_companions
from mindcoder.data.conversation import Message, encode_conversation
from mindcoder.data.encode import IGNORED_LABEL, encode_messages, encode_record
from mindcoder.data.mindrecord_file import dataset_format
from mindcoder.data.own_template import end_ids, own_labels, own_or, template_of
from mindcoder.data.preprocess import PreprocessOptions, RecordEncoder, preprocess
from mindcoder.data.readers import BadRecord, Conversation, Record
from mindcoder.data.text_format import TextFormat, agreed_format, format_with, text_format_of
from mindcoder.errors import UserError
from mindcoder.tokenizer import load_tokenizer
from mindcoder.tokenizer.render_process import CannotRender

OWN = "chat_template"
TOOLS = [{"type": "function", "function": {"name": "get", "parameters": {"type": "object", "properties": {}}}}]
TALK = (
    Message("user", "写一个函数\n\tdef f(x):\r\n  return 🙂"),
    Message("assistant", "def f(x):\n\treturn x  # é"),
    Message("user", " again "),
    Message("assistant", "x"),
)


def as_dicts(messages):
    return [{"role": item.role, "content": item.content} for item in messages]


def theirs(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_ids_are_those_of_transformers(name, tmp_path, shared_data):
    folder = write_folder(tmp_path, name)
    reference, tokenizer = theirs(folder), load_tokenizer(folder)
    records = json.loads((shared_data / "code_alpaca_2k.json").read_text())[:25]
    talks = [TALK]
    for record in records:
        question = Message("user", record["instruction"], record.get("input", ""))
        talks.append((question, Message("assistant", record["output"])))
    if FAMILIES[name][3]:
        talks.append((Message("system", "Be {{ brief }}."), *TALK))
    end = FAMILIES[name][1]
    for talk in talks:
        told = as_dicts(talk)
        for turn, message in zip(told, talk):
            turn["content"] += f"\n\n{message.context}" if message.context else ""
        ids, learned = own_labels(talk, tokenizer)
        assert ids == reference.apply_chat_template(told)
        prompt = encode_conversation(talk[:-1], OWN, tokenizer)
        assert prompt == reference.apply_chat_template(told[:-1], add_generation_prompt=True)
        parts = np.flatnonzero(np.diff([0, *learned, 0])).reshape(-1, 2)
        answers = [tokenizer.decode(ids[begin:until]) for begin, until in parts]
        said = [message.content for message in talk if message.role == "assistant"]
        assert len(answers) == len(said)
        for answer, expected in zip(answers, said):
            assert answer.strip() == f"{expected.strip()}{end}".strip()
        # the model continues its prompt: the tokens before the last answer are those it is asked with
        assert ids[: len(prompt)] == prompt or name in ("llama2", "deepseek-coder")  # " x" and "\nx" may be one token
    assert end_ids(tokenizer) == {tokenizer.backend.token_to_id(end.strip())}


def test_marked_answers_are_those_of_transformers(tmp_path):
    folder = write_folder(tmp_path, "marked", in_file=True)
    reference, tokenizer = theirs(folder), load_tokenizer(folder)
    expected = reference.apply_chat_template(as_dicts(TALK), return_assistant_tokens_mask=True, return_dict=True)
    ids, learned = own_labels(TALK, tokenizer)
    assert ids == expected["input_ids"] and [int(item) for item in learned] == expected["assistant_masks"]
    first, second = TALK[1], TALK[3]
    _, only = own_labels((TALK[0], Message("assistant", first.content, learned=False), TALK[2], second), tokenizer)
    assert sum(only) == len(tokenizer.encode_rendered("x<|im_end|>"))


def test_tools_and_calls_are_rendered_as_by_transformers(tmp_path):
    folder = write_folder(tmp_path, "qwen2.5")
    reference, tokenizer = theirs(folder), load_tokenizer(folder)
    call = '<tool_call>\n{"name": "get", "arguments": {"city": "巴黎", "n": 1}}\n</tool_call>'
    from mindcoder.data.readers.tools import SEPARATOR, with_tools

    turns = with_tools(
        [
            Message("system", "S"),
            Message("user", "q"),
            Message("assistant", f"Let me see.\n{call}\n{call}"),
            Message("tool", f"18C{SEPARATOR}20C"),
            Message("assistant", "18"),
        ],
        TOOLS,
    )
    arguments = {"name": "get", "arguments": {"city": "巴黎", "n": 1}}
    told = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "q"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"type": "function", "function": arguments}] * 2,
        },
        {"role": "tool", "content": "18C"},
        {"role": "tool", "content": "20C"},
        {"role": "assistant", "content": "18"},
    ]
    ids, learned = own_labels(turns, tokenizer)
    assert ids == reference.apply_chat_template(told, tools=TOOLS)
    learned_text = tokenizer.decode([token for token, counts in zip(ids, learned) if counts])
    assert learned_text.startswith("Let me see.\n<tool_call>\n") and learned_text.endswith(
        "</tool_call><|im_end|>18<|im_end|>"
    )
    prompt = encode_conversation(turns[:-1], OWN, tokenizer)
    assert prompt == reference.apply_chat_template(told[:-1], tools=TOOLS, add_generation_prompt=True)


def test_a_template_without_a_place_for_tools_gets_them_as_text(tmp_path):
    from mindcoder.data.readers.tools import with_tools

    tokenizer = load_tokenizer(write_folder(tmp_path, "chatml"))
    call = '<tool_call>\n{"name": "get", "arguments": {}}\n</tool_call>'
    turns = with_tools([Message("user", "q"), Message("assistant", call), Message("tool", "18C")], TOOLS)
    text = tokenizer.decode(encode_conversation(turns, OWN, tokenizer))
    assert "You can call these tools:\n<tools>\n" in text and call in text and "18C" in text


def test_the_named_template_for_tools_is_taken_where_there_is_one(tmp_path):
    from mindcoder.data.readers.tools import with_tools

    named = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": QWEN}]
    folder = write_folder(tmp_path, "chatml", chat_template=named)
    reference, tokenizer = theirs(folder), load_tokenizer(folder)
    told = [{"role": "user", "content": "q"}]
    plain = encode_conversation([Message("user", "q")], OWN, tokenizer)
    assert plain == reference.apply_chat_template(told, add_generation_prompt=True)
    shown = encode_conversation(with_tools([Message("user", "q")], TOOLS), OWN, tokenizer)
    assert shown == reference.apply_chat_template(told, tools=TOOLS, add_generation_prompt=True) != plain
    reference.save_pretrained(tmp_path / "saved")  # in two files
    assert (tmp_path / "saved" / "additional_chat_templates" / "tool_use.jinja").is_file()
    assert load_tokenizer(tmp_path / "saved").chat_template.digest == tokenizer.chat_template.digest
    copy_companions(find_companions(tmp_path / "saved"), None, tmp_path / "copied")
    assert load_tokenizer(tmp_path / "copied").chat_template.digest == tokenizer.chat_template.digest
    tokenizer.save(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert again.chat_template.digest == tokenizer.chat_template.digest
    assert encode_conversation([Message("user", "q")], OWN, again) == plain


THINKING = (  # as Qwen3's: what the assistant thought is left out of earlier turns
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' and loop.last %}"
    "{{ '<think></think>' }}{% endif %}{{ m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def test_a_template_that_is_not_prefix_stable_is_refused_with_one_line(tmp_path):
    tokenizer = load_tokenizer(write_folder(tmp_path, "chatml", chat_template=THINKING))
    ids, learned = own_labels(TALK[:2], tokenizer)  # a single answer is
    text = tokenizer.decode([token for token, counts in zip(ids, learned) if counts])
    assert text == "<think></think>" + TALK[1].content + "<|im_end|>"
    with pytest.raises(
        CannotRender, match="not prefix-stable: the conversation up to answer 0 ends with '<think>"
    ) as e:
        own_labels(TALK, tokenizer)
    assert "{% generation %}" in str(e.value) and "\n" not in str(e.value) and "tokenizer_config.json" in str(e.value)
    encoder = RecordEncoder(tokenizer, 512, OWN)
    rejected = encoder.encode(Conversation("f.jsonl", 0, 1, messages=TALK))
    assert isinstance(rejected, BadRecord) and rejected.broken and "prefix-stable" in rejected.reason


@pytest.mark.parametrize(
    "text, reason",
    [
        ("{% for", "TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "too much time or memory"),
        ("{{ 'a' * 10 ** 12 }}", "too much time or memory"),
        ("{% for a in range(99999) %}{{ 'abcdefghijk' * 9 }}{% endfor %}", "more than 1048576 characters"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{{ raise_exception('no') }}", "TemplateError: no"),
        ("x" * 300_000, "more than 262144 characters"),
        (5, "expected a text, found int"),
    ],
)
def test_a_damaged_or_hostile_template_is_one_line_and_harms_nothing(text, reason, tmp_path, caplog):
    tokenizer = load_tokenizer(write_folder(tmp_path, "chatml", chat_template=text))
    with pytest.raises(UserError, match=reason) as error:
        encode_conversation([Message("user", "a")], OWN, tokenizer)
    assert "\n" not in str(error.value) and "chat_template" in str(error.value)
    assert own_or(tokenizer, "wizardcoder") == "wizardcoder"  # where nobody asked for it, another is used, and said
    assert "template wizardcoder is used: " in caplog.text
    good = load_tokenizer(write_folder(tmp_path / "good", "chatml"))
    assert encode_conversation([Message("user", "a")], OWN, good)


def test_one_bad_conversation_harms_no_other(tmp_path):
    slow = (
        "{% if messages[0].content == 'slow' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
        "{% endfor %}{% elif messages[0].content == 'big' %}{{ 'a' * 10 ** 12 }}{% endif %}" + CHATML
    )
    tokenizer = load_tokenizer(write_folder(tmp_path, "chatml", chat_template=slow))
    before = encode_conversation([Message("user", "a")], OWN, tokenizer)
    for word in ("slow", "big"):
        with pytest.raises(CannotRender, match="too much time or memory"):
            encode_conversation([Message("user", word)], OWN, tokenizer)
        assert encode_conversation([Message("user", "a")], OWN, tokenizer) == before
    pid = os.fork()
    if pid == 0:  # a forked worker renders in a process of its own
        os._exit(0 if encode_conversation([Message("user", "a")], OWN, tokenizer) == before else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert encode_conversation([Message("user", "a")], OWN, tokenizer) == before
    assert pickle.loads(pickle.dumps(tokenizer.chat_template)) == tokenizer.chat_template


def test_a_record_is_a_conversation_of_one_question(tmp_path):
    tokenizer = load_tokenizer(write_folder(tmp_path, "chatml"))
    record = Record("f", 0, None, instruction="Sort", input="[2, 1]", output="[1, 2]")
    example = encode_record(record, tokenizer, 512, OWN)
    talk = (Message("user", "Sort", "[2, 1]"), Message("assistant", "[1, 2]"))
    other = encode_messages(Conversation("f", 0, None, messages=talk), tokenizer, 512, OWN)
    np.testing.assert_array_equal(example.input_ids, other.input_ids)
    np.testing.assert_array_equal(example.labels, other.labels)
    assert tokenizer.decode(example.labels[example.labels != IGNORED_LABEL].tolist()) == "[1, 2]<|im_end|>"
    assert encode_record(record, tokenizer, 8, OWN) is None
    cut = encode_record(record, tokenizer, len(example.input_ids) - 3, OWN)
    assert cut.truncated and len(cut.input_ids) == len(example.input_ids) - 3


def test_preprocess_takes_the_tokenizers_own_template_and_records_it(tmp_path):
    folder = write_folder(tmp_path / "tokenizer", "chatml")
    data = tmp_path / "d.jsonl"
    data.write_text("".join(json.dumps({"messages": as_dicts(TALK)}) + "\n" for _ in range(300)))
    flags = ["--vocab_file", folder, "--seq_length", 128, "--output_file", tmp_path / "d.mindrecord", "--workers", 2]
    done = mindcoder("preprocess", "--input_glob", data, *flags)
    assert done.returncode == 0, done.stderr
    tokenizer = load_tokenizer(folder)
    found = dataset_format(str(tmp_path / "d.mindrecord"))
    assert (found.template, found.chat_template) == (OWN, tokenizer.chat_template.digest)
    other = load_tokenizer(write_folder(tmp_path / "other", "marked"))
    with pytest.raises(UserError, match="was made with another chat_template"):
        agreed_format([("d", found)], None, OWN, other.chat_template.digest)
    with pytest.raises(UserError, match="was made with template chat_template"):
        agreed_format([("d", found)], None, "wizardcoder")
    options = PreprocessOptions(str(data), tmp_path / "e.mindrecord", 128, template="wizardcoder", workers=1)
    preprocess(options, tokenizer)
    assert dataset_format(str(tmp_path / "e.mindrecord")).chat_template is None


def test_the_record_of_a_template_is_read_back(tmp_path):
    tokenizer = load_tokenizer(write_folder(tmp_path, "chatml"))
    made = format_with(OWN, tokenizer)
    assert text_format_of(made.as_dict(), "f") == made and made.template_identity.startswith("chat_template ")
    assert TextFormat("wizardcoder").as_dict() == {"prompt_template": "wizardcoder", "tokenizer": None}
    assert TextFormat(None).over(made) == made and TextFormat("plain").over(made).chat_template is None
    with pytest.raises(UserError, match="chat_template: expected a digest, found int"):
        text_format_of({"prompt_template": OWN, "chat_template": 5}, "f")
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat_template lies with the tokenizer"):
        template_of(tokenizer)
    assert own_or(tokenizer, "plain") == "plain" == own_or(None, "plain")


def test_marks_that_do_not_tell_the_answers_apart_are_refused_for_masked_ones(tmp_path):
    once = MARKED.replace("{% generation %}", "", 1).replace("{% endgeneration %}", "", 1)
    whole = "{% generation %}" + once + "{% endgeneration %}"
    tokenizer = load_tokenizer(write_folder(tmp_path, "chatml", chat_template=whole))
    masked = (TALK[0], Message("assistant", "a", learned=False), *TALK[2:])
    assert all(own_labels(TALK, tokenizer)[1])
    with pytest.raises(CannotRender, match="1 spans with {% generation %} where there are 2 answers"):
        own_labels(masked, tokenizer)
