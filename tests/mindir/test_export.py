"""`mindcoder.export` and `mindcoder.load` of what it has written, beside the engine and transformers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import yaml
from conftest import REPOSITORY, SAMPLES
from families import long_but, random_model, reference_tokens
from quantized import WIDE
from transformers import AutoModelForCausalLM

import mindcoder
from mindcoder.checkpoint.weights import open_weights
from mindcoder.cli.main import main
from mindcoder.errors import UserError
from mindcoder.generate.exported_manifest import read_exported_manifest
from mindcoder.generate.shape_buckets import ShapeBuckets, read_buckets

IDS = 701  # of the tokenizer
NEW = 24
NETWORKS = [
    pytest.param("gpt_bigcode", {}, False, id="gpt_bigcode"),
    pytest.param("llama", {"tie_word_embeddings": True}, True, id="llama tied, dynamic shapes"),
    pytest.param("starcoder2", {"sliding_window": 40}, False, id="starcoder2 window"),
    pytest.param("qwen2", {}, False, id="qwen2"),
    pytest.param(
        "llama",
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 64},
        False,
        id="llama dynamic scaling",
    ),
    pytest.param(
        "gpt_bigcode",
        {"multi_query": False, "activation_function": "gelu"},
        True,
        id="multi-head exact-gelu, dynamic shapes",
    ),
    pytest.param("starcoder2", {"sliding_window": 40}, True, id="starcoder2 window, dynamic shapes"),
]


@pytest.fixture(scope="module")
def folder_of(tokenizer_folder, tmp_path_factory):
    """``folder_of(family, **overrides)``: a random model of transformers with a tokenizer."""

    def make(family: str = "gpt_bigcode", **overrides) -> Path:
        folder = tmp_path_factory.mktemp("source") / "model"
        random_model(family, layers=1, vocab_size=IDS, **overrides).save_pretrained(folder)
        for file in tokenizer_folder.iterdir():
            shutil.copy(file, folder)
        return folder

    return make


@pytest.fixture(scope="module")
def source(folder_of) -> Path:
    return folder_of("llama")


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory) -> Path:
    """The source, two sequences at a time; in a folder that MindSpore's own `export` refuses."""
    folder = tmp_path_factory.mktemp("exported") / "模型 exported"
    mindcoder.export(source, folder, batch=2, max_length=128, progress=False)
    return folder


def ragged(rng, lengths=(5, 270, 1, 23)) -> list[list[int]]:
    return [rng.integers(1, IDS - 1, length).tolist() for length in lengths]


def answers(model, prompts) -> list[tuple[int, ...]]:
    return [answer.tokens for answer in model.generate(prompts, max_new_tokens=NEW)]


@pytest.mark.parametrize("family, overrides, dynamic", long_but(NETWORKS, 0, 1))
def test_the_graphs_say_what_the_engine_and_transformers_say(family, overrides, dynamic, folder_of, tmp_path, rng):
    folder = folder_of(family, **overrides)
    done = mindcoder.export(folder, tmp_path / "out", batch=3, max_length=310, dynamic=dynamic, progress=False)
    assert done.graphs == (
        ("dynamic_graph.mindir",)
        if dynamic
        else tuple(f"{name}_graph.mindir" for name in ("prefill", "decode", "score"))
    )
    assert set(done.graphs) <= {file.name for file in (tmp_path / "out").iterdir()} and done.nbytes > 10_000
    prompts = ragged(rng)  # one of more tokens than a step, one that waits for its turn
    found, engine = (mindcoder.load(where, max_length=310, batch=3) for where in (tmp_path / "out", folder))
    tokens = answers(found, prompts)
    assert tokens == answers(engine, prompts)
    torch_model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    for prompt, answer in zip(prompts, tokens):
        wanted = tuple(reference_tokens(deepcopy(torch_model), [prompt], NEW)[0])
        assert answer == wanted[: len(answer)]
    ids = prompts[1]
    np.testing.assert_allclose(found.logits(ids), engine.logits(ids), atol=2e-4)
    assert answers(found, prompts) == tokens  # the logits have a cache of their own


