"""Fill-in-the-middle marks of every family, found in the vocabulary; files of a repository before the gap."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mindcoder.data.infill import InfillOptions, InfillRearranger
from mindcoder.errors import UserError
from mindcoder.tokenizer.code_tokenizer import CodeTokenizer
from mindcoder.tokenizer.infill import Repository
from mindcoder.tokenizer.special_tokens import SpecialTokens

# Marks of a vocabulary -> the prompt for the text between P and S, as the models' authors write it.
FAMILIES = {
    "starcoder": (("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<reponame>", "<filename>"),
                  "<fim_prefix>P<fim_suffix>S<fim_middle>"),
    "santacoder": (("<fim-prefix>", "<fim-suffix>", "<fim-middle>"), "<fim-prefix>P<fim-suffix>S<fim-middle>"),
    "starcoder2": (("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<repo_name>", "<file_sep>"),
                   "<fim_prefix>P<fim_suffix>S<fim_middle>"),
    "codeqwen1.5": (("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<reponame>", "<file_sep>"),
                    "<fim_prefix>P<fim_suffix>S<fim_middle>"),
    "code llama": (("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"), "▁<PRE>P▁<SUF>S▁<MID>"),
    "qwen2.5-coder": (("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>",
                       "<|file_sep|>"), "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>"),
    "codegemma": (("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_separator|>"),
                  "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>"),
    "deepseek-coder": (("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
                       "<｜fim▁begin｜>P<｜fim▁hole｜>S<｜fim▁end｜>"),
    "seed-coder": (("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>"),
                   "<[fim-suffix]>S<[fim-prefix]>P<[fim-middle]>"),
    "codestral": (("[PREFIX]", "[SUFFIX]", "[MIDDLE]"), "[SUFFIX]S[PREFIX]P"),
    "aixcoder": (("▁<AIX-SPAN-PRE>", "▁<AIX-SPAN-POST>", "▁<AIX-SPAN-MIDDLE>"),
                 "▁<AIX-SPAN-PRE>P▁<AIX-SPAN-POST>S▁<AIX-SPAN-MIDDLE>"),
}  # fmt: skip
# The prompt with a file u.py (content U), the repository's name R, and the path m.py of the file with the gap.
REPOSITORIES = {
    "starcoder": "<fim_prefix>#u.py\nU\n#m.py\nP<fim_suffix>S<fim_middle>",
    "starcoder2": "<repo_name>R<file_sep>u.py\nU<file_sep><fim_prefix>m.py\nP<fim_suffix>S<fim_middle>",
    "codeqwen1.5": "<reponame>R\n<file_sep>u.py\nU\n<file_sep>m.py\n<fim_prefix>P<fim_suffix>S<fim_middle>",
    "qwen2.5-coder": "<|repo_name|>R\n<|file_sep|>u.py\nU\n<|file_sep|>m.py\n"
                     "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
    "codegemma": "u.py\nU<|file_separator|><|fim_prefix|>m.py\nP<|fim_suffix|>S<|fim_middle|>",
    "deepseek-coder": "<｜fim▁begin｜>#u.py\nU\n#m.py\nP<｜fim▁hole｜>S<｜fim▁end｜>",
    "seed-coder": "<[fim-suffix]>S<[fim-prefix]>#u.py\nU\n#m.py\nP<[fim-middle]>",
    "codestral": "[SUFFIX]S[PREFIX]+++++ u.py\nU\n\n+++++ m.py\nP",
}  # fmt: skip
ENDS = {
    "starcoder2": ["<file_sep>"], "codeqwen1.5": ["<file_sep>", "<reponame>"], "code llama": ["▁<EOT>"],
    "qwen2.5-coder": ["<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"], "codegemma": ["<|file_separator|>"],
}  # fmt: skip


def vocabulary(name: str, adds_bos: bool = False) -> CodeTokenizer:
    """Bytes, and the marks of a family."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={text: index for index, text in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    marks = ("<s>", "</s>", *FAMILIES[name][0])
    backend.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    return CodeTokenizer(backend, SpecialTokens("</s>", "</s>", "<s>", adds_bos))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_gap_is_written_as_by_the_models_authors(name):
    tokenizer = vocabulary(name)
    ids = tokenizer.encode_infill("P", "S")
    assert tokenizer.decode(ids) == FAMILIES[name][1]
    marks = [mark for mark in tokenizer.infill.required if mark in FAMILIES[name][1]]
    assert len(ids) == 2 + len(marks)  # every mark is one token
    begun = vocabulary(name, adds_bos=True).encode_infill("P", "S")
    assert begun[1:] == ids and begun[0] == tokenizer.backend.token_to_id("<s>")
    find = tokenizer.backend.token_to_id
    assert tokenizer.stop_ids == [tokenizer.eos_id, *map(find, ENDS.get(name, []))]


