"""The original MindFormers scripts under research/, scripts/ and tools/, with their own flags and files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import command
import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from families import random_model, to_bin
from safetensors.torch import load_file

from mindcoder.checkpoint.weights import open_weights
from mindcoder.cli import scripts
from mindcoder.cli.arguments import config_flags
from mindcoder.config.load import load_config
from mindcoder.errors import UserError
from mindcoder.evaluate.mbpp_files import numbered_problems, prompt_of
from mindcoder.evaluate.protocols.wizardlm import process_mbpp

WIZARDCODER = REPOSITORY / "research" / "wizardcoder"


def script(name: str, *arguments, **options) -> subprocess.CompletedProcess:
    return command.script(REPOSITORY / "research" / name, *arguments, **options)


def bash(name: str, *arguments, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    words = ["bash", str(REPOSITORY / name), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)


def in_process(monkeypatch, call, *arguments) -> int:
    """A script's function with a command line, without the seconds that a process takes."""
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
    return call("script")


@pytest.mark.parametrize("model", ["wizardcoder", "llama"])
def test_weights_go_to_mindspore_and_back(model, hf_folder, tmp_path):
    _, _, folder = hf_folder("gpt_bigcode" if model == "wizardcoder" else "llama")
    there = script(f"{model}/convert_weight.py", "--torch_path", folder, "--mindspore_path", tmp_path / "ms")
    assert there.returncode == 0, there.stderr
    back = script(f"{model}/convert_reversed.py", "--mindspore_path", tmp_path / "ms", "--torch_path", tmp_path / "hf")
    assert back.returncode == 0, back.stderr
    before, after = open_weights(folder).parameters(), open_weights(tmp_path / "hf").parameters()
    assert all(np.array_equal(before[name].read(), after[name].read()) for name in before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ["gpt_bigcode", "llama"])
def test_a_bin_file_is_what_transformers_saves(family, dtype, tmp_path, monkeypatch):
    model = random_model(family).to(dtype)
    model.save_pretrained(tmp_path / "hf")
    flags = ["--torch_path", tmp_path / "hf", "--mindspore_path", tmp_path / "ms"]
    assert in_process(monkeypatch, scripts.convert_weight_script, *flags, "--layers", 3) == 0
    flags = ["--mindspore_path", tmp_path / "ms", "--torch_path", tmp_path / "x.bin"]
    assert in_process(monkeypatch, scripts.convert_reversed_script, *flags) == 0
    written, state = torch.load(tmp_path / "x.bin", weights_only=True), model.state_dict()
    assert set(written) == set(state)
    assert all(written[name].dtype == dtype and torch.equal(written[name], state[name]) for name in state)
    fresh = random_model(family, vocab_size=131).to(dtype)
    fresh.load_state_dict(written)  # strict: every name is there, the tied head's too
    shared = [written[name].untyped_storage().data_ptr() for name in ("transformer.wte.weight", "lm_head.weight")
              if name in written]  # fmt: skip
    assert len(set(shared)) == 1


def test_the_number_of_layers_is_checked_and_a_shard_stands_for_all(tmp_path, monkeypatch, capsys):
    model = random_model("gpt_bigcode")
    model.save_pretrained(tmp_path / "hf", max_shard_size="60KB")
    to_bin(tmp_path / "hf")
    shard = sorted((tmp_path / "hf").glob("*-of-*.bin"))[0]
    flags = ["--torch_path", shard, "--mindspore_path", tmp_path / "wizardcoder.ckpt"]
    assert in_process(monkeypatch, scripts.convert_weight_script, *flags, "--layers", 40) == 2
    assert "has 3 layers; --layers says 40" in capsys.readouterr().err
    assert in_process(monkeypatch, scripts.convert_weight_script, *flags) == 0
    assert open_weights(tmp_path / "wizardcoder.ckpt").config.num_layers == 3


