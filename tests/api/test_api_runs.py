"""`mindcoder.finetune`, `convert` and `plan`: the verbs' numbers, in this process, from a dictionary, from a thread."""

from __future__ import annotations

import csv
import json
import logging
import subprocess
import sys
import threading

import pytest
import yaml
from conftest import REPOSITORY, SAMPLES

import mindcoder
from mindcoder.cli.main import main
from mindcoder.config.given import read_configuration
from mindcoder.config.load import load_config
from mindcoder.run_log import run_log

TINY = REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml"
SIZE = {
    "seq_length": 128,
    "vocab_size": 700,
    "pad_token_id": 699,
    "hidden_size": 16,
    "num_heads": 2,
    "num_layers": 1,
    "n_position": 256,
}
CONFIG = {
    "base": TINY,
    "model": {"model_config": SIZE},
    "runner_config": {"epochs": 2, "batch_size": 2, "sink_mode": True},  # the last one has no effect, and is logged
    "context.device_target": "CPU",
    "callbacks.1.prefix": "mine",  # has no effect, which the log file says
}
RECORDS = json.loads(SAMPLES.read_text(encoding="utf-8"))[:8]


class Listener(mindcoder.Callback):
    """Notes the events of a run."""

    def __init__(self) -> None:
        self.events: list[tuple] = []

    def on_start(self, step, total_steps):
        self.events.append(("start", step, total_steps))

    def on_step(self, record):
        self.events.append(("step", record.step))

    def on_checkpoint(self, step, folder):
        self.events.append(("checkpoint", step))

    def on_end(self):
        self.events.append(("end",))


@pytest.fixture(scope="module")
def listener():
    return Listener()


@pytest.fixture(scope="module")
def run(tokenizer_folder, tmp_path_factory, listener):
    """Fine-tuned on records in memory."""
    output = tmp_path_factory.mktemp("api") / "run"
    return mindcoder.finetune(CONFIG, RECORDS, tokenizer=tokenizer_folder, output_dir=output, callbacks=[listener])


def test_a_run_has_its_losses_and_its_checkpoint(run, listener):
    assert isinstance(run, mindcoder.Run) and run.exit_code == 0
    assert run.step == run.updates == len(run.losses) == len(run.records) > 1
    assert run.losses == [record.loss for record in run.records]
    assert run.checkpoint == run.output_dir / "checkpoint" / f"step_{run.step:08d}" and run.checkpoint.is_dir()
    steps = [("step", number) for number in range(1, run.step + 1)]
    assert listener.events == [("start", 0, run.step), *steps, ("checkpoint", run.step), ("end",)]
    written = (run.output_dir / "log" / "mindcoder.log").read_text()
    assert "DEBUG mindcoder.train.job" in written and f"step {run.step}, checkpoint" in written
    (records,) = (run.output_dir / "data").glob("records-*.jsonl")
    assert [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()] == RECORDS