@pytest.mark.parametrize("name", REPOSITORIES)
def test_related_files_come_first(name):
    tokenizer = vocabulary(name)
    repository = Repository((("u.py", "U"),), "m.py", "R")
    assert tokenizer.decode(tokenizer.encode_infill("P", "S", repository)) == REPOSITORIES[name]
    braces = Repository((("u.py", "{path} {name} {0}"),))
    assert "{path} {name} {0}" in tokenizer.decode(tokenizer.encode_infill("{content}", "S", braces))
    assert tokenizer.encode_infill("P", "S", Repository()) == tokenizer.encode_infill("P", "S")


@pytest.mark.parametrize("name", FAMILIES)
def test_documents_are_rearranged_with_the_models_marks(name):
    tokenizer, text = vocabulary(name), "def f(x):\n    return x + 1\n"
    ids = [*tokenizer.encode(text), tokenizer.eos_id]
    rearranger = InfillRearranger(tokenizer, InfillOptions(1.0, 0.5, 3))
    find, marks = tokenizer.backend.token_to_id, tokenizer.infill
    prefix, suffix, middle = (find(mark) if mark else None for mark in (marks.prefix, marks.suffix, marks.middle))
    seen = set()
    for number in range(40):
        found = rearranger.maybe(ids, (number,))
        assert len(found) <= len(ids) + rearranger.extra_tokens
        assert found[-1] == (tokenizer.eos_id if marks.stop is None else find(marks.stop))
        rest, order = found[:-1], "psm"
        if marks.order == "spm":
            assert rest[0] == suffix
            after, rest = rest[1 : rest.index(prefix)], rest[rest.index(prefix) + 1 :]
            whole = [token for token in rest if token != middle]  # the prefix and what fills the gap
            order = "spm"
        elif rest[1] == suffix and rest.index(middle) > 1 and _is_suffix(tokenizer, rest, middle, text):
            after, whole, order = rest[2 : rest.index(middle)], rest[rest.index(middle) + 1 :], "spm"
        else:
            cut = rest.index(suffix)
            before, after = rest[1:cut], rest[cut + 1 : rest.index(middle)]
            whole = [*before, *rest[rest.index(middle) + 1 :]]
        assert tokenizer.decode([*whole, *after]) == text
        seen.add(order)
    assert seen == ({"spm"} if marks.order == "spm" else {"psm", "spm"})


def _is_suffix(tokenizer, rest, middle, text):
    """Whether what follows two marks is the end of the text, as in StarCoder's SPM order."""
    cut = rest.index(middle)
    return tokenizer.decode([*rest[cut + 1 :], *rest[2:cut]]) == text


def test_a_vocabulary_without_marks_is_refused():
    tokenizer = vocabulary("starcoder")
    tokenizer.infill = None
    with pytest.raises(UserError, match="no fill-in-the-middle tokens"):
        tokenizer.encode_infill("a", "b")
    with pytest.raises(UserError, match="no fill-in-the-middle tokens"):
        InfillRearranger(tokenizer, InfillOptions(1.0))
