"""Packages, compiler, native operators, folders, memory, ports and variables."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace

import pytest
from ascend_host import ascend_host, program, write

import mindcoder.backend.native
from mindcoder.cli import launch_verb
from mindcoder.cli.main import build_parser
from mindcoder.doctor import machine, native, network, packages
from mindcoder.doctor.examine import answered
from mindcoder.doctor.host import Host
from mindcoder.doctor.report import Row
from mindcoder.launch.rank_table import make_table, merge_tables

REQUIREMENTS = ["mindspore==2.9.0", "numpy<2,>=1.26", "pyyaml>=6.0", 'fastapi>=0.115; extra == "serve"']


def versions(**known: str):
    def version_of(name: str) -> str:
        if name not in known:
            raise importlib.metadata.PackageNotFoundError(name)
        return known[name]

    return version_of


def by_check(rows):
    return {row.check: row for row in rows}


def test_packages_that_fit():
    found = versions(mindspore="2.9.0", numpy="1.26.4", pyyaml="6.0.2", fastapi="0.120")
    rows = by_check(packages.package_rows(REQUIREMENTS, found))
    assert {row.status for row in rows.values()} == {"ok"}
    assert (rows["mindspore"].found, rows["extra serve"].found) == ("2.9.0", "all 1")


def test_packages_that_do_not_fit():
    rows = by_check(packages.package_rows(REQUIREMENTS, versions(mindspore="2.10.0", numpy="2.1.0")))
    assert rows["mindspore"].line().endswith("2.10.0, expected ==2.9.0; pip install 'mindspore==2.9.0'")
    assert rows["numpy"].found == "2.1.0, expected <2,>=1.26"
    assert rows["other packages"].found == "pyyaml missing" and rows["other packages"].status == "problem"
    assert rows["extra serve"].status == "note" and rows["extra serve"].found == "fastapi missing"


def test_packages_with_damaged_metadata():
    def version_of(name: str) -> str:
        return None if name == "numpy" else "not a version"  # type: ignore[return-value]

    rows = by_check(packages.package_rows(REQUIREMENTS, version_of))
    assert rows["mindspore"].status == rows["numpy"].status == "problem"


def test_the_installed_packages_are_judged_by_the_pins_of_setup_py():
    rows = by_check(packages.package_rows())
    assert [rows[name].status for name in packages.NAMED] == ["ok"] * 4


@pytest.mark.parametrize(
    "script, found",
    [
        ("raise ImportError('libstdc++.so.6: version not found')", "ImportError: libstdc++.so.6: version not found"),
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
        ("import time; time.sleep(100)", "gave no answer within 1 s"),
        ("", "unexpected: it said nothing"),
    ],
)
def test_a_mindspore_that_cannot_be_imported(script, found, monkeypatch):
    monkeypatch.setattr(packages, "IMPORT", script)
    monkeypatch.setattr(packages, "IMPORT_SECONDS", 1.0 if "sleep" in script else 20.0)
    row = packages.import_row(Host())
    assert row.status == ("note" if "sleep" in script else "problem") and found in row.found


def test_compilers(tmp_path):
    host = Host(environment={"PATH": str(tmp_path)})
    assert native.compiler_row(host).found == "no g++ or c++ or clang++"
    program(tmp_path, "g++", "echo 'g++ (test) 12.2.0'; echo more")
    assert native.compiler_row(host).found == "g++ (test) 12.2.0"
    program(tmp_path, "g++", "exit 3")
    assert native.compiler_row(host).status == "note"
    named = replace(host, environment={"PATH": str(tmp_path), "CXX": "ccache g++"})
    assert native.compiler_row(named).found == "no ccache"


def test_the_operators_library_is_the_one_that_is_used():
    assert native.LIBRARY == mindcoder.backend.native.LIBRARY and native.SWITCH == mindcoder.backend.native.SWITCH


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
def test_libraries_of_operators(tmp_path):
    def library(name: str, source: str):
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-x", "c", "-o", str(tmp_path / name), "-"], input=source, text=True, check=True
        )
        return native.library_row(Host(), tmp_path / name)

    step = "void MindCoderStep(void) {}\n"
    kind, arguments = 'const char *MindCoderKind(void) { return "AVX"; }\n', "void MindCoderArguments(void) {}\n"
    assert library("good.so", step + kind + arguments).found == "loadable, AVX"
    assert library("old.so", step).status == "note"
    assert library("unordered.so", step + kind).status == "note"  # does not tell the order of arguments
    assert "undefined symbol: MindCoderStep" in library("other.so", "int nothing;").found
    alien = library("alien.so", step + arguments + "const char *MindCoderKind(void) { __builtin_trap(); }")
    assert alien.status == "problem" and "another processor (SIGILL)" in alien.found
    write(tmp_path / "damaged.so", b"\x7fELF damaged")
    assert native.library_row(Host(), tmp_path / "damaged.so").status == "problem"
    assert native.library_row(Host(), tmp_path / "none.so").status == "note"
    off = Host(environment=dict(os.environ) | {"MINDCODER_NATIVE": "0"})
    assert "switched off" in native.library_row(off, tmp_path / "good.so").found


def test_processors(tmp_path):
    host = Host(root=tmp_path)
    assert native.processor_row(host).status == "note"
    write(tmp_path / "proc/cpuinfo", "processor : 0\nmodel name : Test CPU\nflags : fpu avx2 avx512f amx_tile\n")
    assert "Test CPU" in native.processor_row(host).found and "(AVX2, AVX-512, AMX)" in native.processor_row(host).found
    write(tmp_path / "proc/cpuinfo", "processor : 0\nFeatures : fp asimd sve i8mm\n")
    assert "(NEON, SVE, I8MM)" in native.processor_row(host).found


@pytest.mark.parametrize("version", [1, 2])
def test_limits_of_control_groups(version, tmp_path):
    host = Host(root=tmp_path)
    write(tmp_path / "proc/meminfo", "MemTotal: 64000000 kB\nMemAvailable: 60000000 kB\n")
    assert machine.memory_row(host).found == "65.5 GB, 61.4 GB available"
    if version == 2:
        write(tmp_path / "proc/self/cgroup", "0::/job/task\n")
        write(tmp_path / "sys/fs/cgroup/job/memory.max", "2000000000\n")
        write(tmp_path / "sys/fs/cgroup/job/task/memory.max", "max\n")
    else:
        write(tmp_path / "proc/self/cgroup", "5:cpu:/x\n4:memory:/job\n")
        write(tmp_path / "sys/fs/cgroup/memory/job/memory.limit_in_bytes", "2000000000\n")
    row = machine.memory_row(host)
    assert row.status == "note" and row.found.endswith("the control group allows 2.0 GB")


def test_a_working_folder_that_is_gone(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert machine.folder_row().status == "problem" and "is gone" in machine.folder_row().found


def test_a_folder_without_room(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    for free, status in ((10**6, "problem"), (10**9, "note"), (10**12, "ok")):
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        assert machine.folder_row().status == status


@pytest.mark.parametrize(
    "environment, status", [({}, "note"), ({"HOME": "/nowhere"}, "note"), ({"HOME": "/tmp"}, "ok")]
)
def test_homes(environment, status):
    assert machine.home_row(Host(environment=environment)).status == status


def test_the_ports_are_the_defaults():
    parser = build_parser()._subparsers._group_actions[0].choices["serve"]
    assert parser.get_default("port") in network.PORTS
    assert launch_verb.DEFAULT_PORT in network.PORTS and launch_verb.DEFAULT_PORT + 1 in network.PORTS


def test_a_port_in_use_is_named(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(network, "PORTS", {port: "somebody"})
        assert network.ports_row().found == f"in use: {port} (somebody)"
    assert network.ports_row().status == "ok"


@pytest.mark.parametrize(
    "name, text",
    [
        ("HCCL_CONNECT_TIMEOUT", "60"),
        ("HCCL_CONNECT_TIMEOUT", "1800s"),
        ("HCCL_CONNECT_TIMEOUT", "\u0661\u0662\u0660"),
        ("HCCL_EXEC_TIMEOUT", "-1"),
        ("HCCL_IF_BASE_PORT", "80"),
        ("HCCL_IF_IP", "node_0"),
        ("ASCEND_RT_VISIBLE_DEVICES", "0, 1"),
        ("ASCEND_RT_VISIBLE_DEVICES", "1,0"),
    ],
)
def test_values_that_hccl_refuses_are_named(name, text):
    row = network.hccl_row(Host(environment={name: text}))
    assert row.status == "problem" and f"{name}={text!r}, expected" in row.found


def test_values_that_hccl_takes():
    good = {"HCCL_CONNECT_TIMEOUT": "7200", "HCCL_EXEC_TIMEOUT": "0", "HCCL_IF_IP": "::1", "HCCL_BUFFSIZE": "200"}
    assert network.hccl_row(Host(environment=good)).status == "ok"
    assert network.hccl_row(Host(environment={})).status == "ok"


def test_rank_tables(tmp_path):
    def row(content):
        file = write(tmp_path / "table.json", content)
        return network.table_row(Host(environment={"RANK_TABLE_FILE": str(file)}))

    one = make_table("127.0.0.1", [0, 1], ["", ""])
    two = merge_tables(make_table(address, [0], [""]) for address in ("10.0.0.1", "10.0.0.2"))
    assert row(json.dumps(one.as_dict())).found.endswith("2 ranks on 1 server")
    assert "device_ip of device 0 of server 10.0.0.1 is missing" in row(json.dumps(two.as_dict())).found
    assert "bad JSON" in row("{").found
    assert "status" in row(json.dumps(one.as_dict() | {"status": "initializing"})).found
    for where in ("/nowhere/table.json", "/proc/1/mem", "/dev/zero", "x" * 5000, "a\0b"):
        assert network.table_row(Host(environment={"RANK_TABLE_FILE": where})).status == "problem"
    assert network.table_row(Host(environment={})).status == "ok"


def test_variables_of_another_job_are_named():
    row = network.cluster_row(Host(environment={"MS_ROLE": "MS_WORKER", "RANK_ID": "3"}))
    assert row.status == "note" and row.found == "set: MS_ROLE='MS_WORKER', RANK_ID='3'"


def test_more_cards_than_cores(tmp_path):
    assert machine.dispatch_row(ascend_host(tmp_path, cards=9999 // 4)).status == "note"


@pytest.mark.parametrize("script, status", [("", "ok"), ("import sys; sys.exit('no namespaces')", "note")])
def test_the_sandbox(script, status, monkeypatch):
    monkeypatch.setattr(machine, "SANDBOX", script)
    row = machine.sandbox_row(Host())
    assert row.status == status and (status == "ok" or row.found == "no namespaces")


def test_a_program_without_a_path():
    assert Host(environment={}).run([sys.executable, "-c", "print(1)"], 20).output == "1\n"
    assert "cannot be started" in Host(environment={}).run(["/nowhere/program"], 5).failure
    assert Host(deadline=0).run(["true"], 5).failure == "no time was left for it"


def test_programs_that_talk_without_end_or_leave_others_behind():
    host = Host(environment={"PATH": os.environ["PATH"]})
    begin = time.monotonic()
    assert host.run(["yes"], 1.0).failure == "gave no answer within 1 s"
    assert host.run(["sh", "-c", "sleep 100 & echo here"], 20).output == "here\n"
    assert host.run(["sh", "-c", "exec >&- 2>&-; sleep 100"], 1.0).failure == "gave no answer within 1 s"
    assert time.monotonic() - begin < 15
    long = host.run(["sh", "-c", "echo first; head -c 1000000 /dev/zero; echo last"], 20)
    assert long.output.startswith("first\n") and long.output.endswith("last\n") and len(long.output) <= 2**17


def test_programs_run_where_no_temporary_file_can_be_made(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert Host().python("print(1)", 20).output == "1\n"


def test_where_no_thread_can_be_started_checks_are_made_all_the_same(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert answered("x", lambda: Row("x", "ok", "y"), Host()) == [Row("x", "ok", "y")]