def test_the_verbs_compute_the_same(run, tokenizer_folder, tmp_path, capsys):
    data, output = next((run.output_dir / "data").glob("*.jsonl")), tmp_path / "verb"
    keys = {f"model.model_config.{name}": value for name, value in SIZE.items()}
    keys |= {"runner_config.epochs": 2, "runner_config.batch_size": 2}
    flags = [text for key, value in keys.items() for text in ("--set", f"{key}={value}")]
    flags += ["--config", str(TINY), "--device_target", "CPU", "--vocab_file", str(tokenizer_folder)]
    assert main(["finetune", *flags, "--train_data", str(data), "--output_dir", str(output)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"checkpoint: {output}/checkpoint/{run.checkpoint.name}"
    with open(output / "curves" / "loss.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["loss"]) for row in rows] == pytest.approx(run.losses, rel=1e-6)
    evaluation = ["--eval_dataset", str(data), "--load_checkpoint", str(run.output_dir)]
    assert main(["eval", *flags, *evaluation, "--output_dir", str(tmp_path / "eval")]) == 0
    result = run.evaluate(data)
    with pytest.raises(
        mindcoder.UserError, match="data: expected a file, a list of files or a list of records, found 5"
    ):
        run.evaluate(5)
    assert capsys.readouterr().out == f"eval: {result}\n"
    assert result.tokens > 100 and 0 < result.loss < 7


def test_a_checkpoint_is_loaded_and_converted(run, tmp_path, capsys):
    model = mindcoder.load(run.checkpoint, max_length=64, device="CPU")
    assert model.template == "wizardcoder"
    done = mindcoder.convert(run.checkpoint, tmp_path / "hf", max_shard_bytes="1GB", progress=False)
    assert (done.kind, done.to, done.files) == ("training checkpoint", "huggingface", 1)
    exported = mindcoder.load(tmp_path / "hf", max_length=64, device="CPU")
    answer = model.generate("def f(", max_new_tokens=6)
    assert exported.generate("def f(", max_new_tokens=6) == answer
    with pytest.raises(mindcoder.UserError, match="exists"):
        mindcoder.convert(run.checkpoint, tmp_path / "hf")
    assert main(["convert", str(run.checkpoint), str(tmp_path / "verb")]) == 0
    told = f"huggingface: {tmp_path / 'verb'} ({done.tensors} tensors, {done.nbytes / 1e6:.1f} MB"
    assert told in capsys.readouterr().out
    names = {file.name for file in (tmp_path / "hf").iterdir()}
    assert names == {file.name for file in (tmp_path / "verb").iterdir()}
    weights = "model.safetensors"
    assert (tmp_path / "hf" / weights).read_bytes() == (tmp_path / "verb" / weights).read_bytes()


def test_a_run_goes_on_in_a_thread_where_it_may_and_is_not_replaced_unasked(run, tokenizer_folder):
    arguments = {"tokenizer": tokenizer_folder, "output_dir": run.output_dir}
    with pytest.raises(mindcoder.UserError, match="already holds checkpoints up to step_"):
        mindcoder.finetune(CONFIG, RECORDS, **arguments)
    ended = []

    def go_on() -> None:
        longer = {**CONFIG, "runner_config": {"epochs": 3, "batch_size": 2}}
        ended.append(mindcoder.finetune(longer, RECORDS, resume=True, allow_changes="lr", **arguments))

    thread = threading.Thread(target=go_on)
    thread.start()
    thread.join(900)
    assert ended and ended[0].step == run.step * 3 // 2
    assert ended[0].updates == len(ended[0].losses) == run.step // 2
    assert ended[0].checkpoint.name == f"step_{ended[0].step:08d}"


def test_plan_is_what_the_verb_prints(capsys):
    size = {"parallel_config": {"data_parallel": 2, "model_parallel": 2}}
    found = mindcoder.plan({"base": TINY, **size}, devices=4, memory="32GB", tflops=100)
    flags = ["--set", "parallel_config.data_parallel=2", "--set", "parallel_config.model_parallel=2"]
    limits = ["--devices", "4", "--memory", "32GB", "--tflops", "100"]
    assert main(["plan", "--config", str(TINY), *flags, *limits]) == 0
    assert capsys.readouterr().out == f"{found}\n"
    assert found.fits and found.plan.layout.devices == 4 and found.plan.peak < 32e9
    assert len(found.layouts) > 3 and found.layouts[0].seconds <= found.layouts[-1].seconds
    small = mindcoder.plan(TINY, overrides={"runner_config.batch_size": 4096}, memory=2**20)
    assert not small.fits and not small.layouts and "does NOT fit" in str(small)


def test_a_dictionary_is_the_file_that_it_came_from():
    whole = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    run, _ = load_config(TINY)
    assert read_configuration(whole).run == read_configuration(TINY).run == run
    assert read_configuration({"base": str(TINY)}).run == run
    nested = read_configuration({"base": TINY, "runner_config": {"epochs": 3}}).run
    assert nested == read_configuration(TINY, {"runner_config.epochs": 3}).run
    assert nested.runner_config.epochs == 3 and nested.runner_config.batch_size == run.runner_config.batch_size
    assert nested == read_configuration({"base": TINY, "runner_config.epochs": 4}, {"runner_config": {"epochs": 3}}).run
    assert "base" in CONFIG and read_configuration(CONFIG).run.model.settings.num_layers == 1  # left as it was


@pytest.mark.parametrize(
    "config, options, message",
    [
        ("none.yaml", {}, "none.yaml: no such configuration file"),
        (5, {}, "config: expected a file or a dictionary, found int"),
        ({3: 4}, {}, "config: expected names of keys, found 3"),
        ({"base": 5}, {}, "config: base: expected a file or a list of bases, found int"),
        (
            {"base": TINY, "runner_config": {"epcohs": 1}},
            {},
            "config: unknown key 'runner_config.epcohs'; did you",
        ),
        ({"base": TINY, "runner_config.epochs": "x"}, {}, "config: runner_config.epochs: found 'x', expected a whole"),
        (
            TINY,
            {"overrides": {"runner_config.epochs": 0}},
            "overrides: runner_config.epochs: found 0, expected at",
        ),
        (TINY, {"overrides": ["a=b"]}, "overrides: expected key paths and values, found list"),
        (TINY, {}, "finetune needs a dataset"),
        (TINY, {"data": "none.mindrecord"}, "none.mindrecord: no such MindRecord file or folder"),
        (TINY, {"data": 5}, "data: expected a file, a list of files or a list of records, found 5"),
        (TINY, {"data": []}, "data: expected a file, a list of files or a list of records, found []"),
        (TINY, {"data": [{"instruction": {1}}]}, "data: expected records that are JSON: Object of type set"),
        (TINY, {"data": "d", "eval_data": [5]}, "eval_data: expected a file"),
        (TINY, {"data": [{"instruction": "a\ud800"}]}, "data: expected records that are JSON: 'utf-8' codec can't"),
        (TINY, {"data": RECORDS}, "text needs a tokenizer"),
        (TINY, {"data": RECORDS, "output_dir": "/proc/x"}, "/proc/x"),
        (TINY, {"data": RECORDS, "output_dir": 3}, "output_dir: expected a path, found 3"),
        (TINY, {"data": "d", "output_dir": ""}, "output_dir: expected a path, found ''"),
        (TINY, {"data": "d", "model": 5}, "model: expected a path, found 5"),
        (TINY, {"data": "d", "model": "nowhere"}, "nowhere: no such checkpoint"),
        (TINY, {"data": "d", "tokenizer": "nowhere"}, "nowhere: no such tokenizer file"),
        (TINY, {"data": "d", "allow_changes": 3}, "allow_changes: expected names of data, seed"),
        (TINY, {"data": "d", "allow_changes": ["date"]}, "allow_changes: expected one of data, seed, lr"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(config, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mindcoder.UserError) as error:
        mindcoder.finetune(config, **{"output_dir": tmp_path / "out", **options})
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: mindcoder.plan(TINY, devices=0), "devices: expected a whole number of at least 1, found 0"),
        (lambda: mindcoder.plan(TINY, memory="64"), "memory: expected a size such as 5GB or 500MB, found '64'"),
        (lambda: mindcoder.plan(TINY, memory=-1), "memory: expected a number of bytes or a text such as '64GB'"),
        (lambda: mindcoder.plan(TINY, tflops=0), "tflops: expected a number above 0, found 0"),
        (lambda: mindcoder.plan("a" * 5000), ": File name too long"),
        (lambda: mindcoder.convert("none", "x"), "none: no such"),
        (lambda: mindcoder.convert("none", None), "target: expected a path, found None"),
        (lambda: mindcoder.convert(3, "x"), "source: expected a path, found 3"),
        (lambda: mindcoder.convert("none", "x", to="onnx"), "to: expected one of huggingface, mindcoder, ckpt, torch"),
        (lambda: mindcoder.convert("none", "x", dtype="int8"), "dtype: expected one of float32, float16, bfloat16"),
        (lambda: mindcoder.convert("none", "x", model_parallel=0), "model_parallel: expected a whole number"),
        (lambda: mindcoder.convert("none", "x", max_shard_bytes="5"), "max_shard_bytes: expected a size such as 5GB"),
    ],
)
def test_wrong_arguments_of_plan_and_convert(call, message):
    with pytest.raises(mindcoder.UserError) as error:
        call()
    assert message in str(error.value) and "\n" not in str(error.value)


def test_import_takes_nothing_but_the_standard_library():
    program = (
        "import sys; import mindcoder; print(*sys.modules)\n"
        "try: mindcoder.load('x', dtype='int7')\n"
        "except mindcoder.UserError as error: print(error)\n"
        f"found = mindcoder.plan({str(TINY)!r}); print(type(found) is mindcoder.Estimate, mindcoder.Run.__name__)\n"
        f"try: mindcoder.finetune({str(TINY)!r}, 'none.mindrecord')\n"
        "except mindcoder.UserError as error: print(error)\n"
        "print('mindspore' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; print(*sys.modules)\n{'pass'}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    bare = set(done.stdout.split())
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, timeout=600)
    modules, *lines = done.stdout.splitlines()
    added = set(modules.split()) - bare
    ours = {".".join(name.split(".")[:2]) for name in added if name.split(".")[0] == "mindcoder"}
    assert ours == {"mindcoder", "mindcoder.api", "mindcoder.errors"}
    heavy = {"mindspore", "numpy", "pydantic", "yaml", "tokenizers", "tqdm", "jinja2", "safetensors"}
    assert not {name.split(".")[0] for name in added} & heavy
    assert len([name for name in added if name.split(".")[0] in sys.stdlib_module_names]) < 80
    assert lines == [
        "dtype: expected one of float32, float16, bfloat16, found 'int7'",
        "True Run",
        "none.mindrecord: no such MindRecord file or folder",
        "False",  # no call so far had to compute
    ], done.stderr


def test_a_programs_own_logging_is_left_alone(tmp_path, caplog):
    logger = logging.getLogger("mindcoder")
    before = logger.level, logger.propagate, list(logger.handlers)
    logger.propagate, logger.level, logger.handlers = True, logging.NOTSET, []
    try:
        with caplog.at_level(logging.INFO), run_log(tmp_path / "log") as file:
            logging.getLogger("mindcoder.train").debug("for the file")
            logging.getLogger("mindcoder.train").info("for both")
        assert [record.message for record in caplog.records] == ["for both"]
        text = file.read_text()
        assert "DEBUG mindcoder.train: for the file" in text and "INFO mindcoder.train: for both" in text
        assert (logger.propagate, logger.level, logger.handlers) == (True, logging.NOTSET, [])
    finally:
        logger.level, logger.propagate, logger.handlers = before
