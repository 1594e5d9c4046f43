"""YAML files as users have them, and as they get them wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from mindcoder.config.effects import notes_on_effects
from mindcoder.config.load import load_config
from mindcoder.config.shipped import is_part, shipped
from mindcoder.errors import UserError

TINY = Path(__file__).with_name("tiny_whole.yaml")  # a whole file, as users of MindFormers have them
OLD_15B = REPOSITORY / "research" / "wizardcoder" / "run_wizardcoder.yaml"
SHIPPED = [*(name for name in shipped() if not is_part(name)), str(OLD_15B)]


def edited(tmp_path: Path, before: str, after: str) -> Path:
    """A copy of the tiny file with one text replaced."""
    text = TINY.read_text()
    assert before in text
    path = tmp_path / "edited.yaml"
    path.write_text(text.replace(before, after, 1))
    return path


def line_of(path: Path, text: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


# Parameter counts that Hugging Face shows for the published safetensors (or that the papers print), in millions.
PUBLISHED = {
    "wizardcoder/15b": 15_517,
    "starcoder/1b": 1_137,
    "starcoder/3b": 3_043,
    "starcoder/7b": 7_327,
    "starcoder/15b": 15_517,
    "starcoder/tiny_starcoder_py": 164,
    "starcoder/santacoder": 1_125,
    "starcoder2/3b": 3_030,
    "starcoder2/7b": 7_174,
    "starcoder2/15b": 15_958,
    "llama/llama1_7b": 6_738,
    "llama/llama1_13b": 13_016,
    "llama/llama1_30b": 32_529,
    "llama/llama1_65b": 65_286,
    "llama/llama2_7b": 6_738,
    "llama/llama2_13b": 13_016,
    "llama/llama2_70b": 68_977,
    "llama/codellama_34b": 33_744,
    "llama/wizardcoder_python_34b": 33_744,
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_load(name):
    from mindcoder.families.from_section import config_from_section

    config, _ = load_config(name)
    count = config_from_section(config.model.settings).num_parameters()
    model = name.rsplit("_", 1)[0]
    if model in PUBLISHED:
        assert count / 1e6 == pytest.approx(PUBLISHED[model], abs=0.6)
    if "/tiny_" in name and "starcoder_py" not in name:
        assert count < 2e6


LLAMA = """
model:
  model_config: {type: LlamaConfig, hidden_size: 128, num_heads: 4, num_layers: 2, %s}
  arch: {type: %s}
