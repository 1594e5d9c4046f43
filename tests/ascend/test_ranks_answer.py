"""``--run_mode eval`` and ``predict`` in several processes of the emulator equal one CPU process."""

from __future__ import annotations

import json

import pytest
from emulated_runs import entry, finish, on_cpu, start_ranks
from test_ascend_layouts import SEQUENCE, SETS, VOCABULARY, dataset, singles  # noqa: F401
from test_run_wizardcoder import evaluated

pytestmark = pytest.mark.cluster
MESHES = [((1, 2, 1), VOCABULARY), ((1, 2, 2), {**SEQUENCE, **VOCABULARY}), ((2, 1, 1), {})]


def ask(mode, place, mesh, **more) -> list[str]:
    """The original script's arguments on ``mesh`` (data, tensor, stages)."""
    names = ("data_parallel", "model_parallel", "pipeline_stage")
    layout = {f"parallel_config.{name}": size for name, size in zip(names, mesh)}
    config = "configs/wizardcoder/tiny_finetune.yaml"
    return entry(mode, config=config, output_dir=place, **SETS, **layout, **more)


@pytest.mark.parametrize("mesh, options", MESHES, ids=["slices", "slices-stages", "replicas"])
def test_ranks_measure_and_answer_as_one_process(mesh, options, dataset, singles, tokenizer_folder, tmp_path):  # noqa: F811
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("sort a list\nreverse a string\nadd\n", encoding="utf-8")
    common = {"load_checkpoint": singles(), "vocab_file": tokenizer_folder, "model.model_config.max_new_tokens": 12}
    asked = {"eval": {"eval_dataset": dataset}, "predict": {"predict_data": prompts}}
    found: dict[str, list] = {"losses": [], "answers": []}
    for name, ranks in (("one", 1), ("many", mesh[0] * mesh[1] * mesh[2])):
        place = tmp_path / name
        place.mkdir()
        for mode, flags in asked.items():
            file = place / "answers.jsonl"
            more = {**flags, **common, **({"output_file": file} if mode == "predict" else {})}
            if ranks == 1:
                printed = on_cpu(ask(mode, place / mode, (1, 1, 1), **more))
            else:
                process = start_ranks(ask(mode, place / mode, mesh, **more, **options), ranks, place)
                code, errors, printed = finish(process)
                assert code == 0, errors[-4000:]
            if mode == "eval":
                found["losses"].append(evaluated(printed))
        found["answers"].append([json.loads(line)["output"] for line in file.read_text("utf-8").splitlines()])
    assert found["losses"][1] == pytest.approx(found["losses"][0], rel=1e-5)
    assert found["answers"][1] == found["answers"][0]
    assert len(found["answers"][0]) == 3 and any(found["answers"][0])
