"""Conversations: templates, commands, interruptions, and answers equal to transformers'."""

from __future__ import annotations

import io
import json

import pytest

from mindcoder.cli import chat_verb
from mindcoder.cli.main import main
from mindcoder.data.conversation import Message, encode_conversation
from mindcoder.errors import UserError
from mindcoder.generate.chat import Chat
from mindcoder.generate.model import ModelRequest, open_model
from mindcoder.generate.sampler import SamplingOptions
from mindcoder.generate.text import StoppedText


@pytest.fixture(scope="module")
def model(served_folder):
    return open_model(ModelRequest(str(served_folder), max_length=256))


def test_every_turn_is_transformers_answer_to_the_conversation_so_far(model, offline):
    chat = Chat(model, SamplingOptions(), 20, "Be brief.")
    for question in ("sort a list", "shorter", "more"):
        answer = "".join(chat.ask(question))
        ids = encode_conversation([Message("system", "Be brief."), *chat.messages[:-1]], "llama2-chat", model.tokenizer)
        assert answer == model.tokenizer.decode(offline(ids, 20), skip_special_tokens=True)
    assert chat.last.reused > 0  # the conversation so far was in the cache
    assert "tokens/s" in str(chat.last)


def test_a_stopped_answer_stays_and_the_conversation_goes_on(model):
    chat = Chat(model, SamplingOptions(), 40)
    pieces = chat.ask("sort")
    for _ in range(5):
        next(pieces)
    pieces.close()
    assert chat.last.finish_reason == "cancelled" and chat.last.tokens == 5
    assert model.engine.pool.free == model.engine.pool.usable
    assert "".join(chat.ask("again")) is not None and len(chat.messages) == 4


def test_the_oldest_turns_give_way_to_new_ones(model):
    chat = Chat(model, SamplingOptions(), 8)
    for _ in range(9):
        list(chat.ask("word " * 15))
    assert chat.last.forgotten > 0 and "no longer fit" in str(chat.last)
    with pytest.raises(UserError, match="fit \\(--max_length\\)"):
        list(chat.ask("word " * 400))
    assert chat.messages[-1].role == "assistant"


@pytest.mark.parametrize(
    "length, message",
    [
        (1, "a length of 1 token has no room for a prompt and an answer: expected 2 or more"),
        (16, "--max_length 16 leaves no room for a question: 16 tokens are kept free for the answer"),
    ],
)
def test_lengths_that_hold_no_conversation_are_one_line(length, message, served_folder):
    with pytest.raises(UserError, match=message):
        list(Chat(open_model(ModelRequest(str(served_folder), max_length=length)), SamplingOptions(), 8).ask("sort"))


def test_commands(model, tmp_path):
    chat, file = Chat(model, SamplingOptions(), 5), tmp_path / "chat.json"
    lines = iter(["/help", "/system Be kind", "hello", f"/save {file}", "/reset", f"/load {file}", "/load /no", "/what",
                  "/save", "", "/exit", "never"])  # fmt: skip
    out = io.StringIO()
    assert chat_verb.converse(chat, lambda: next(lines), out) == 0
    text = out.getvalue()
    for expected in ("/reset", "system message: Be kind", "2 messages written", "forgotten", "2 messages read",
                     "no such file", "no command /what", "/save needs a file"):  # fmt: skip
        assert expected in text
    assert next(lines) == "never" and len(chat.messages) == 2 and chat.system == "Be kind"
    for content, expected in {
        "{": "bad JSON",
        "[]": "holds a list",
        "[" * 9999: "nested",
        '{"messages": [1]}': "is not a saved conversation",
        '{"messages": [{"role": "user", "content": "a"}]}': "is not a saved conversation",
    }.items():
        file.write_text(content)
        with pytest.raises(UserError, match=expected):
            chat.load(file)


