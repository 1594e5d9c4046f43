"""Our prompt templates as Jinja chat templates for transformers (``tokenizer.apply_chat_template``)."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mindcoder.data.conversation import TOOL_RESULT
from mindcoder.data.prompt import OWN, TEMPLATES
from mindcoder.data.text_format import TextFormat
from mindcoder.files import read_json_object, write_text

TOKENIZER_CONFIG = "tokenizer_config.json"
# transformers prefers these to the key in the file above.
OTHER_PLACES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/tool_use.jinja")
FORM = """\
{%- set said = namespace(system="") -%}
{%- for message in messages if message["role"] == "system" -%}
{%- set said.system = said.system + ("\\n\\n" if said.system else "") + message["content"] -%}
{%- endfor -%}
{%- for message in messages if message["role"] != "system" -%}
{%- if message["role"] == "assistant" -%}
{{- BEFORE + message["content"] + AFTER + eos_token -}}
{%- else -%}
{%- set content = RESULT if message["role"] == "tool" else message["content"] -%}
{{- QUESTION -}}
{%- endif -%}
{%- endfor -%}"""


def chat_template(name: str, adds_bos: bool) -> str | None:
    """The Jinja equivalent of `mindcoder.data.conversation.encode_turns`; None for plain texts.

    Args:
        adds_bos: whether the tokenizer prepends its beginning-of-text token.
    """
    template = TEMPLATES[name]
    begin = "bos_token + " if adds_bos else ""
    head, _, tail = template.without_input.partition("{instruction}")
    before, _, after = template.system.partition("{system}")
    opening = f"{_text(before)} + said.system + {_text(after)}"
    if template.system_is_inside:
        first = begin if template.turns_begin_anew or not begin else '(bos_token if loop.first else "") + '
        start = f"{first}{_text(head)}"
        question = f'{start} + ({opening} if loop.first and said.system else "") + content + {_text(tail)}'
    elif template.turn_mark:
        mark = head.index(template.turn_mark)
        first = f"{begin}({opening} if said.system else {_text(head[:mark])})"
        start = f"({first} if loop.first else {_text(template.between)})"
        question = f"{start} + {_text(head[mark:])} + content + {_text(tail)}"
    else:
        return None
    result = TOOL_RESULT.partition("{content}")
    values = {
        "QUESTION": question,
        "RESULT": f'{_text(result[0])} + message["content"] + {_text(result[2])}',
        "BEFORE": _text(template.before_answer),
        "AFTER": _text(template.after_answer),
    }
    return re.sub("|".join(values), lambda match: values[match[0]], FORM)


def write_chat_template(folder: Path, text_format: TextFormat) -> None:
    """Set the chat template of a Hugging Face folder's tokenizer to the template the model was trained with.

    The model's own one lies there already.
    """
    file = folder / TOKENIZER_CONFIG
    if text_format.template in (None, OWN) or not file.is_file():
        return
    assert text_format.template is not None
    adds_bos = text_format.tokenizer is not None and text_format.tokenizer.adds_bos
    jinja = chat_template(text_format.template, adds_bos)
    if jinja is None:
        return
    values = read_json_object(file)
    write_text(file, json.dumps({**values, "chat_template": jinja}, indent=2, ensure_ascii=False) + "\n")
    for name in OTHER_PLACES:
        (folder / name).unlink(missing_ok=True)


def _text(text: str) -> str:
    return json.dumps(text)
