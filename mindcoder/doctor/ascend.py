"""Cards, driver and CANN of an Ascend host.

Which versions belong together: https://www.mindspore.cn/mindformers/docs/en/r1.9.0/installation.html. Where they stand:
``/usr/local/Ascend/driver/version.info`` (``package_version``, before that ``Version``); of CANN
``compiler/version.info`` in its folder, which MindSpore reads itself (mindspore/run_check/_check_version.py), or
``<arch>-linux/ascend_toolkit_install.info`` (hiascend.com, CANN 8.5.0, file paths).
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mindcoder.backend.cards import VISIBLE_CARDS, device_nodes
from mindcoder.backend.device import CANN_LIBRARY
from mindcoder.doctor.host import Host, said
from mindcoder.doctor.report import Row
from mindcoder.errors import UserError

CANN, DRIVER = "9.0.0", "26.0.RC1"
ACCEPTED_CANN = ("8.2", "8.3", "8.5", "9.0")  # by MindSpore 2.9.0, with no more than a warning for others
NODES = ("davinci_manager", "devmm_svm", "hisi_hdc")  # besides davinciN
HOMES = ("usr/local/Ascend/cann", "usr/local/Ascend/ascend-toolkit/latest", "usr/local/Ascend/latest")
PYTHON_PARTS = ("te", "hccl")  # that MindSpore imports from CANN
SMI_SECONDS = 10.0
SMI_ROW = re.compile(r"^\|\s*\d+\s+(\S+)\s*\|\s*(\S+)\s*\|", re.MULTILINE)  # | 0     910B3    | OK    | 89.5 …
WHERE_TO_GET = "https://www.mindspore.cn/mindformers/docs/en/r1.9.0/installation.html"


def cards_row(host: Host) -> Row:
    """The device nodes, and whether this user may open them."""
    nodes = device_nodes(host.root)
    if not nodes:
        if host.on_ascend:
            return Row(
                "Ascend cards",
                "problem",
                "none (no /dev/davinci0 and so on)",
                "install the driver; in a container give --device /dev/davinci0, "
                + ", ".join(f"/dev/{name}" for name in NODES),
            )
        return Row("Ascend cards", "ok", "none: CPU computes")
    needed = [f"/dev/{name}" for name in (*NODES, *(f"davinci{node}" for node in nodes))]
    missing = [name for name in needed if not os.path.exists(host.path(name))]
    closed = [name for name in needed if name not in missing and not os.access(host.path(name), os.R_OK | os.W_OK)]
    found = f"{len(nodes)} (/dev/davinci{nodes[0]}" + (f" to davinci{nodes[-1]})" if len(nodes) > 1 else ")")
    if missing:
        return Row(
            "Ascend cards", "problem", f"{found}, without {', '.join(missing)}", "give the container that device"
        )
    if closed:
        advice = "join the group that owns them (HwHiAiUser), or ask for leave"
        return Row("Ascend cards", "problem", f"{found}; may not be opened: {', '.join(closed)}", advice)
    seen = host.cards()
    if len(seen) < len(nodes):
        shown = f"{found}, of which {VISIBLE_CARDS}={host.environment.get(VISIBLE_CARDS, '')!r} shows {len(seen)}"
        return Row("Ascend cards", "note" if seen else "problem", shown)
    return Row("Ascend cards", "ok", found)


def driver_row(host: Host) -> Row:
    """The driver's version."""
    file = host.path("/usr/local/Ascend/driver/version.info")
    try:
        text = host.read(file)
    except UserError as error:
        return Row("driver", "note", said(error), "reinstall the driver")
    if text is None:
        advice = "install it; in a container mount /usr/local/Ascend/driver"
        return Row("driver", "problem", "no /usr/local/Ascend/driver/version.info", advice)
    version = _value(text, "package_version") or _value(text, "Version")
    if version is None:
        return Row("driver", "note", f"{file} names no version", f"expected {DRIVER}")
    if version.upper() == DRIVER:
        return Row("driver", "ok", version)
    return Row("driver", "note", f"{version}, expected {DRIVER}", f"with CANN {CANN}: {WHERE_TO_GET}")


def smi_row(host: Host) -> Row:
    """What npu-smi says of the cards' health."""
    program = host.program("npu-smi")
    if program is None:
        return Row("npu-smi", "note", "not in PATH", "in a container mount /usr/local/bin/npu-smi")
    answer = host.run([program, "info"], SMI_SECONDS)
    if answer.code != 0:
        last = answer.output.strip().splitlines()[-1:] or [""]
        why = answer.failure or f"exit code {answer.code}: {last[0]}"
        return Row("npu-smi", "problem", why, "the driver does not answer; see dmesg, restart the host")
    cards = SMI_ROW.findall(answer.output)
    if not cards:
        return Row("npu-smi", "note", "lists no card that is understood", "look at npu-smi info yourself")
    ill = [f"{name} is {health}" for name, health in cards if health != "OK"]
    if ill:
        return Row("npu-smi", "problem", ", ".join(ill), "npu-smi info -t health -i N says more")
    return Row("npu-smi", "ok", f"{len(cards)} x {cards[0][0]}, health OK")