@pytest.mark.parametrize("word", ["quit", "Exit", "exit()", ":q"])
def test_what_leaves_other_programs_asks_whether_to_leave(model, word):
    chat, out = Chat(model, SamplingOptions(), 5), io.StringIO()
    lines = iter([word, "no", word, "y", "never"])
    assert chat_verb.converse(chat, lambda: next(lines), out) == 0
    assert next(lines) == "never" and not chat.messages  # it was not asked
    assert out.getvalue().count("leave? (y leaves") == 2


def test_ctrl_c_stops_the_answer_and_not_the_program(model, monkeypatch):
    chat, out, step = Chat(model, SamplingOptions(), 50), io.StringIO(), model.engine.step
    steps = iter(range(100))

    def interrupted(**options):
        if next(steps) == 4:
            raise KeyboardInterrupt
        return step(**options)

    monkeypatch.setattr(model.engine, "step", interrupted)
    lines = iter(["hello", "again", "/exit"])
    assert chat_verb.converse(chat, lambda: next(lines), out) == 0
    assert len(chat.messages) == 4 and model.engine.pool.free == model.engine.pool.usable


def test_one_shot_questions_and_gaps(served_folder, tmp_path, capsys):
    file = tmp_path / "questions.txt"
    file.write_text("one\n\ntwo\n")
    flags = [str(served_folder), "--max_length", "128", "--max_output_length", "6"]
    assert main(["chat", *flags, "--input_file", str(file)]) == 0
    whole = capsys.readouterr().out
    answers = []
    for question in ("one", "two"):
        assert main(["chat", *flags, "--input_text", question]) == 0
        answers.append(capsys.readouterr().out)
    assert whole == "".join(answers)
    assert main(["chat", *flags, "--input_text", "one", "--draft", str(served_folder)]) == 0
    done = capsys.readouterr()
    assert done.out == answers[0] and "100% of the draft's tokens accepted" in done.err
    assert main(["chat", *flags, "--input_text", "a " * 20, "--max_input_length", "5"]) == 2
    assert "more than --max_input_length 5" in capsys.readouterr().err
    assert main(["complete", *flags, "--prefix", "a", "--suffix", "b"]) == 2
    assert "no fill-in-the-middle tokens" in capsys.readouterr().err
    assert main(["complete", *flags, "--file", str(file)]) == 2
    assert "has no <FILL_ME>" in capsys.readouterr().err


def test_templates_of_several_turns(served_tokenizer):
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]

    def text(template, *more):
        return served_tokenizer.decode(encode_conversation([*more, *turns], template, served_tokenizer))

    system = Message("system", "S")
    assert text("llama2-chat", system) == ("[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b</s>[INST] c [/INST]")
    assert text("wizardcoder", system) == (
        "S\n\n### Instruction:\na\n\n### Response:b</s>\n\n### Instruction:\nc\n\n### Response:"
    )
    assert text("plain") == "ab</s>c"
    with pytest.raises(ValueError, match="last message has to be the user's"):
        encode_conversation(turns[:2], "plain", served_tokenizer)
    with pytest.raises(ValueError, match="where the assistant's is expected"):
        encode_conversation([turns[0], turns[0], turns[0]], "plain", served_tokenizer)


def test_a_stop_string_over_several_tokens_is_never_shown(served_tokenizer):
    ids = served_tokenizer.encode("def f():\n    return 1\n\nclass A")
    for stop in ("\n\nclass", "turn 1", "def"):
        text = StoppedText(served_tokenizer, [stop, "never"])
        shown = "".join(text.push(token) for token in ids) + text.finish()
        assert shown == "def f():\n    return 1\n\nclass A".split(stop)[0] and text.stopped
    text = StoppedText(served_tokenizer, ["class ABC"])
    assert "".join(text.push(token) for token in ids) + text.finish() == served_tokenizer.decode(ids)


def test_a_saved_conversation_is_readable(model, tmp_path):
    chat = Chat(model, SamplingOptions(), 4)
    list(chat.ask("你好"))
    chat.save(tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["messages"][0]["content"] == "你好"
    with pytest.raises(UserError, match="cannot be written"):
        chat.save(tmp_path / "none" / "c.json")
