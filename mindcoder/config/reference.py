"""The tables of keys in docs/configuration.md and its Chinese page, and the comments in ``configs/``, from the schema.

    python -m mindcoder.config.reference --write

writes them; without the flag it names the files that are stale. Chinese texts are in docs/configuration_keys_CN.toml,
by the English one. It runs in a checkout.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from mindcoder.config.describe import Key, keys_of, sections_in, type_text
from mindcoder.config.recipe import read_recipe
from mindcoder.config.schema import RunConfig
from mindcoder.config.shipped import shipped, shipped_folder
from mindcoder.config.source import read_yaml
from mindcoder.config.write import with_comments
from mindcoder.families.registry import FAMILIES
from mindcoder.files import write_text
from mindcoder.sections.decoder_section import DecoderSection
from mindcoder.sections.section import Describes

BEGIN, END = "<!-- keys: python -m mindcoder.config.reference --write -->\n", "<!-- end of keys -->\n"
CHINESE = "configuration_keys_CN.toml"
MODEL = "model.model_config"
TYPES: dict[type[BaseModel], str] = {  # of model_config, by their section
    family.section: ", ".join(f"`{name}`" for name in family.architectures) for family in FAMILIES.values()
}


@dataclass(frozen=True)
class Words:
    """What the tables say in a language, and a translation of the keys' texts."""

    head: str
    type_words: dict[str, str]
    required: str
    ours: str
    comma: str
    colon: str
    families: str
    no_effect: tuple[str, str, str]
    one_value: tuple[str, str, str]
    text: Callable[[str], str]


def english() -> Words:
    """As in the schema."""
    return Words(
        "| key | type | default | meaning |",
        {},
        "required",
        "(ours) ",
        ", ",
        ": ",
        "{} besides, or with another default",
        ("Keys without effect", "They are accepted, and the log says why they have none.", "| why | keys |"),
        (
            "Keys with one value",
            "Another value would change the result, so it is refused. Leaving the key out is always right.",
            "| key | accepted | why, or what to use instead |",
        ),
        str,
    )


def chinese(texts: dict[str, str]) -> Words:
    """With the texts of docs/configuration_keys_CN.toml.

    Raises:
        KeyError: a text has no translation.
    """
    kinds = {"bool": "布尔", "int": "整数", "float": "浮点数", "str": "文本", "section": "小节", "sections": "小节"}
    return Words(
        "| 键 | 类型 | 默认值 | 含义 |",
        {**kinds, "none": "无"},
        "必填",
        "（自有）",
        "、",
        "：",
        "{} 另有的键，或默认值不同的键",
        ("不影响结果的键", "接受这些键，并在日志中说明原因。", "| 原因 | 键 |"),
        (
            "只接受一个值的键",
            "其他值会改变计算结果，因此报错。不写该键总是可以的。",
            "| 键 | 接受的值 | 原因或替代办法 |",
        ),
        lambda text: texts[text],
    )


def tables(words: Words) -> str:
    """All tables, in Markdown."""
    return "\n".join([*_live_tables(words), *_no_effect_table(words), *_one_value_table(words)]) + "\n"


def texts() -> set[str]:
    """Every text that needs a translation."""
    found = {key.text for _, section in _sections(RunConfig) for key in keys_of(section)}
    return found - {""}


