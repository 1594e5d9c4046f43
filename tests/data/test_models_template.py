"""A model's own chat template is compared with ours, in a process that a stranger's template cannot harm."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import REPOSITORY

from mindcoder.data.chat_template import chat_template
from mindcoder.data.models_template import ASKED, LARGEST, TOLD, CannotRender, remark_on, render
from mindcoder.data.prompt import TEMPLATES
from mindcoder.data.text_format import TextFormat, write_text_format
from mindcoder.tokenizer import load_tokenizer

TINY = REPOSITORY / "configs" / "wizardcoder" / "tiny_predict.yaml"
# Written as models' authors write them, not as ours: WizardCoder's, and Llama 2 Chat's.
ALPACA = (
    "{% for message in messages %}{% if loop.first %}Below is an instruction that describes a task. Write a response "
    "that appropriately completes the request.{% endif %}{% if message.role == 'user' %}"
    "{{ '\\n\\n### Instruction:\\n' + message.content + '\\n\\n### Response:' }}"
    "{% else %}{{ message.content + eos_token }}{% endif %}{% endfor %}"
)
LLAMA = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def files_with(folder, jinja=None, field=None):
    """The files of a model with a chat template in either place."""
    found = {
        "tokenizer_config.json": folder / "tokenizer_config.json",
        "chat_template.jinja": folder / "chat_template.jinja",
    }
    found["tokenizer_config.json"].write_text(json.dumps({} if field is None else {"chat_template": field}))
    if jinja is None:
        del found["chat_template.jinja"]
    else:
        found["chat_template.jinja"].write_text(jinja)
    return found


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "plain"])
def test_our_own_templates_are_nothing_to_speak_of(name, small_tokenizer, tmp_path):
    own = chat_template(name, small_tokenizer.bos_id is not None)
    assert remark_on(name, files_with(tmp_path, field=own), small_tokenizer) is None
    assert remark_on(name, files_with(tmp_path, jinja=own + "{# theirs #}"), small_tokenizer) is None
    other = "llama2-chat" if name == "wizardcoder" else "wizardcoder"
    remark = remark_on(other, files_with(tmp_path, jinja=own), small_tokenizer)
    assert remark.startswith(f"template {other} is used; the model's own chat_template (") and "\n" not in remark
    assert remark.endswith(f"chat_template.jinja) is that of our template {name}")


def test_templates_that_say_the_same_in_other_words(small_tokenizer, tmp_path):
    assert remark_on("wizardcoder", files_with(tmp_path, field=ALPACA), small_tokenizer) is None
    assert remark_on("llama2-chat", files_with(tmp_path, field=LLAMA), small_tokenizer) is None
    named = [{"name": "tool_use", "template": CHATML}, {"name": "default", "template": ALPACA}]
    assert remark_on("wizardcoder", files_with(tmp_path, field=named), small_tokenizer) is None
    remark = remark_on("wizardcoder", files_with(tmp_path, field=CHATML), small_tokenizer)
    assert remark.endswith(
        "tokenizer_config.json) differs, it begins '<|im_start|>user\\nAdd {a} to [b].<|im_end|>\\n<|im_start|>a…"
    )
    assert "is that of our template wizardcoder" in remark_on(
        "plain", files_with(tmp_path, jinja=ALPACA, field=CHATML), small_tokenizer
    )  # the .jinja file wins, as in transformers
    assert remark_on("wizardcoder", files_with(tmp_path), small_tokenizer) is None


@pytest.mark.parametrize(
    "jinja",
    [
        ALPACA,
        LLAMA,
        CHATML,
        "{% generation %}{{ messages | tojson }}{% endgeneration %}\n",
        "  {% if true %}\n{{ bos_token }}{{ messages[0].content.upper() }}\n  {% endif %}\n",
        "{{ strftime_now('%Y') }}{% for m in messages %}{% break %}{% endfor %}",
    ],
)
def test_templates_are_filled_in_as_by_transformers(jinja, tokenizer_folder, tmp_path):
    from transformers import AutoTokenizer

    shutil.copytree(tokenizer_folder, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(jinja)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    expected = [theirs.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) for talk in (ASKED, TOLD)]
    assert render(jinja, load_tokenizer(tokenizer_folder)) == expected


@pytest.mark.parametrize("jinja, reason", [
    ("{{ raise_exception('no system message') }}", "TemplateError: no system message"),
    ("{% for", "TemplateSyntaxError"),
    ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError: access to attribute '__class__'"),
    ("{{ cycler.__init__.__globals__.os.system('touch /tmp/x') }}", "SecurityError"),
    ("{{ messages.append(1) }}", "SecurityError"),
    ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "too much time or memory"),
    ("{% for a in range(99999) %}{{ 'abcdefghijk' }}{% endfor %}", "more than 1048576 characters"),
    ("{{ 'a' * 10 ** 12 }}", "MemoryError"),
    ("x" * (LARGEST + 1), f"it has more than {LARGEST} characters"),
])  # fmt: skip
def test_a_hostile_template_harms_nobody(jinja, reason, small_tokenizer, tmp_path):
    with pytest.raises(CannotRender, match=reason) as error:
        render(jinja, small_tokenizer)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200
    remark = remark_on("wizardcoder", files_with(tmp_path, jinja="{{ nothing.there.at.all }}"), small_tokenizer)
    assert "cannot be compared with it: UndefinedError" in remark


def test_a_chat_template_that_cannot_be_read_stops_nothing(small_tokenizer, tmp_path):
    start = "template wizardcoder is used; the model's own chat_template"
    remark = remark_on("wizardcoder", files_with(tmp_path, field=5), small_tokenizer)
    assert remark and remark.startswith(start)
    assert "tokenizer_config.json: chat_template: expected a text, found int" in remark
    file = tmp_path / "chat_template.jinja"
    file.write_bytes(b"\xff\xfe")
    remark = remark_on("wizardcoder", {"chat_template.jinja": file}, small_tokenizer)
    assert remark and remark.startswith(start) and "UTF-16" in remark and "\n" not in remark
    file.unlink()
    file.symlink_to("nowhere")
    remark = remark_on("wizardcoder", {"chat_template.jinja": file}, small_tokenizer)
    assert remark and "is a link to nowhere" in remark
    file.unlink()
    file.write_text("")
    remark = remark_on("wizardcoder", {"chat_template.jinja": file}, small_tokenizer)
    assert remark and remark.endswith("makes an empty text of a question")


def test_the_remark_is_made_where_a_model_is_asked(hf_folder, tokenizer_folder, monkeypatch):
    from mindcoder.config.load import load_config
    from mindcoder.generate import model
    from mindcoder.train import text_formats

    _, _, folder = hf_folder(layers=1, vocab_size=701)
    for item in tokenizer_folder.iterdir():
        shutil.copy(item, folder)
    (folder / "chat_template.jinja").write_text(LLAMA)
    said: list[str] = []
    for module in (model, text_formats):
        monkeypatch.setattr(module.log, "warning", lambda text, *values: said.append(text % values))
    expected = (
        f"template wizardcoder is used; the model's own chat_template ({folder}/chat_template.jinja) is that of "
        "our template llama2-chat"
    )
    assert model.open_model(model.ModelRequest(str(folder), max_length=64)).template == "chat_template"  # its own
    assert said == []
    asked = model.ModelRequest(str(folder), template="wizardcoder", max_length=64)
    assert model.open_model(asked).template == "wizardcoder"
    assert said == [expected]
    flags = {"load_checkpoint": ("--load_checkpoint", str(folder))}
    config, _ = load_config(TINY, (), flags)
    text_formats.tell_of_models_template(config, load_tokenizer(folder))
    assert said == [expected] * 2
    config, _ = load_config(TINY, (), {**flags, "processor.prompt_template": ("--template", "plain")})
    text_formats.tell_of_models_template(config, load_tokenizer(folder))
    write_text_format(folder, TextFormat("wizardcoder"))  # how it was trained is known: nothing to compare
    assert model.open_model(model.ModelRequest(str(folder), max_length=64)).template == "wizardcoder"
    assert said == [expected] * 2
