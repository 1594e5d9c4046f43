"""Two servers, shown with two network namespaces joined by a virtual cable."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.long

ADDRESSES = ("10.77.31.1", "10.77.31.2")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def servers():
    """Names of two namespaces that reach each other; skips where they cannot be made."""
    names = [f"mindcoder{os.getpid()}{side}" for side in "ab"]
    cables = [f"mc{os.getpid() % 100000}{side}" for side in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        for name, cable, address in zip(names, cables, ADDRESSES):
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        pytest.skip(f"network namespaces cannot be made here: {error}")
    yield names
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


CODE = """
    from mindcoder.backend.device import setup_device
    setup_device("CPU")
    import mindspore as ms, numpy as np
    from mindcoder.parallel.process_groups import create_process_groups
    from mindcoder.parallel_layout import ParallelLayout
    comm = create_process_groups(ParallelLayout(data=4))
    total = comm.all_reduce_among(comm.everyone)(ms.Tensor(np.full(3, 10.0 ** comm.mesh.rank, np.float32)))
    print("sum", total.asnumpy().tolist())
"""


def test_a_merged_table_joins_two_servers(servers, tmp_path):
    for address in ADDRESSES:
        subprocess.run(
            [
                sys.executable, REPOSITORY / "tools" / "hccl_tools.py", "--device_num", "[0,2)",
                "--server_ip", address, "--output_dir", tmp_path,
            ],
            check=True, capture_output=True,
        )  # fmt: skip
    tables = [tmp_path / f"hccl_2p_01_{address}.json" for address in ADDRESSES]
    merge = [sys.executable, REPOSITORY / "tools" / "merge_hccl.py", *tables, "--output_dir", tmp_path]
    subprocess.run(merge, check=True, capture_output=True)
    (tmp_path / "code.py").write_text(textwrap.dedent(CODE))
    jobs = [
        subprocess.Popen(
            [
                "ip", "netns", "exec", name, "bash", REPOSITORY / "scripts" / "run_multinode.sh",
                f"{sys.executable} {tmp_path / 'code.py'}", tmp_path / "hccl_2s_4p.json", f"[{first},{first + 2}]", "4",
                "--log_dir", tmp_path / f"log_{first}",
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
            env={**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"},
        )
        for name, first in zip(servers, (0, 2))
    ]  # fmt: skip
    for job in jobs:
        out, err = job.communicate(timeout=180)
        assert job.returncode == 0, err
        assert "sum [1111.0, 1111.0, 1111.0]" in out