def _sections(section: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section with its path in the file, depth first; families share a path."""
    yield path, section
    for key in keys_of(section):
        if key.ignored is not None or (path, key.name) == ("model.arch.pet", "pet_config"):
            continue  # a copy of train_dataset, and of model_config.pet_config
        for inner in sections_in(key.field.annotation):
            yield from _sections(inner, f"{path}.{key.name}" if path else key.name)


def _live_tables(words: Words) -> Iterator[str]:
    told: dict[str, Key] = {key.name: key for key in keys_of(DecoderSection)}
    descriptions = _descriptions()
    seen: set[tuple[str, type[BaseModel]]] = set()
    for path, section in _sections(RunConfig):
        if (path, section) in seen:
            continue
        seen.add((path, section))
        keys = [key for key in keys_of(section) if key.is_live]
        if path == MODEL:
            if section is next(iter(TYPES)):
                yield from _table(f"`{path}`", descriptions[path], [key for key in told.values() if key.is_live], words)
            keys = [key for key in keys if key.name not in told or _differs(key, told[key.name])]
            yield from _table(words.families.format(TYPES[section]), "", keys, words)
        elif any(not key.is_section for key in keys):
            yield from _table(f"`{path}`" if path else "", descriptions.get(path, ""), keys, words)


def _descriptions() -> dict[str, str]:
    """What a section is for, by its path."""
    found: dict[str, str] = {}
    for path, section in _sections(RunConfig):
        for key in keys_of(section):
            if key.is_section:
                found.setdefault(f"{path}.{key.name}" if path else key.name, key.text)
    return found


def _differs(key: Key, other: Key) -> bool:
    return (key.text, key.default) != (other.text, other.default)


def _table(title: str, text: str, keys: list[Key], words: Words) -> Iterator[str]:
    if title:
        yield f"### {title}"
        yield ""
    if text:
        said = words.text(text)
        yield said[:1].upper() + said[1:] + ("。" if words.type_words else ".")
        yield ""
    yield words.head
    yield "|---|---|---|---|"
    for key in keys:
        mark = words.ours if key.is_ours else ""
        default = words.required if key.default == "required" else _default(key, words)
        yield f"| `{key.name}` | {_type(key, words)} | {default} | {mark}{words.text(key.text)} |"
    yield ""


def _type(key: Key, words: Words) -> str:
    parts = []
    for part in type_text(key.field.annotation).split(" or "):
        if " | " in part:
            parts.append(", ".join(f"`{choice}`" if choice else "`''`" for choice in part.split(" | ")))
            continue
        kind = part.removeprefix("list of ")
        named = words.type_words.get(kind, kind)
        plain = kind in ("bool", "int", "float", "str", "section", "sections")
        named = named if plain else f"`{named}`"
        is_list = part.startswith("list of ")
        parts.append(f"{named}列表" if is_list and words.type_words else f"list of {named}" if is_list else named)
    return ("或" if words.type_words else " or ").join(parts)


def _default(key: Key, words: Words) -> str:
    if key.default == "none":
        return words.type_words.get("none", "none")
    return f"`{key.default}`" if key.default else ""


def _marked(words: Words, wanted: Callable[[Key], bool]) -> dict[str, dict[str, list[str]]]:
    """Reason -> section -> keys."""
    found: dict[str, dict[str, list[str]]] = {}
    for path, section in _sections(RunConfig):
        for key in keys_of(section):
            if wanted(key):
                names = found.setdefault(words.text(key.text), {}).setdefault(path, [])
                if key.name not in names:
                    names.append(key.name)
    return found


def _no_effect_table(words: Words) -> Iterator[str]:
    def wanted(key: Key) -> bool:
        return key.ignored is not None and not key.ignored.live and not isinstance(key.ignored, Describes)

    title, text, head = words.no_effect
    yield from (f"### {title}", "", text, "", head, "|---|---|")
    for reason, names_by_path in _marked(words, wanted).items():
        by_keys: dict[tuple[str, ...], list[str]] = {}
        for path, names in names_by_path.items():
            by_keys.setdefault(tuple(names), []).append(path)
        cells = []
        for keys, paths in by_keys.items():
            where = words.comma.join(f"`{path}`" for path in paths if path)
            cells.append((f"{where}{words.colon}" if where else "") + words.comma.join(f"`{key}`" for key in keys))
        yield f"| {reason} | {'; '.join(cells)} |"
    yield ""


def _one_value_table(words: Words) -> Iterator[str]:
    title, text, head = words.one_value
    yield from (f"### {title}", "", text, "", head, "|---|---|---|")
    told = set()
    for path, section in _sections(RunConfig):
        for key in keys_of(section):
            name = f"{path}.{key.name}" if path else key.name
            if key.only is not None and name not in told:
                told.add(name)
                allowed = words.comma.join(f"`{value}`" for value in key.only.values)
                yield f"| `{name}` | {allowed} | {words.text(key.text)} |"
    yield ""


def generated(root: Path) -> dict[Path, str]:
    """Every generated file below the checkout ``root``, as it should be."""
    docs = root / "docs"
    translations = tomllib.loads((docs / CHINESE).read_text(encoding="utf-8"))
    files = {}
    for name, words in (("configuration.md", english()), ("configuration_CN.md", chinese(translations))):
        text = (docs / name).read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        body = f"\n{tables(words)}\n".replace("\n\n\n", "\n\n")
        files[docs / name] = f"{before}{BEGIN}{body}{END}{rest.partition(END)[2]}"
    for file in sorted(shipped_folder().rglob("*.yaml")):
        names = {name: config for name, config in shipped().items() if config.file == file}
        wholes = {(name if config.entry else ""): read_recipe(name).data for name, config in names.items()}
        files[file] = with_comments(file.read_text(encoding="utf-8"), read_yaml(file), wholes)
    return files


def checkout() -> Path:
    """The folder of the repository."""
    return Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    """Write the stale files, or name them; returns 1 if there are any and they are not written."""
    root = checkout()
    stale = {file: text for file, text in generated(root).items() if file.read_text(encoding="utf-8") != text}
    for file, text in stale.items():
        if "--write" in arguments:
            write_text(file, text)
        print(f"{file.relative_to(root)}: {'written' if '--write' in arguments else 'stale'}")
    return 1 if stale and "--write" not in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
