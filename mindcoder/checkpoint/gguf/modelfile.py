"""The Modelfile with which ``ollama create`` takes a GGUF file (github.com/ollama/ollama, docs/modelfile.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mindcoder.data.prompt import OWN, TEMPLATES
from mindcoder.errors import UserError
from mindcoder.families.infill_tokens import InfillTokens
from mindcoder.files import file_there, write_text

PROMPT, SYSTEM, SUFFIX = "{{ .Prompt }}", "{{ .System }}", "{{ .Suffix }}"


def modelfile_beside(file: Path, overwrite: bool) -> Path:
    """Where the Modelfile of ``file`` belongs.

    Raises:
        UserError: there is one, and it may not be replaced.
    """
    path = file.with_suffix(".Modelfile")
    if file_there(path) and not overwrite:
        raise UserError("exists; add --overwrite to replace it", path)
    return path


def write_modelfile(
    path: Path, model: Path, template: str | None, stops: Sequence[str], infill: InfillTokens | None, context: int
) -> None:
    """Write it.

    Args:
        model: the GGUF file beside it.
        template: name of the prompt template; None, or the model's own: ollama takes the file's chat template.
        stops: texts that end an answer.
        infill: marks of fill-in-the-middle, if the model has them.
        context: tokens of prompt and answer.
    """
    lines = [f"FROM ./{model.name}", f"PARAMETER num_ctx {context}"]
    text = None if template in (None, OWN) else _go_template(template or "", infill)
    if text is not None:
        lines.append(f'TEMPLATE """{text}"""')
        mark = TEMPLATES[template or ""].turn_mark
        stops = [*stops, *([mark] if mark else [])]
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stops]
    write_text(path, "\n".join(lines) + "\n")


def _go_template(name: str, infill: InfillTokens | None) -> str | None:
    """The prompt in Go's template language; None for plain texts, which ollama passes on as they are."""
    template = TEMPLATES[name]
    plain, told = template.question(PROMPT), template.question(PROMPT, system=SYSTEM)
    if plain == PROMPT:
        return None
    text = f"{{{{ if .System }}}}{told}{{{{ else }}}}{plain}{{{{ end }}}}"
    if infill is not None:
        parts = [f"{infill.prefix}{PROMPT}", f"{infill.suffix}{SUFFIX}"]
        gap = "".join(reversed(parts) if infill.order == "spm" else parts) + infill.middle
        text = f"{{{{ if .Suffix }}}}{gap}{{{{ else }}}}{text}{{{{ end }}}}"
    return text


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