def test_float16_weights_and_a_merged_adapter(source, tmp_path, rng):
    model = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(source),
        peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]),
    )
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(tmp_path / "lora")
    options = {"dtype": "float16", "max_length": 64, "dynamic": True}
    mindcoder.export(source, tmp_path / "out", adapter=tmp_path / "lora", progress=False, **options)
    ids = ragged(rng, (20,))[0]
    mindcoder.convert(
        source, tmp_path / "merged", to="mindcoder", adapter=tmp_path / "lora", dtype="float16", progress=False
    )
    merged = mindcoder.load(tmp_path / "merged", max_length=64).logits(ids)
    found = mindcoder.load(tmp_path / "out").logits(ids)
    np.testing.assert_allclose(found, merged, atol=2e-3)
    assert np.abs(found - mindcoder.load(source, max_length=64).logits(ids)).max() > 0.05


def test_codes_of_nf4_become_floating_point_again(folder_of, tmp_path, rng, caplog):
    source = folder_of("llama", **WIDE["llama"])
    mindcoder.quantize(source, tmp_path / "nf4", method="nf4", progress=False)
    mindcoder.export(tmp_path / "nf4", tmp_path / "out", max_length=64, dynamic=True, progress=False)
    assert "is quantized (NF4); the graphs multiply in floating point" in caplog.text
    ids = ragged(rng, (20,))[0]
    found, wanted = (mindcoder.load(tmp_path / name, max_length=64).logits(ids) for name in ("out", "nf4"))
    np.testing.assert_allclose(found, wanted, atol=1e-3)


INTEGERS = [
    pytest.param("llama", {"method": "w8a16"}, False, 1e-3, id="w8a16"),
    pytest.param("gpt_bigcode", {"method": "w8a16", "symmetric": False}, True, 1e-3, id="w8a16 offsets, dynamic"),
    pytest.param("llama", {"method": "w8a16", "group_size": 32}, True, 1e-3, id="w8a16 groups, dynamic"),
    pytest.param("llama", {"method": "w4a16", "group_size": 32}, False, 1e-3, id="w4a16"),
    # A sum of squares that differs in its last bit may turn a rounding: the next layers see one step more or less.
    pytest.param("gpt_bigcode", {"method": "w8a8"}, True, 0.02, id="w8a8, dynamic shapes"),
    pytest.param("llama", {"method": "w8a8", "activations": "static"}, False, 0.02, id="w8a8 static"),
]


@pytest.mark.parametrize("family, options, dynamic, bound", long_but(INTEGERS, 0, 5))
def test_graphs_of_integers_say_what_the_engine_says(family, options, dynamic, bound, folder_of, tmp_path, rng, caplog):
    """Their weights are written in the bytes that the quantized folder has them in."""
    caplog.set_level("INFO")
    source = folder_of(family, **WIDE[family])
    if options.get("activations") == "static":
        options = {**options, "calibration": SAMPLES, "samples": 4, "length": 32}
    mindcoder.quantize(source, tmp_path / "q", progress=False, **options)
    done = mindcoder.export(tmp_path / "q", tmp_path / "out", batch=3, max_length=310, dynamic=dynamic, progress=False)
    kind = json.loads((tmp_path / "out" / "mindir.json").read_text())["quantization"]
    assert kind and f"is quantized ({kind}); the graphs keep the integers" in caplog.text
    floats = mindcoder.export(source, tmp_path / "float", max_length=310, dynamic=True, progress=False)
    saved = 3.2 if options["method"] == "w4a16" else 2.7  # bytes of a weight
    config = open_weights(source).config
    linears = sum(np.prod(shape) for shape in config.linear_shapes().values()) * config.num_layers
    assert floats.nbytes - done.nbytes > saved * linears
    prompts = ragged(rng)
    found, engine = (mindcoder.load(where, max_length=310, batch=3) for where in (tmp_path / "out", tmp_path / "q"))
    assert answers(found, prompts) == answers(engine, prompts)
    ids, largest = prompts[3], np.abs(engine.logits(prompts[3])).max()
    np.testing.assert_allclose(found.logits(ids), engine.logits(ids), atol=bound * largest)