def test_safetensors_come_beside_the_bin_weights(tmp_path, monkeypatch, capsys):
    random_model("llama").save_pretrained(tmp_path / "hf", max_shard_size="60KB")
    shutil.copytree(tmp_path / "hf", tmp_path / "bin")
    to_bin(tmp_path / "bin")
    files = {file.name for file in (tmp_path / "bin").iterdir()}
    for code, expected in ((0, "model.safetensors"), (2, "already exists")):
        assert in_process(monkeypatch, scripts.convert_weights_script, "--model_path", tmp_path / "bin") == code
        output = capsys.readouterr()
        assert expected in (output.err if code else output.out)
    new = {file.name for file in (tmp_path / "bin").iterdir()} - files
    assert new and all("safetensors" in name for name in new)
    found = {
        name: value for file in (tmp_path / "bin").glob("*.safetensors") for name, value in load_file(file).items()
    }
    wanted = {
        name: value for file in (tmp_path / "hf").glob("*.safetensors") for name, value in load_file(file).items()
    }
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def mbpp_file(folder: Path) -> Path:
    tests = ["assert f(1) == 1", "assert f(2) == 2"]
    problems = [
        {"task_id": number, "text": f"Number {number}.", "code": "def f(x):\r\n    return x", "test_list": tests}
        for number in (13, 12, 493)
    ]
    file = folder / "mbpp.test.jsonl"
    file.write_text("\n".join(map(json.dumps, problems)))
    return file