lr_schedule: {learning_rate: 1.0e-3}
"""


@pytest.mark.parametrize(
    "key, arch, expected",
    [
        ("n_position: 5", "LlamaForCausalLM", "yaml:3: unknown key 'model.model_config.n_position'; "),
        ("thetta: 5.0", "LlamaForCausalLM", "did you mean 'theta'"),
        ("extend_method: XPOS", "LlamaForCausalLM", "found 'XPOS', expected one of 'None', 'PI', 'linear'"),
        ("extend_method: LLAMA3", "LlamaForCausalLM", "yaml:3: model.model_config.scaling_factor: expected factor"),
        ("qkv_has_bias: True", "LlamaForCausalLM", "attn_proj_has_bias: False differs from qkv_has_bias True"),
        ("n_kv_heads: 3", "LlamaForCausalLM", "n_kv_heads: num_heads 4 is not divisible by 3"),
        ("theta: 5.0", "WizardCoderLMHeadModel", "yaml:4: model.arch.type: found 'WizardCoderLMHeadModel', expected"),
    ],
)
def test_errors_of_the_llama_section_name_the_key(key, arch, expected, tmp_path):
    (tmp_path / "a.yaml").write_text(LLAMA % (key, arch))
    with pytest.raises(UserError) as error:
        load_config(tmp_path / "a.yaml")
    assert expected in str(error.value)


def test_rope_scaling_of_every_kind_is_read(tmp_path):
    from mindcoder.families.from_section import config_from_section
    from mindcoder.families.rope_scaling import RopeScaling

    factors = "{factor: 8.0, original_max_position_embeddings: 64}"
    cases = {
        "extend_method: PI, scaling_factor: 4.0": RopeScaling("linear", 4.0),
        "extend_method: DYNAMIC_NTK, scaling_factor: 2.0, seq_length: 99": RopeScaling("dynamic", 2.0, 99),
        f"extend_method: LLAMA3, scaling_factor: {factors}": RopeScaling("llama3", 8.0, 64),
    }
    for text, expected in cases.items():
        (tmp_path / "a.yaml").write_text(LLAMA % (text, "LlamaForCausalLM"))
        config, _ = load_config(tmp_path / "a.yaml")
        assert config_from_section(config.model.settings).rope_scaling == expected


def test_the_old_15b_file_means_what_it_meant():
    config, source = load_config(OLD_15B)
    model = config.model.settings
    assert (model.hidden_size, model.num_layers, model.num_heads, model.vocab_size) == (6144, 40, 48, 49153)
    assert config.parallel_config.model_parallel == 4 and config.parallel_config.pipeline_stage == 2
    assert config.optimizer.type == "FP32StateAdamWeightDecay" and config.optimizer.eps == 1e-8
    assert config.train_dataset_task.dataset_config == config.train_dataset  # a YAML anchor
    from mindcoder.families.from_section import config_from_section

    assert config_from_section(model).num_parameters() == 15517462528  # StarCoder's 15.5 B and one padding row
    notes = "\n".join(notes_on_effects(config, source, "CPU"))
    assert "hidden_size" not in notes and "epochs" not in notes
    for key in (
        "sink_mode",
        "max_device_memory",
        "use_flash_attention",
        "ObsMonitor",
        "FP32StateAdamWeightDecay",
        "CheckpointMointor",
    ):
        assert key in notes, key
    assert f"{OLD_15B}:{line_of(OLD_15B, 'sink_mode')}: runner_config.sink_mode has no effect" in notes


@pytest.mark.parametrize(
    "before, after, expected",
    [
        ("  epochs: 110", "  epoch: 110", "unknown key 'runner_config.epoch'; did you mean 'epochs'?"),
        ("seed: 0", "sed: 0", "unknown key 'sed'; did you mean 'seed'?"),
        ("    num_heads: 4", "    num_head: 4", "unknown key 'model.model_config.num_head'; did you mean 'num_heads'?"),
        (
            "    per_print_times: 50",
            "    save_checkpoint_step: 50",
            "unknown key 'callbacks.0.save_checkpoint_step'; did you mean 'save_checkpoint_steps'?",
        ),
        ("  epochs: 110", "  weight_decay: 0.1", "the nearest known key is 'optimizer.weight_decay'"),
        ("  epochs: 110", "  epochs: many", "runner_config.epochs: found 'many', expected a whole number"),
        ("  sink_mode: False", "  sink_mode: 2", "runner_config.sink_mode: found 2, expected True or False"),
        ("  beta1: 0.9\n", "  beta1: 1.5\n", "optimizer.beta1: found 1.5, expected a number below 1"),
        ("    hidden_size: 128", "    hidden_size: 130", "hidden_size: 130 is not divisible by num_heads 4"),
        ("    seq_length: 384", "    seq_length: 1384", "seq_length: 1384 is over n_position 512"),
        ("  type: AdamW", "  type: Lion", "optimizer.type: found 'Lion', expected one of"),
        ("    pad_token_id: 1023", "    pad_token_id: 1024", "pad_token_id: 1024 is not below vocab_size 1024"),
        ("  type: CosineWithWarmUpLR\n", "  type: CosineWithWarmUpLR\n  type: Linear\n", "key 'type' is given twice"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, before, after, expected):
    path = edited(tmp_path, before, after)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert expected in str(caught.value)
    culprit = after.strip().splitlines()[-1]
    assert str(caught.value).startswith(f"{path}:{line_of(path, culprit)}: ")


def test_broken_yaml_and_missing_file(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("a: 1\nb: [1, 2\nc: 3\n")
    with pytest.raises(UserError, match=r"broken.yaml:3: is not valid YAML"):
        load_config(path)
    with pytest.raises(UserError, match="no such configuration file"):
        load_config(tmp_path / "none.yaml")


def test_set_and_flags_override_and_are_named_in_errors():
    config, _ = load_config(
        TINY,
        [
            "runner_config.epochs=3",
            "lr_schedule.learning_rate=1e-4",
            "callbacks.0.per_print_times=7",
            "model.model_config.do_sample=true",
        ],
        {"seed": ("--seed", 5)},
    )
    assert config.runner_config.epochs == 3 and config.lr_schedule.learning_rate == 1e-4
    assert config.callbacks[0].per_print_times == 7 and config.model.settings.do_sample and config.seed == 5
    with pytest.raises(UserError, match=r"--set runner_config.epocs=3: unknown key .* did you mean 'epochs'"):
        load_config(TINY, ["runner_config.epocs=3"])
    with pytest.raises(UserError, match="expected key.path=value"):
        load_config(TINY, ["epochs"])
    with pytest.raises(UserError, match="callbacks is a list of 2: expected an index, found 'x'"):
        load_config(TINY, ["callbacks.x.type=1"])


@pytest.mark.parametrize(
    "change, expected",
    [
        ("runner_wrapper.scale_sense=-1.0", "scale_sense: found -1.0, expected a number above 0"),
        ("runner_wrapper.scale_sense={type: Foo}", "scale_sense.type: found 'Foo', expected one of 'DynamicLossScale"),
        ("model.model_config.eos_token_id=[1,-5]", "eos_token_id.1: found -5, expected at least -1"),
        ("train_dataset.data_loader.dataset_files=[5]", "dataset_files.0: found 5, expected a text"),
        ("callbacks=[5]", "--set callbacks=[5]: callbacks.0: found 5, expected keys and values"),
        ("model.model_config=[1]", "model.model_config: found [1], expected keys and values"),
        ("processor.tokenizer.type=LlamaTokeniser", "; did you mean 'LlamaTokenizer'?"),
        ("model.model_config.type=LLamaConfig", "; did you mean 'LlamaConfig'?"),
        ("train_dataset_task.dataset_config.drop_remainder=False", "train_dataset_task is not read: set train_dataset"),
        ("metric=[{type: 5}]", "metric.0.type: found 5, expected a text"),
        ("eval_callbacks=[{type: ObsMonitor, foo: 1}]", "unknown key 'eval_callbacks.0.foo'; known here: async_save"),
    ],
)
def test_a_value_of_several_forms_is_blamed_where_it_is_wrong(change, expected):
    with pytest.raises(UserError) as caught:
        load_config(TINY, [change])
    assert expected in str(caught.value)


def test_reading_a_file_imports_nothing_heavy():
    code = (
        "import sys; from mindcoder.config import load_config; load_config(sys.argv[1]); "
        "print([name for name in ('mindspore', 'mindformers', 'torch', 'transformers', 'numpy') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(TINY)], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_key_without_effect_is_noted_with_its_line(tmp_path):
    path = edited(tmp_path, "    prefix: 'wizardcoder'", "    prefix: 'mine'")
    config, source = load_config(path)
    notes = notes_on_effects(config, source, "CPU")
    assert (
        f"{path}:{line_of(path, 'prefix')}: callbacks.1.prefix has no effect: checkpoints are named by their step"
        in notes
    )
    assert not [note for note in notes_on_effects(*load_config(TINY), "CPU") if "prefix" not in note]
