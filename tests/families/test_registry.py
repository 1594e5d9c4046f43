"""The registry of families: each name belongs to one family, and the tokenizers and templates that it names exist."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import transformers

from mindcoder.families.registry import FAMILIES, family_of, family_of_type
from mindcoder.families.templates import TEMPLATES

TABLES = ("architectures", "templates", "tokenizers")


def test_a_name_belongs_to_one_family():
    for table in TABLES:
        found = Counter(name for family in FAMILIES.values() for name in getattr(family, table))
        assert found and max(found.values()) == 1, (table, found)
    for family in FAMILIES.values():
        assert all(family_of_type(name) is family for name in family.architectures)
        assert all(TEMPLATES[name] is template for name, template in family.templates.items())


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_a_family_names_is_there(model_type):
    family = family_of(model_type)
    assert getattr(transformers, f"{family.class_prefix}Config").model_type == model_type
    assert family.default_template in TEMPLATES
    assert {other.architecture for other in family.other_architectures} <= {*family.architectures.values()}
    assert {names.section_type for names in family.mindformers} <= {*family.architectures}
    section = family.section.model_validate({"type": next(iter(family.architectures))})
    assert family.network(section).model_type == model_type


def test_types_that_the_section_lacks_are_refused():
    with pytest.raises(ValueError, match="llama: the section has types"):
        replace(family_of("llama"), architectures={"LlamaConfig": "LlamaForCausalLM"})
    with pytest.raises(ValueError, match="model_type 'gpt_oss' is not one of .*gpt_bigcode, "):
        family_of("gpt_oss")