def test_mbpp_goes_through_the_original_two_scripts(hf_folder, tokenizer_folder, tmp_path):
    _, _, folder = hf_folder(vocab_size=700, multi_query=True)
    done = script("wizardcoder/convert_weight.py", "--torch_path", folder, "--mindspore_path", tmp_path / "w.ckpt")
    assert done.returncode == 0, done.stderr
    problems = mbpp_file(tmp_path)
    done = script(
        "wizardcoder/mbpp_gen_online.py", "--start_index", 1, "--end_index", 130, "--output_path", "test/mbpp_online",
        "--mbpp_path", problems, "--tokenizer_path", f"{tokenizer_folder}/", "--model_path", tmp_path / "w.ckpt",
        "--seq_length", 256, "--batch_size", 2, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0 and "2 answers in test/mbpp_online" in done.stdout, done.stderr
    answers = tmp_path / "test" / "mbpp_online"
    assert sorted(file.name for file in answers.iterdir()) == ["1.json", "2.json"]
    (text,) = json.loads((answers / "2.json").read_text())["output"]
    asked = "Create a Python script for this problem:\n\nNumber 493.\nTest examples:\ncalculate_polygons("
    assert asked in text and len(text) > len(prompt_of(numbered_problems(problems)[2]))

    (answers / "0.json").write_text(json.dumps({"output": ["So:\n```python\ndef f(x):\n    return x\n```\nDone."]}))
    flags = ("--path", "test/mbpp_online", "--out_path", "mbpp_npu_online.json")
    scored = script("wizardcoder/mbpp_process.py", *flags, "--mbpp_path", problems, "--allow_code_execution",
                    "--sandbox", "limits", cwd=tmp_path)  # fmt: skip
    assert scored.returncode == 0 and "pass@1: 0.333 (1 of 3 problems)" in scored.stdout, scored.stderr
    programs = json.loads((tmp_path / "mbpp_npu_online.json").read_text())
    assert programs[0] == ["def f(x):\n    return x"] and [len(item) for item in programs] == [1, 1, 1]
    refused = script("wizardcoder/mbpp_process.py", *flags, "--mbpp_path", problems, cwd=tmp_path)
    assert refused.returncode == 2 and "--allow-code-execution" in refused.stderr


def test_prompts_of_mbpp_have_tabs_and_the_long_tests_shortened(tmp_path):
    first, _, polygons = numbered_problems(mbpp_file(tmp_path))
    assert first.task_id == "12" and prompt_of(first).endswith("assert f(2) == 2\n\n### Response:")
    assert "assert f" not in prompt_of(polygons)
    text = {"task_id": 1, "text": "a    b", "code": "", "test_list": ["assert 1"]}
    (tmp_path / "tabs.jsonl").write_text(json.dumps(text))
    assert "\na\tb\n" in prompt_of(numbered_problems(tmp_path / "tabs.jsonl")[0])
    (tmp_path / "bad.jsonl").write_text('{"task_id": 1}')
    with pytest.raises(UserError, match=r"bad.jsonl:1: is not in mbpp format"):
        numbered_problems(tmp_path / "bad.jsonl")


@pytest.mark.parametrize(
    "answer, program",
    [
        ("x ```python\na = 1\n``` y ```python\nb\n```", "a = 1"),
        ("```python\na = 1", "a = 1"),
        ('```python\na = 1\nif __name__ == "__main__":\n    a()\n```', "a = 1"),
        ("```python\na = 1\n# Example usage\nprint(a)\n```", "a = 1"),
        ("no fence\n# Test examples\nassert a", "no fence"),
        ("```\na = 1\n```", "```\na = 1\n```"),
    ],
)
def test_programs_are_cut_out_as_the_original_script_does(answer, program):
    assert process_mbpp(answer).strip() == program


def test_flags_of_the_original_run_script(monkeypatch, capsys):
    from mindcoder.cli import run_verbs

    seen = []
    monkeypatch.setattr(run_verbs, "run", lambda mode, arguments: seen.append((mode, arguments)) or 0)
    monkeypatch.chdir(WIZARDCODER)

    def run(prog="run_wizardcoder.py"):
        return scripts.run_script(prog, "WizardCoder", str(WIZARDCODER / "run_wizardcoder.yaml"))

    assert in_process(monkeypatch, run) == 0
    mode, arguments = seen[-1]
    assert mode == "train" and arguments.config == "run_wizardcoder.yaml"  # the original's defaults
    flags = ["--task", "text_generation", "--run_mode", "finetune", "--optimizer_parallel", "False", "--pet_method",
             "lora", "--resume", "False", "--train_dataset", "d", "--eval_dataset", "e", "--predict_length", "512",
             "--vocab_file", "v", "--merge_file", "m", "--device_id", "1", "--use_parallel", "True"]  # fmt: skip
    assert in_process(monkeypatch, run, *flags) == 0
    config, _ = load_config(seen[-1][1].config, (), config_flags(seen[-1][1], "finetune"))
    assert config.pet_method == "lora" and config.parallel_config.optimizer_shard is False
    assert config.context.device_id == 1 and config.use_parallel and not seen[-1][1].resume
    with pytest.raises(SystemExit, match="2"):
        in_process(monkeypatch, run, "--task", "translation")
    assert "--task" in capsys.readouterr().err and len(seen) == 2


WORKER = """
import json, os
table = json.load(open(os.environ["RANK_TABLE_FILE"]))
mine = [item for item in table["server_list"][0]["device"] if item["rank_id"] == os.environ["RANK_ID"]]
print(os.environ["RANK_ID"], os.environ["DEVICE_ID"], os.environ["RANK_SIZE"], mine[0]["device_id"])
"""


@pytest.mark.parametrize("first, count", [(4, 4), (0, 8)])
def test_cards_4_to_7_are_ranks_0_to_3(first, count, tmp_path):
    """Of a table of these four cards, and of one of all eight; RANK_TABLE_FILE names what the ranks are of."""
    from mindcoder.launch.rank_table import make_table

    table = make_table("127.0.0.1", range(first, first + count), ["127.0.0.1"] * count)
    (tmp_path / "table.json").write_text(json.dumps(table.as_dict()))
    (tmp_path / "worker.py").write_text(WORKER)
    done = bash("research/run_singlenode.sh", f"{sys.executable} worker.py", "table.json", "[4,8]", 4, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    logs = [(tmp_path / "output" / "log" / f"rank_{rank}.log").read_text().split() for rank in range(4)]
    assert logs == [[str(rank), str(4 + rank), "4", str(4 + rank)] for rank in range(4)]


def test_cards_that_are_not_there_are_named(tmp_path):
    from mindcoder.launch.rank_table import choose_devices, make_table

    table = make_table("10.0.0.1", [4, 5], ["a", "b"])
    assert choose_devices(table, [4, 5]) == table
    with pytest.raises(ValueError, match=r"server 10.0.0.1 has the cards \[4, 5\], not \[6\]"):
        choose_devices(table, [5, 6])


@pytest.mark.parametrize(
    "flags, expected",
    [
        (
            ["--max_output_length", 8, "--max_input_length", 313],
            "--max_input_length: the model has room for 312 tokens",
        ),
        (["--max_output_length", 320], "--max_output_length: expected less than the model's context of 320, found 320"),
    ],
)
def test_run_pa_refuses_a_typed_length_by_its_flag(flags, expected, hf_folder, monkeypatch, capsys):
    from mindcoder.cli.run_pa_script import run_pa_script

    _, _, folder = hf_folder(n_positions=320)
    assert in_process(monkeypatch, run_pa_script, "--model_path", folder, *flags) == 2
    assert expected in capsys.readouterr().err


def test_mbpp_refuses_a_typed_length_by_its_flag(hf_folder, tmp_path, monkeypatch, capsys):
    from mindcoder.cli.mbpp_scripts import mbpp_generate_script

    _, _, folder = hf_folder(n_positions=320)
    flags = ["--output_path", tmp_path / "out", "--mbpp_path", mbpp_file(tmp_path), "--model_path", folder]
    assert in_process(monkeypatch, mbpp_generate_script, *flags, "--seq_length", 321) == 2
    assert "--seq_length: the model has room for 320 tokens, found 321" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_default_length_is_cut_to_the_context(hf_folder, small_tokenizer, monkeypatch, capsys):
    from mindcoder.cli.run_pa_script import run_pa_script

    _, _, folder = hf_folder(vocab_size=700, n_positions=320)
    small_tokenizer.save(folder)
    assert in_process(monkeypatch, run_pa_script, "--model_path", folder, "--max_output_length", 8) == 0
    out = capsys.readouterr().out
    assert "--max_input_length is 312 instead of 1024" in out and "Answer[0]" in out


def test_the_pytorch_reference_asks_for_pytorch(tmp_path, monkeypatch):
    import runpy

    run = runpy.run_path(str(WIZARDCODER / "inference_wizardcoder_pytorch.py"))
    monkeypatch.setitem(run["run"].__globals__, "find_spec", lambda name: None)
    given = run["build_parser"]().parse_args(["--base_model", str(tmp_path)])
    with pytest.raises(UserError, match="needs PyTorch: pip install torch"):
        run["run"](given)


def test_run_pa_says_what_it_cannot_do(tmp_path, monkeypatch, capsys):
    from mindcoder.cli.run_pa_script import run_pa_script

    (tmp_path / "ids.txt").write_text("1, 2, 3\nthree\n")
    flags = ["--model_path", tmp_path, "--input_file", tmp_path / "ids.txt", "--use_refactor", "--batch_size", 2]
    assert in_process(monkeypatch, run_pa_script, *flags) == 2
    assert "ids.txt:2: expected token ids such as 1, 15, 7" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun sets it
    assert in_process(monkeypatch, run_pa_script, "--model_path", tmp_path) == 2
    assert "torchrun started 2 processes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, arguments, expected",
    [
        ("scripts/modeltest/run.sh", ["pa_w8a8", "full_HumanEval", 1, "m", "w", 1], "usage"),
        ("scripts/modeltest/run.sh", ["pa_fp16", "performance", "[[2,2]]", 1, "m", "w", 8], "one card, found 8"),
        ("scripts/modeltest/run.sh", ["pa_fp16", "full_HumanEval", 1, "m", "w", 1], "HUMANEVAL names"),
        ("research/starcoder/run.sh", ["--runn"], "unknown flag --runn; expected --run, --parallel"),
        ("research/wizardcoder/run_pa.sh", [], "usage: bash run_pa.sh WEIGHTS"),
        ("scripts/pipeline_dist.sh", ["only_one"], "usage: bash scripts/pipeline_dist.sh RANK_TABLE CHECKPOINT"),
        ("scripts/pipeline_dist.sh", ["nowhere.json", "ckpt"], "nowhere.json: no such rank table"),
        ("research/run_singlenode.sh", ["python x.py"], "usage: bash scripts/run_singlenode.sh"),
    ],
)
def test_shell_scripts_refuse_in_one_line(name, arguments, expected, tmp_path):
    done = bash(name, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and expected in done.stderr
