"""Prompts divided over data-parallel replicas."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from cluster import launch
from conftest import REPOSITORY
from parallel.test_data_parallel import arguments, dataset, run_single  # noqa: F401

from mindcoder.generate.replicas import collect_answers, forget_answers, share_answers
from mindcoder.parallel.mesh import Mesh
from mindcoder.parallel_layout import ParallelLayout


def test_answers_of_all_replicas_come_in_the_order_of_their_prompts(tmp_path):
    answers = {index: f"answer {index}" for index in range(7)}
    meshes = [Mesh(ParallelLayout(data=3, tensor=2), rank) for rank in range(6)]
    own = {mesh.rank: {index: answers[index] for index in range(mesh.data_index, 7, 3)} for mesh in meshes}
    (tmp_path / ".answers_of_replica_2.json").write_text("left by another run")
    forget_answers(tmp_path)
    assert share_answers(tmp_path, meshes[0], own[0])
    for mesh in meshes[1:4]:
        assert not share_answers(tmp_path, mesh, own[mesh.rank])
    late = threading.Timer(0.5, share_answers, (tmp_path, meshes[4], own[4]))  # the last replica's first rank
    late.start()
    assert collect_answers(tmp_path, meshes[0], own[0]) == list(answers.values())
    assert not list(tmp_path.glob(".answers*"))


@pytest.mark.cluster
def test_two_replicas_answer_what_one_process_answers(dataset, tokenizer_folder, tmp_path):  # noqa: F811
    run_single(dataset, tmp_path / "run", 4, **{"runner_config.max_steps": 3})
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("sort a list\nreverse a string\nadd two numbers\n")
    trains = arguments(dataset, tmp_path / "out", 1, "wizardcoder", **{"model.model_config.max_new_tokens": 20})
    flags = [*trains[1:3], *trains[5:]]  # without --train_data, which predict does not have
    flags += ["--load_checkpoint", tmp_path / "run", "--predict_data", prompts, "--vocab_file", tokenizer_folder]
    base = [sys.executable, "-m", "mindcoder.cli.main", "predict", *map(str, flags), "--output_file"]
    alone = subprocess.run([*base, str(tmp_path / "one.jsonl")], capture_output=True, text=True, cwd=REPOSITORY)
    assert alone.returncode == 0, alone.stderr
    more = [str(tmp_path / "two.jsonl"), "--use_parallel", "True", "--set", "parallel_config.data_parallel=2"]
    done = launch(" ".join([*base, *more]), 2, tmp_path)
    assert done.returncode == 0, done.stderr
    answers = (tmp_path / "two.jsonl").read_text()
    assert len(answers.splitlines()) == 3 and answers == (tmp_path / "one.jsonl").read_text()
