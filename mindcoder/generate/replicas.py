"""Data-parallel replicas that answer a list of prompts together: each takes every n-th, the first rank writes all.

Replicas need not finish at the same time, so answers travel through files instead of a collective that would time out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from mindcoder.files import write_text
from mindcoder.parallel.mesh import Mesh

POLL_SECONDS = 0.1


def _file(folder: Path, replica: int) -> Path:
    return folder / f".answers_of_replica_{replica}.json"


def forget_answers(folder: Path) -> None:
    """Remove what an interrupted run left, before the processes meet."""
    for left in folder.glob(_file(folder, 0).name.replace("0", "*")):
        left.unlink(missing_ok=True)


def share_answers(folder: Path, mesh: Mesh, lines: Mapping[int, str]) -> bool:
    """Hand a replica's answers, by number of the prompt, to the first rank; gives whether this is that one."""
    leads_replica = mesh.rank == mesh.rank_at(0, mesh.data_index, 0)
    if leads_replica and mesh.data_index > 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(_file(folder, mesh.data_index), json.dumps(dict(lines)))
    return mesh.rank == 0


def collect_answers(folder: Path, mesh: Mesh, lines: Mapping[int, str]) -> list[str]:
    """All answers in the order of their prompts; waits for the other replicas (the launcher ends us if one dies)."""
    merged = dict(lines)
    for replica in range(1, mesh.data):
        file = _file(folder, replica)
        while not file.is_file():
            time.sleep(POLL_SECONDS)
        merged |= {int(index): line for index, line in json.loads(file.read_text(encoding="utf-8")).items()}
        file.unlink()
    return [merged[index] for index in sorted(merged)]