def test_it_is_a_model_like_others(exported, source, capsys, caplog):
    model, engine = mindcoder.load(exported, batch=8), mindcoder.load(source, max_length=128)
    assert f"2 sequences are computed together, not 8: {exported} was exported with --batch 2" in caplog.text
    assert (model.max_length, model.engine.batch, model.template) == (128, 2, engine.template)
    question = [{"role": "user", "content": "Write add."}]
    assert str(model.chat(question, max_new_tokens=8)) == str(engine.chat(question, max_new_tokens=8))
    shorter = mindcoder.load(exported, max_length=40)
    assert shorter.generate("def add(", max_new_tokens=8).tokens == engine.generate("def add(", max_new_tokens=8).tokens
    assert main(["bench", str(exported), "--pairs", "[[16,4]]", "--output_file", str(exported.parent / "b.csv")]) == 0
    assert (exported.parent / "b.csv").is_file() and "next ms" in capsys.readouterr().out


PROGRAM = """
import json, sys
from pathlib import Path
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

folder = Path(sys.argv[1])
told = json.loads((folder / "mindir.json").read_text())
size, table = told["block_size"], np.zeros(told["graphs"]["decode"]["inputs"]["block_tables"]["shape"], np.int32)
blocks = table.shape[1]
table[0] = 1 + np.arange(blocks)  # block 0 is for what is not meant

def step(graph, ids, begin):
    shape = {name: described["shape"] for name, described in told["graphs"][graph]["inputs"].items()}
    tokens = shape["input_ids"][0]
    padded = np.zeros(tokens, np.int32); padded[: len(ids)] = ids
    places = np.zeros(tokens, np.int32); places[: len(ids)] = begin + np.arange(len(ids))
    slots = np.arange(tokens, dtype=np.int32) % size; slots[: len(ids)] = size + begin + np.arange(len(ids))
    wanted = np.full(shape["logits_indices"], len(ids) - 1, np.int32)
    head = told["config"]["head_dim"]
    frequencies = told["config"]["rope_theta"] ** -(np.arange(0, head, 2) / head)
    angles = places[:, None] * frequencies
    cos_sin = np.concatenate([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    given = (padded, places, slots, table[: shape["block_tables"][0]], wanted, cos_sin)
    return int(cells[graph](*map(Tensor, given)).asnumpy()[0].argmax())

ms.set_device("CPU")
cells, parameters = {}, {}
for name in ("prefill", "decode"):
    cells[name] = nn.GraphCell(ms.load(str(folder / told["graphs"][name]["file"])))
    for key, parameter in cells[name].parameters_dict().items():  # weights and cache are shared
        parameter.assign_value(parameters.setdefault(key, parameter))
prompt = json.loads(sys.argv[2])
tokens = [step("prefill", prompt, 0)]
for _ in range(7):
    tokens.append(step("decode", tokens[-1:], len(prompt) + len(tokens) - 1))
assert "mindcoder" not in sys.modules
print(json.dumps(tokens))
"""


def test_the_graphs_run_without_this_package(exported, source, rng):
    prompt = ragged(rng, (19,))[0]
    wanted = mindcoder.load(source, max_length=128).generate([prompt], max_new_tokens=8)[0].tokens
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(exported), json.dumps(prompt)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert tuple(json.loads(done.stdout.splitlines()[-1])) == wanted


def test_the_manifest_tells_what_the_graphs_take(exported, source):
    told = json.loads((exported / "mindir.json").read_text())
    assert set(told["graphs"]) == {"prefill", "decode", "score"} and told["version"] == 1
    decode = told["graphs"]["decode"]
    assert {name: described["shape"] for name, described in decode["inputs"].items()} == {
        "input_ids": [2],
        "position_ids": [2],
        "slot_mapping": [2],
        "block_tables": [2, 8],
        "logits_indices": [2],
        "cos_sin": [2, 12],
    }
    assert decode["output"] == {"dtype": "float32", "shape": [2, IDS]}
    assert told["files"] == {name: (exported / name).stat().st_size for name in told["files"]}
    config = json.loads((exported / "config.json").read_text())
    assert config["hidden_size"] == json.loads((source / "config.json").read_text())["hidden_size"]
    weights = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_pretrained(source).parameters()) * 4
    on_disk = sum((exported / name).stat().st_blocks * 512 for name in told["files"])
    assert on_disk < weights + 2e6  # once for all graphs, and nothing for the cache


