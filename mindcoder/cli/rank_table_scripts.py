"""The original hccl_tools.py and merge_hccl.py (mindspore-lab/mindformers r1.1.0, mindformers/tools)."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

from mindcoder.backend.device import ascend_present
from mindcoder.cli.arguments import positive
from mindcoder.cli.guard import guarded
from mindcoder.cli.parser import StrictParser
from mindcoder.errors import UserError
from mindcoder.files import write_text
from mindcoder.launch.rank_table import RankTable, make_table, merge_tables, parse_range, read_rank_table

HCCN_FILE = Path("/etc/hccn.conf")


def hccl_tools_script() -> int:
    """``hccl_tools.py --device_num "[0,8)" [--server_ip IP]``: write the rank table of this server."""
    parser = StrictParser(prog="hccl_tools.py", description="Write the rank table of this server.")
    parser.add_argument(
        "--device_num", default="[0,8)", metavar="RANGE", help="range of cards, end exclusive; default: [0,8)"
    )
    parser.add_argument(
        "--device_num_per_node", type=positive, default=8, metavar="N", help="cards per server; default: 8"
    )
    parser.add_argument(
        "--visible_devices", metavar="IDS", help="cards in the order of use, such as 3,1,0; default: 0,1,2,..."
    )
    parser.add_argument("--server_ip", metavar="IP", help="this server's address; default: detected")
    parser.add_argument("--output_dir", default=".", metavar="DIR", help="folder for the table; default: this folder")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    arguments = parser.parse_args()

    def work() -> int:
        ids = list(parse_range(arguments.device_num))
        if ids[-1] >= arguments.device_num_per_node:
            raise UserError(
                f"--device_num {arguments.device_num}: a server has cards 0 to {arguments.device_num_per_node - 1} "
                "(--device_num_per_node)"
            )
        if arguments.visible_devices:
            items = [item.strip() for item in arguments.visible_devices.split(",")]
            if not all(item.isdigit() for item in items):
                raise UserError(f"--visible_devices: expected cards such as 3,1,0, found {arguments.visible_devices!r}")
            visible = list(map(int, items))
            if any(index >= len(visible) for index in ids):
                raise UserError(f"has {len(visible)} cards, --device_num requests {ids}", "--visible_devices")
            ids = [visible[index] for index in ids]
        address = arguments.server_ip or _own_address()
        _write(make_table(address, ids, _device_addresses(ids, address)), Path(arguments.output_dir))
        return 0

    return guarded(work, arguments.debug)


def merge_hccl_script() -> int:
    """``merge_hccl.py TABLE TABLE …``: merge the tables of several servers; ranks follow the order given."""
    parser = StrictParser(prog="merge_hccl.py", description="Merge the rank tables of several servers.")
    parser.add_argument("tables", nargs="+", metavar="FILE", help="in the order of ranks")
    parser.add_argument("--output_dir", default=".", metavar="DIR", help="folder for the table; default: this folder")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    arguments = parser.parse_args()

    def work() -> int:
        tables = [read_rank_table(file, is_part=True) for file in arguments.tables]
        _write(merge_tables(tables), Path(arguments.output_dir))
        return 0

    return guarded(work, arguments.debug)


def print_world_size(file: str) -> int:
    """For shell scripts: print the number of processes of a rank table."""

    def work() -> int:
        print(read_rank_table(file).world_size)
        return 0

    return guarded(work, False)


def _write(table: RankTable, folder: Path) -> None:
    count = table.world_size
    if len(table.servers) > 1:
        name = f"hccl_{len(table.servers)}s_{count}p.json"
    else:
        (server,) = table.servers
        name = f"hccl_{count}p_{''.join(str(item.device_id) for item in server.devices)}_{server.server_id}.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / name, json.dumps(table.as_dict(), indent=4) + "\n")
    print(f"rank table: {folder / name} ({count} ranks, servers: {len(table.servers)})")


def _own_address() -> str:
    """The address of the interface with the default route; the loopback address if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # documentation address (RFC 5737): nothing is sent
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def _device_addresses(ids: list[int], server: str) -> list[str]:
    """Network address of each card from /etc/hccn.conf or hccn_tool; the server's if there are no cards.

    Raises:
        UserError: there are cards, but an address cannot be found.
    """
    if not ascend_present() and not HCCN_FILE.is_file():
        return [server] * len(ids)
    text = HCCN_FILE.read_text(encoding="utf-8") if HCCN_FILE.is_file() else ""
    known = {int(match[1]): match[2] for match in re.finditer(r"^address_(\d+)=(\S+)", text, re.MULTILINE)}
    addresses = []
    for index in ids:
        address = known.get(index) or _ask_hccn_tool(index)
        if address is None:
            raise UserError(f"has no address_{index}, and hccn_tool -i {index} -ip -g gives none", HCCN_FILE)
        addresses.append(address)
    return addresses


def _ask_hccn_tool(index: int) -> str | None:
    if shutil.which("hccn_tool") is None:
        return None
    done = subprocess.run(["hccn_tool", "-i", str(index), "-ip", "-g"], capture_output=True, text=True)
    match = re.search(r"ipaddr:\s*(\S+)", done.stdout)
    return match[1] if match else None
