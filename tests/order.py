"""Which files of tests start first; the others follow by name.

Of the quick tests those that take longest, so that the two processes of `make test` end together. Of the long ones
those that matter most to a user, because CI's time may not last for all of them: whole jobs on real data, training on
several processes, then each way through MindSpore's Ascend backend; single operators of the emulated Ascend come last.
"""

from __future__ import annotations

FIRST = (
    "test_code_alpaca.py",
    "test_families_end_to_end.py",
    "train/test_runs.py",
    "peft/test_lora_runs.py",
    "parallel/test_data_parallel.py",
    "parallel/test_layouts.py",
    "launch/test_faults.py",
    "ascend/test_run_wizardcoder.py",
    "ascend/test_models_training.py",
    "ascend/test_models_generation.py",
    "parallel/test_lora_layouts.py",
    "parallel/test_process_groups.py",
    "ascend/test_ascend_layouts.py",
    "ascend/test_models_engine.py",
    "ascend/test_serve_ascend.py",
    "ascend/test_launch_ascend.py",
    "ascend/test_mindformers_ascend.py",
    "ascend/test_models_steps.py",
    "train/test_preference.py",
    "peft/test_lora.py",
    "launch/test_launcher.py",
    "interop/test_mindformers.py",
    "interop/test_upstream.py",
)
PLACE = {name: index for index, name in enumerate(FIRST)}


def place(path: str) -> int:
    """Of a file under tests/ among those that start first; behind them all for any other."""
    return PLACE.get(path, len(PLACE))
