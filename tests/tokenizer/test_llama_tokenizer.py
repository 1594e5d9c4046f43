"""Llama's tokenizer against transformers' and SentencePiece itself, on a model trained here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import REPOSITORY, SAMPLES
from families import sentencepiece_model

from mindcoder.data.encode import IGNORED_LABEL, encode_record
from mindcoder.data.readers import Record
from mindcoder.errors import UserError
from mindcoder.generate.text import TextStream
from mindcoder.tokenizer import load_tokenizer

TRICKY = [
    "def f(x):\n    return x\n",
    "中文注释：快速排序 🙂👩‍💻",
    "  two spaces, \ttab\r\n and   three",
    " leading",
    "x²½Ⅷ 10",
    "<unk> and <s>",
]


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    """A folder with ``tokenizer.model`` alone."""
    folder = tmp_path_factory.mktemp("llama_tokenizer")
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    return folder


@pytest.fixture(scope="session")
def texts():
    """The project's samples, and all of CodeAlpaca where it is present."""
    from conftest import SHARED_DATA

    found = [text for record in json.loads(SAMPLES.read_text(encoding="utf-8")) for text in record.values()]
    file = SHARED_DATA / "code_alpaca_2k.json"
    if file.is_file():
        found += ["\n".join(record.values()) for record in json.loads(file.read_text(encoding="utf-8"))]
    return [*found, *TRICKY]


def test_ids_of_tokenizer_model_equal_huggingface(llama_folder, texts):
    from transformers import LlamaTokenizerFast

    ours = load_tokenizer(llama_folder / "tokenizer.model")
    reference = LlamaTokenizerFast(str(llama_folder / "tokenizer.model"), from_slow=True, add_prefix_space=True)
    for text in texts:
        assert ours.encode(text) == reference(text)["input_ids"], text
        assert ours.decode(ours.encode(text), skip_special_tokens=True) == reference.decode(
            reference(text)["input_ids"], skip_special_tokens=True
        )


def test_ids_of_tokenizer_model_equal_sentencepiece(llama_folder, texts):
    import sentencepiece

    ours = load_tokenizer(llama_folder / "tokenizer.model")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(llama_folder / "tokenizer.model"))
    for text in texts:
        if "<unk>" not in text:  # SentencePiece reads special tokens in a text as text
            assert ours.encode(text) == [reference.bos_id(), *reference.encode(text)], text


def test_tokenizer_json_and_its_config_are_read(llama_folder, texts, tmp_path):
    from transformers import AutoTokenizer, LlamaTokenizerFast

    LlamaTokenizerFast(
        str(llama_folder / "tokenizer.model"), from_slow=True, add_prefix_space=True, pad_token="[PAD]"
    ).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer.model"):
        ours = load_tokenizer(tmp_path / name)
        reference = AutoTokenizer.from_pretrained(tmp_path)
        assert (ours.pad_id, ours.eos_id, ours.bos_id) == (len(reference) - 1, 2, 1)
        assert all(ours.encode(text) == reference(text)["input_ids"] for text in texts[::7])
    ours.save(tmp_path / "again")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert all(ours.encode(text) == again(text)["input_ids"] for text in texts[::7])


def test_infilling_prompt_equals_code_llamas(llama_folder):
    from transformers import CodeLlamaTokenizer

    ours = load_tokenizer(llama_folder)
    reference = CodeLlamaTokenizer(str(llama_folder / "tokenizer.model"))
    prefix, suffix = "def add(a, b):\n    ", "\n    return result\n"
    ids = ours.encode_infill(prefix, suffix)
    assert ids == reference(f"{prefix}<FILL_ME>{suffix}")["input_ids"]
    assert ours.stop_ids == [reference.eos_token_id, reference.eot_id]


def test_streamed_text_is_the_decoded_text(llama_folder, texts):
    tokenizer = load_tokenizer(llama_folder)
    for text in texts[:20] + TRICKY[:5]:
        ids = tokenizer.encode(text)[1:]
        stream = TextStream(tokenizer)
        assert "".join([*map(stream.push, ids), stream.finish()]) == tokenizer.decode(ids, skip_special_tokens=True)


def test_records_begin_with_the_begin_token_and_mask_the_prompt(llama_folder):
    tokenizer = load_tokenizer(llama_folder)
    example = encode_record(Record("f", 0, None, "sort", "", "sorted(x)"), tokenizer, 200, "llama2-chat")
    assert example.input_ids[0] == tokenizer.bos_id and example.input_ids[-1] == tokenizer.eos_id
    learned = example.input_ids[example.labels != IGNORED_LABEL]
    assert tokenizer.decode(learned, skip_special_tokens=True) == "sorted(x)"
    masked = example.input_ids[example.labels == IGNORED_LABEL]
    assert tokenizer.encode("[INST] sort [/INST]") == masked.tolist()


def test_what_is_no_sentencepiece_model_is_refused(tmp_path):
    (tmp_path / "tokenizer.model").write_text("<html>not found</html>")
    with pytest.raises(UserError, match="tokenizer.model: is not a SentencePiece model"):
        load_tokenizer(tmp_path)


def test_mindspore_loads_after_the_verbs_and_a_tokenizer_model(llama_folder):
    """A process of its own: whichever module imports protobuf first decides whether MindSpore's messages load."""
    program = (
        "import sys, mindcoder.cli.verbs\n"
        "from mindcoder.tokenizer.load import load_tokenizer\n"
        "load_tokenizer(sys.argv[1])\n"
        "import mindspore\n"
    )
    command = [sys.executable, "-c", program, str(llama_folder / "tokenizer.model")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
