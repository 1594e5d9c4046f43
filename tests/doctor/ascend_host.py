"""A folder that stands for the root of an Ascend host, and programs for its PATH."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from mindcoder.doctor.host import Host

DRIVER_INFO = "Version=7.35.23\nascendhal_version=7.35.23\npackage_version=26.0.rc1\n"  # as of driver 26.0.rc1
SMI = """
+------------------------------------------------------------------------------------------------+
| npu-smi 26.0.rc1                 Version: 26.0.rc1                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 89.5        38                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3161 / 65536         |
+===========================+===============+====================================================+
| 1     910B3               | {health:13} | 89.5        38                0    / 0             |
| 0                         | 0000:01:00.0  | 0           0    / 0          3161 / 65536         |
+===========================+===============+====================================================+
"""


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def program(folder: Path, name: str, script: str) -> Path:
    """A shell script that may be run."""
    path = write(folder / name, f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def smi_program(folder: Path, health: str = "OK") -> None:
    program(folder, "npu-smi", f"cat <<'E'{SMI.format(health=health)}E")


def ascend_host(root: Path, cards: int = 2, seconds: float = 30.0, **environment: str) -> Host:
    """Cards, driver, npu-smi and CANN as they should be."""
    for name in ("davinci_manager", "devmm_svm", "hisi_hdc", *(f"davinci{card}" for card in range(cards))):
        write(root / "dev" / name, "")
    write(root / "usr/local/Ascend/driver/version.info", DRIVER_INFO)
    home = root / "usr/local/Ascend/cann"
    write(home / "compiler/version.info", "Version=9.0.0\n")
    write(home / "lib64/libge_runner.so", "")
    for part in ("te", "hccl"):
        write(home / "python" / part / "__init__.py", "")
    (home / "opp").mkdir()
    smi_program(root / "bin")
    variables = {
        "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
        "HOME": str(root),
        "ASCEND_HOME_PATH": str(home),
        "ASCEND_OPP_PATH": str(home / "opp"),
        "LD_LIBRARY_PATH": str(home / "lib64"),
    }
    return Host(root, variables | environment, True, time.monotonic() + seconds)