def test_the_verb_and_its_refusals(source, exported, tmp_path, capsys):
    command = ["export", str(source), str(tmp_path / "out"), "--format", "mindir", "--max_length", "48", "--dynamic"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "-> mindir: " in printed and "(dynamic_graph.mindir; 0." in printed
    assert main(command) == 2 and "exists; add --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert main(["convert", str(exported), str(tmp_path / "x")]) == 2
    assert "is an exported model, whose graphs only answer" in capsys.readouterr().err
    assert main(["export", str(exported), str(tmp_path / "x")]) == 2
    assert main(["export", str(tmp_path / "nowhere"), str(tmp_path / "x")]) == 2
    assert "no such checkpoint" in capsys.readouterr().err and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"format": "onnx"}, "format: expected one of mindir, found 'onnx'"),
        ({"dtype": "bfloat16"}, "dtype: expected one of float32, float16"),
        ({"batch": 0}, "batch: expected a whole number of at least 1"),
        ({"blocks": 2, "max_length": 64}, "--blocks: 2 of 16 tokens are less than one text of 64 tokens"),
        ({"max_length": 1}, "--max_length: 1 token has no room for a prompt and an answer: expected 2 or more"),
        ({"adapter": "nowhere"}, "nowhere: no such adapter"),
        ({"template": "mine"}, "no template 'mine'"),
    ],
)
def test_wrong_options_are_one_line(source, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        mindcoder.export(source, "out", progress=False, **options)
    assert message in str(error.value) and "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_learned_positions_limit_the_length(folder_of, tmp_path):
    folder = folder_of()
    with pytest.raises(UserError, match="--max_length: 321 tokens are more than the model's 320 positions"):
        mindcoder.export(folder, tmp_path / "out", max_length=321, progress=False)
    (folder / "tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="has no tokenizer with it; name one with --tokenizer"):
        mindcoder.export(folder, tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_length": 129}, "was exported with --max_length 128; 129 needs another export"),
        ({"blocks": 17}, "was exported with 17 cache blocks of 16 tokens; requested: 18 of 16"),
        ({"adapters": {"a": "lora"}}, "takes no adapters: merge one with export --adapter"),
    ],
)
def test_more_than_was_exported_is_refused(exported, options, message):
    with pytest.raises(UserError) as error:
        mindcoder.load(exported, **options)
    assert message in str(error.value)


def damaged(exported: Path, target: Path, change) -> Path:
    shutil.copytree(exported, target)
    file = target / "mindir.json"
    values = json.loads(file.read_text())
    change(values, target)
    file.write_text(json.dumps(values))
    return target


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda values, folder: values.update(version=2), "mindir.json: version: expected 1, found 2"),
        (lambda values, folder: values.update(blokcs=3), "mindir.json: blokcs: unknown key; the nearest is blocks"),
        (
            lambda values, folder: values["graphs"]["decode"].update(row=1),
            "graphs.decode.row: unknown key; the nearest is rows",
        ),
        (
            lambda values, folder: values["graphs"].pop("decode"),
            "graphs: found prefill, score, expected prefill, decode, score or dynamic",
        ),
        (lambda values, folder: values.update(graphs={}), "graphs: found none, expected prefill"),
        (lambda values, folder: values.pop("graphs"), "mindir.json: graphs: expected an object"),
        (lambda values, folder: values.update(batch="two"), "mindir.json: batch: expected a whole number above 0"),
        (lambda values, folder: values["config"].pop("hidden_size"), "mindir.json: config: "),
        (lambda values, folder: values["config"].update(bits=4), "mindir.json: config: unknown fields: bits"),
        (
            lambda values, folder: values["graphs"]["decode"].update(file="../x.mindir"),
            "graphs.decode.file: expected the name of a file in this folder",
        ),
        (lambda values, folder: values["files"].pop("decode_graph.mindir"), "decode_graph.mindir is not listed"),
        (lambda values, folder: (folder / "prefill_graph.mindir").unlink(), "prefill_graph.mindir: is missing"),
        (
            lambda values, folder: (folder / "prefill_graph.mindir").write_bytes(b"x" * 10),
            "prefill_graph.mindir: is damaged: 10 bytes instead of",
        ),
        (
            lambda values, folder: (
                (folder / "decode_graph.mindir").write_bytes(b"nonsense"),
                values["files"].update({"decode_graph.mindir": 8}),
            ),
            "decode_graph.mindir: MindSpore cannot load it",
        ),
    ],
)
def test_a_damaged_folder_is_one_line(exported, tmp_path, change, message):
    folder = damaged(exported, tmp_path / "damaged", change)
    with pytest.raises(UserError) as error:
        mindcoder.load(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_nothing_is_left_of_an_export_that_fails(source, tmp_path, monkeypatch):
    def fail(*arguments):
        raise UserError("no")

    monkeypatch.setattr("mindcoder.mindir.run.write_graph", fail)
    with pytest.raises(UserError):
        mindcoder.export(source, tmp_path / "out", progress=False)
    assert not list(tmp_path.iterdir())


INTERRUPTED = """
import os, signal, sys, threading
import mindspore as ms
from mindcoder.cli.main import main

real = ms.export

def export(*arguments, **options):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    return real(*arguments, **options)

ms.export = export
sys.exit(main(["export", sys.argv[1], "out", "--max_length", "48"]))
"""


def test_ctrl_c_amid_a_compilation_is_one_line_and_leaves_nothing(source, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(source)], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 130 and done.stdout == "", done.stderr
    assert done.stderr.splitlines()[-1] == "mindcoder: interrupted" and "Traceback" not in done.stderr
    assert "C++ Call Stack" not in done.stderr and not list(tmp_path.iterdir())


def test_a_yaml_file_is_taken_with_the_original_keys(folder_of, tokenizer_folder, tmp_path, rng):
    """`checkpoint_name_or_path` names the weights, whose names are MindFormers'; the file tells the architecture."""
    folder = folder_of()
    mindcoder.convert(folder, tmp_path / "old" / "wizardcoder.ckpt", progress=False)
    assert [file.name for file in (tmp_path / "old").iterdir()] == ["wizardcoder.ckpt"]
    sizes = {"vocab_size": IDS, "pad_token_id": 700, "hidden_size": 48, "num_layers": 1, "num_heads": 4}
    lengths = {"intermediate_size": 112, "n_position": 320, "seq_length": 64, "batch_size": 6}
    given = {"use_past": True, "checkpoint_name_or_path": str(tmp_path / "old" / "wizardcoder.ckpt")}
    keys = {
        "base": str(REPOSITORY / "configs" / "wizardcoder" / "tiny_predict.yaml"),
        "load_checkpoint": "",
        "use_parallel": False,
        "model": {"model_config": {**sizes, **lengths, **given}},
        "processor": {"tokenizer": {"vocab_file": str(tokenizer_folder / "tokenizer.json")}},
    }
    (tmp_path / "run_wizardcoder.yaml").write_text(yaml.safe_dump(keys))
    mindcoder.export(tmp_path / "run_wizardcoder.yaml", tmp_path / "out", max_length=96, dynamic=True, progress=False)
    manifest = read_exported_manifest(tmp_path / "out")
    buckets = read_buckets(tmp_path / "out", manifest.inputs(manifest.graphs["dynamic"]))
    assert buckets == ShapeBuckets((1, 2, 4, 6), (32, 64))
    prompts = ragged(rng, (5, 40))
    assert answers(mindcoder.load(tmp_path / "out"), prompts) == answers(mindcoder.load(folder, max_length=96), prompts)


def test_a_learned_prefix_is_refused(hf_folder, tmp_path):
    model, _, folder = hf_folder()
    prefixed = peft.get_peft_model(
        model,
        peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=16, base_model_name_or_path=str(folder)),
    )
    prefixed.peft_config["default"].base_model_name_or_path = str(folder)
    prefixed.save_pretrained(tmp_path / "prefix")
    with pytest.raises(UserError, match="is a prefix, which cannot be exported"):
        mindcoder.export(tmp_path / "prefix", tmp_path / "out", progress=False)