def cann_row(host: Host) -> Row:
    """CANN's folder and version."""
    home = cann_home(host)
    if home is None:
        unset = [path for path in _installed(host) if os.path.isdir(path)]
        if unset:
            advice = f"source {unset[0]}/set_env.sh"
            return Row("CANN", "problem", f"installed in {unset[0]}, but ASCEND_HOME_PATH is not set", advice)
        return Row("CANN", "problem", "none (no ASCEND_HOME_PATH)", f"install CANN {CANN}: {WHERE_TO_GET}")
    if not os.path.isdir(home):  # Path's own raises for a name that is too long
        return Row("CANN", "problem", f"ASCEND_HOME_PATH is {home}, which is not a folder", "source CANN's set_env.sh")
    try:
        version, file = _cann_version(host, home)
    except UserError as error:
        return Row("CANN", "problem", said(error), "reinstall CANN")
    if version is None:
        return Row("CANN", "note", f"{home} names no version", f"expected {CANN}")
    if version == CANN:
        return Row("CANN", "ok", f"{version} in {home}")
    found = f"{version} ({file}), expected {CANN}"
    if version.startswith(tuple(f"{known}." for known in ACCEPTED_CANN)) or version in ACCEPTED_CANN:
        return Row("CANN", "note", found, "MindSpore 2.9.0 takes it; operators may be missing")
    return Row("CANN", "problem", found, f"MindSpore 2.9.0 takes {', '.join(ACCEPTED_CANN)}: {WHERE_TO_GET}")


def cann_parts_row(host: Host, python_path: Sequence[str] | None = None) -> Row:
    """What CANN's set_env.sh does: libraries, Python packages, operators.

    Args:
        python_path: folders of modules; those of this interpreter by default.
    """
    searched = sys.path if python_path is None else python_path
    libraries = host.environment.get("LD_LIBRARY_PATH", "").split(":")
    home = cann_home(host)
    libraries += [str(home / "lib64")] if home else []
    missing = []
    if not any(folder and os.path.exists(Path(folder) / CANN_LIBRARY) for folder in libraries):
        missing.append(f"{CANN_LIBRARY} (LD_LIBRARY_PATH)")
    for name in PYTHON_PARTS:
        folders = [Path(folder) / name for folder in searched if folder]
        if not any(os.path.isdir(folder) or os.path.isfile(folder.with_suffix(".py")) for folder in folders):
            missing.append(f"Python's {name} (PYTHONPATH)")
    opp = host.environment.get("ASCEND_OPP_PATH", "")
    if not opp or not os.path.isdir(opp):
        missing.append("operators (ASCEND_OPP_PATH)")
    if missing:
        return Row("CANN's parts", "problem", f"not found: {', '.join(missing)}", "source CANN's set_env.sh")
    return Row("CANN's parts", "ok", "libraries, Python packages and operators")


def cann_home(host: Host) -> Path | None:
    """CANN's folder, as its set_env.sh says."""
    text = host.environment.get("ASCEND_HOME_PATH") or host.environment.get("ASCEND_TOOLKIT_HOME")
    return Path(text) if text else None


def _installed(host: Host) -> list[Path]:
    """Where CANN may lie without being set up."""
    homes = [host.root / home for home in HOMES]
    own = host.environment.get("HOME")
    return homes + (
        [Path(own) / "Ascend" / Path(home).relative_to("usr/local/Ascend") for home in HOMES] if own else []
    )


def _cann_version(host: Host, home: Path) -> tuple[str | None, Path]:
    """Its version and the file that has it.

    Raises:
        UserError: such a file cannot be read.
    """
    machines = {f"{platform.machine()}-linux", "aarch64-linux", "x86_64-linux"}
    files = [home / "compiler" / "version.info"]
    files += [home / machine / "ascend_toolkit_install.info" for machine in sorted(machines)]
    files += [home / "version.info", home / "runtime" / "version.info"]
    for file in files:
        text = host.read(file)
        version = None if text is None else _value(text, "Version") or _value(text, "version")
        if version is not None:
            return version, file
    return None, home


def _value(text: str, key: str) -> str | None:
    """Of a line ``key=value``; brackets and quotes around the value are dropped."""
    match = re.search(rf"^\s*{key}\s*=\s*[\[\"']?([^\]\"'\s]+)", text, re.MULTILINE)
    return match[1] if match else None
