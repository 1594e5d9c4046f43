"""Collectives against numpy, and the mesh's arithmetic."""

from __future__ import annotations

import pytest
from cluster import run_code

from mindcoder.parallel.mesh import Mesh
from mindcoder.parallel_layout import ParallelLayout

CODE = """
    import mindspore as ms, numpy as np
    from mindspore import Tensor
    from mindcoder.parallel.process_groups import create_process_groups
    from mindcoder.parallel.mesh import Mesh
    from mindcoder.parallel_layout import ParallelLayout

    DATA, PIPELINE, TENSOR = {axes}
    comm = create_process_groups(ParallelLayout(DATA, TENSOR, PIPELINE))
    mesh = comm.mesh
    assert mesh.rank == rank
    def values(of, dtype):
        return np.random.default_rng(of).integers(-50, 50, (8, 3)).astype(dtype)
    for dtype in (np.float32, np.float16):
        for ranks in (mesh.data_ranks(), mesh.tensor_ranks(), mesh.pipeline_ranks(), comm.everyone):
            mine = Tensor(values(rank, dtype))
            total = comm.all_reduce_among(ranks)(mine).asnumpy()
            assert (total == sum(values(of, dtype) for of in ranks)).all(), (rank, ranks)
            joined = comm.all_gather_among(ranks)(mine).asnumpy()
            assert (joined == np.concatenate([values(of, dtype) for of in ranks])).all(), (rank, ranks)
            own = comm.reduce_scatter_among(ranks)(mine).asnumpy()
            wanted = np.split(sum(values(of, dtype) for of in ranks), len(ranks))[ranks.index(rank)]
            assert (own == wanted).all(), (rank, ranks)
        # Around the pipeline and back, as often as there is no barrier between.
        before, after = comm.peer(-1), comm.peer(1)
        ranks = mesh.pipeline_ranks()
        assert (before is None) == (mesh.stage == 0) and (after is None) == (mesh.stage == PIPELINE - 1)
        for turn in range(3):
            back = None
            if after is not None:
                back = after.exchange(Tensor(values(rank, dtype) + turn), (8, 3), mine.dtype).asnumpy()
                assert (back == -values(ranks[mesh.stage + 1], dtype)).all()
            if before is not None:
                came = before.exchange(Tensor(-values(rank, dtype)), (8, 3), mine.dtype).asnumpy()
                assert (came == values(ranks[mesh.stage - 1], dtype) + turn).all()
    print("all equal")
"""


@pytest.mark.parametrize(
    "axes",
    [
        pytest.param((2, 1, 1), marks=pytest.mark.cluster),
        pytest.param((1, 2, 2), marks=pytest.mark.cluster),
        pytest.param((1, 4, 2), marks=pytest.mark.cluster),
        pytest.param((2, 2, 2), marks=pytest.mark.long),  # eight processes, and a scheduler, import MindSpore
        (1, 2, 1),
    ],
    ids=str,
)
def test_collectives_equal_numpy_in_every_group(axes, tmp_path):
    count = axes[0] * axes[1] * axes[2]
    done = run_code(CODE.replace("{axes}", str(axes)), count, tmp_path)
    assert done.returncode == 0, done.stderr
    for rank in range(count):
        assert "all equal" in (tmp_path / "log" / f"rank_{rank}.log").read_text()


def test_ranks_of_the_mesh():
    mesh = Mesh(ParallelLayout(2, 2, 2), rank=5)
    assert (mesh.stage, mesh.data_index, mesh.tensor_index) == (1, 0, 1)
    assert mesh.tensor_ranks() == (4, 5) and mesh.data_ranks() == (5, 7) and mesh.pipeline_ranks() == (1, 5)
    assert len(mesh.all_groups()) == 12
    for rank in range(8):
        place = Mesh(ParallelLayout(2, 2, 2), rank)
        assert place.rank_at(place.stage, place.data_index, place.tensor_index) == rank
    with pytest.raises(ValueError, match="rank 8 is not on a mesh"):
        Mesh(ParallelLayout(2, 2, 2), 8)
