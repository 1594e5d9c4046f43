"""All checks, one after another, whatever one of them meets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from mindcoder.doctor import ascend, machine, native, network, packages
from mindcoder.doctor.host import Host, said
from mindcoder.doctor.report import Row

CHECK_SECONDS = 30.0  # of one check: a file system that does not answer holds it up, not the others


def examine(host: Host) -> Iterator[Row]:
    """The rows, each as soon as it is known.

    Args:
        host: `Host.on_ascend` says whether cards and CANN are needed; `Host.deadline` bounds everything.
    """
    try:
        for check, work in checks(host):
            yield from answered(check, work, host)
    finally:
        host.end_programs()


def checks(host: Host) -> list[tuple[str, Callable[[], Row | list[Row]]]]:
    """Name and work of each check."""
    listed: list[tuple[str, Callable[[], Row | list[Row]]]] = [
        ("processor", lambda: native.processor_row(host)),
        ("Ascend cards", lambda: ascend.cards_row(host)),
    ]
    if host.on_ascend:
        listed += [
            ("driver", lambda: ascend.driver_row(host)),
            ("npu-smi", lambda: ascend.smi_row(host)),
        ]
    if host.on_ascend or ascend.cann_home(host) is not None:
        listed += [
            ("CANN", lambda: ascend.cann_row(host)),
            ("CANN's parts", lambda: ascend.cann_parts_row(host)),
        ]
    listed += [
        ("Python", packages.python_row),
        ("packages", packages.package_rows),
        ("import mindspore", lambda: packages.import_row(host)),
        ("C++ compiler", lambda: native.compiler_row(host)),
        ("C++ operators", lambda: native.library_row(host)),
        ("working folder", machine.folder_row),
        ("temporary files", machine.temporary_row),
        ("home folder", lambda: machine.home_row(host)),
        ("memory", lambda: machine.memory_row(host)),
        ("cores", lambda: machine.cores_row(host)),
        ("sandbox", lambda: machine.sandbox_row(host)),
        ("ports", network.ports_row),
        ("rank table", lambda: network.table_row(host)),
        ("cluster variables", lambda: network.cluster_row(host)),
    ]
    if host.on_ascend:
        listed += [
            ("HCCL variables", lambda: network.hccl_row(host)),
            ("dispatch threads", lambda: machine.dispatch_row(host)),
            ("MindSpore on Ascend", lambda: packages.compute_row(host)),
        ]
    return listed


def answered(check: str, work: Callable[[], Row | list[Row]], host: Host) -> list[Row]:
    """The rows of a check; one that says so where it fails or does not answer."""
    rows: list[Row] = []

    def run() -> None:
        try:
            found = work()
            rows.extend([found] if isinstance(found, Row) else found)
        except Exception as error:  # whatever is broken on the host is a row, and the others follow
            rows.append(Row(check, "problem", f"the check failed: {said(error)}"))

    thread = threading.Thread(target=run, daemon=True)  # a dead file system holds even a look at its free space
    try:
        thread.start()
    except RuntimeError:  # no more threads may be started
        run()
        return rows
    thread.join(max(0.5, min(CHECK_SECONDS, host.deadline - time.monotonic() + 2)))
    if thread.is_alive():
        return [Row(check, "problem", "gives no answer", "a file system that hangs, or a stopped program")]
    return rows
