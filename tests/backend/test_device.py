"""An Ascend that is asked for and is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from mindcoder.backend import device
from mindcoder.cli.main import main
from mindcoder.errors import UserError

ABSENT = "found Ascend, and this machine has none"
needs_no_ascend = pytest.mark.skipif(
    device.ascend_present() or device.cann_present(), reason="this machine has an Ascend or CANN"
)


@needs_no_ascend
def test_it_is_refused_in_one_line_wherever_a_device_is_set_up():
    with pytest.raises(UserError, match=ABSENT):
        device.setup_device("Ascend")


@needs_no_ascend
@pytest.mark.parametrize("flag", [True, False])
def test_a_run_refuses_it_before_it_writes_anything(tmp_path, capsys, flag):
    config = tmp_path / "a.yaml"
    text = "base: [wizardcoder/tiny_finetune]\n"
    config.write_text(text if flag else f"{text}context: {{device_target: Ascend}}\n")
    output, data = tmp_path / "out", REPOSITORY / "datasets" / "samples.json"
    arguments = ["finetune", "--config", str(config), "--output_dir", str(output), "--train_data", str(data)]
    assert main([*arguments, *(["--device_target", "Ascend"] if flag else [])]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and ABSENT in lines[0] and not output.exists()
    assert ("--device_target" if flag else f"{config}:2: ") in lines[0]


@needs_no_ascend
def test_a_launch_refuses_it_before_it_starts_a_process(tmp_path, capsys):
    device_table = {"device_id": "0", "device_ip": "127.0.0.1", "rank_id": "0"}
    table = {"version": "1.0", "server_count": "1", "status": "completed"}
    table["server_list"] = [{"server_id": "127.0.0.1", "device": [device_table], "host_nic_ip": "reserve"}]
    (tmp_path / "table.json").write_text(json.dumps(table))
    config = REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml"
    command = f"{sys.executable} -m mindcoder.cli.main finetune --config {config} --device_target Ascend"
    logs = tmp_path / "logs"
    arguments = ["launch", "--command", command, "--rank_table", str(tmp_path / "table.json"), "--log_dir", str(logs)]
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and ABSENT in lines[0] and not logs.exists()


@needs_no_ascend
def test_a_backend_that_does_not_load_is_one_line(tmp_path):
    """CANN's library is in the path and is none: MindSpore itself says forty lines."""
    (tmp_path / device.CANN_LIBRARY).write_bytes(b"")
    code = "from mindcoder.backend.device import setup_device; setup_device('Ascend')"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "UserError: device_target: Ascend does not start: " in done.stderr.splitlines()[-1]
