"""The generated tables and comments are up to date, and complete in both languages."""

from __future__ import annotations

import tomllib

from conftest import REPOSITORY
from section_reads import declared_fields

from mindcoder.config.describe import Key
from mindcoder.config.reference import CHINESE, generated, main, texts

STALE = "stale: run `python -m mindcoder.config.reference --write`"


def test_every_live_key_says_what_it_is():
    for owner, name, field in declared_fields():
        key = Key(field.alias or name, field)
        assert key.text and not key.text.endswith("."), f"{owner.__name__}.{name}"
        assert len(key.comment()) < 220, f"{owner.__name__}.{name}"
        if key.is_live and not key.is_section and "default" not in key.text:
            assert key.default or field.default == "", f"{owner.__name__}.{name}"


def test_the_pages_and_the_comments_are_those_of_the_schema():
    for file, text in generated(REPOSITORY).items():
        assert file.read_text(encoding="utf-8") == text, f"{file}: {STALE}"


def test_every_text_is_translated_and_no_other():
    chinese = tomllib.loads((REPOSITORY / "docs" / CHINESE).read_text(encoding="utf-8"))
    assert set(chinese) == texts()
    assert all(any("\u4e00" <= letter <= "\u9fff" for letter in text) or "MLP" in text for text in chinese.values())


def test_the_pages_name_every_key():
    for page in ("configuration.md", "configuration_CN.md"):
        text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
        for owner, name, field in declared_fields():
            if Key(name, field).is_live or Key(name, field).only:
                assert f"{field.alias or name}`" in text, f"{page}: {owner.__name__}.{name}"


def test_a_stale_file_is_named(capsys, monkeypatch, tmp_path):
    page = tmp_path / "docs" / "configuration.md"
    page.parent.mkdir()
    page.write_text("old")
    monkeypatch.setattr("mindcoder.config.reference.checkout", lambda: tmp_path)
    monkeypatch.setattr("mindcoder.config.reference.generated", lambda root: {root / "docs" / page.name: "new"})
    assert main([]) == 1 and capsys.readouterr().out == "docs/configuration.md: stale\n" and page.read_text() == "old"
    assert main(["--write"]) == 0 and page.read_text() == "new"
