"""Programs that attack the sandbox from inside: each is refused, ended or fails, and only it does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY
from hostile import FAIL, FORGED, HELD, SLOW, WATCHER

from mindcoder.errors import UserError
from mindcoder.evaluate import sandbox as module
from mindcoder.evaluate.sandbox import Sandbox, SandboxOptions, visible_folders

SMALL = 256 * 2**20  # bytes of memory
MARK = "mindcoder-sandbox-survivor"
LEAVE_ONE = f"""
import ctypes, os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # no signal when its parent dies
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)", "{MARK}"])
    os._exit(0)
os.wait()
"""


@pytest.fixture(scope="module", autouse=True)
def _works():
    try:
        Sandbox(SandboxOptions()).check()
    except UserError as error:
        if "not permitted" not in str(error):
            raise
        pytest.skip(str(error))


def run(program, seconds=10.0, **options):
    return Sandbox(SandboxOptions(seconds=seconds, memory_bytes=SMALL, **options)).run(program)


def survivors() -> list[str]:
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if MARK.encode() in command:
            found.append(process)
    return found


def eventually(holds, seconds=60.0) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("case", FAIL)
def test_it_fails(case):
    outcome = run(FAIL[case])
    assert ("memory" in case) == (outcome.reason == "used more than 0.25 GiB of memory"), outcome
    assert not outcome.passed and not outcome.is_broken and "timed out" not in outcome.reason, outcome


@pytest.mark.parametrize("case", HELD)
def test_it_is_refused(case):
    outcome = run(HELD[case])
    assert outcome.passed, outcome.reason


@pytest.mark.parametrize("isolation", ["namespaces", "limits"])
def test_no_line_is_left_out(isolation):
    held = Sandbox(SandboxOptions(seconds=20, memory_bytes=SMALL, isolation=isolation))
    for (case, program), outcome in zip(FORGED.items(), held.run_all(list(FORGED.values()))):
        compile(program, case, "exec")
        assert not outcome.passed and not outcome.is_broken and "timed out" not in outcome.reason, (case, outcome)


@pytest.mark.parametrize("case", WATCHER)
def test_a_watcher_that_is_attacked_is_not_waited_for(case, monkeypatch):
    """The time for the child's start does not count once the program has begun."""
    monkeypatch.setattr(module, "SPARE_SECONDS", 600.0)
    monkeypatch.setattr(module, "END_SECONDS", 2.0)
    program = WATCHER[case] if case == "killed" else LEAVE_ONE + WATCHER[case]
    outcome = run(program, seconds=1, isolation="limits")
    assert not outcome.passed and not outcome.is_broken, outcome
    assert survivors() == []


ORDINARY = """
import cProfile, doctest, sys, traceback
def f(): return 1
f.__doc__ = ">>> f()\\n1"
doctest.run_docstring_examples(f, {"f": f})
profile = cProfile.Profile()
assert profile.runcall(f) == 1
try: 1 / 0
except ZeroDivisionError as error: assert error.__traceback__.tb_lineno == 8 and traceback.format_exc()
f.__code__ = (lambda: 2).__code__
assert f() == 2 and sys._getframe().f_lineno == 11
"""


def test_doctest_profilers_and_line_numbers_work():
    outcome = run(ORDINARY)
    assert outcome.passed, outcome.reason


def test_all_that_never_end_are_ended():
    outcomes = Sandbox(SandboxOptions(seconds=1, memory_bytes=SMALL)).run_all(list(SLOW.values()), workers=8)
    for case, outcome in zip(SLOW, outcomes):
        assert not outcome.passed and not outcome.is_broken, (case, outcome)


def test_memory_that_is_only_reserved_or_shared_by_a_fork_does_not_count_twice():
    program = """
        import mmap, os
        held = bytearray(b"x") * (60 * 2**20)
        reserved = [mmap.mmap(-1, 8 * 2**20, flags=mmap.MAP_PRIVATE) for _ in range(8)]
        children = []
        for _ in range(6):
            children.append(os.fork())
            if children[-1] == 0:
                import time
                time.sleep(0.3)
                os._exit(0)
        for child in children: os.waitpid(child, 0)
    """
    outcome = run(textwrap.dedent(program))
    assert outcome.passed, outcome.reason


@pytest.mark.parametrize("isolation", ["namespaces", "limits"])
@pytest.mark.parametrize("end", ["", "import time; time.sleep(60)", "assert False", "os._exit(0)"])
def test_nothing_survives(isolation, end):
    run(LEAVE_ONE + end, seconds=1, isolation=isolation)
    assert survivors() == []


def test_nothing_survives_where_the_child_itself_hangs(monkeypatch):
    monkeypatch.setattr(module, "SPARE_SECONDS", -9.0)  # the caller's own deadline comes first
    assert run(LEAVE_ONE + "import time; time.sleep(60)").reason == "timed out after 10 s"
    assert survivors() == []


def test_nothing_survives_a_killed_caller():
    script = (
        "import sys\nfrom mindcoder.evaluate.sandbox import *\nSandbox(SandboxOptions(seconds=60)).run(sys.argv[1])"
    )
    program = LEAVE_ONE + "import time; time.sleep(60)"
    caller = subprocess.Popen([sys.executable, "-c", script, program], cwd=REPOSITORY)
    assert eventually(survivors)
    caller.kill()
    caller.wait()
    assert eventually(lambda: not survivors())


def test_files_and_secrets_of_the_caller_are_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("MINDCODER_SECRET", "from the environment")
    with open(tmp_path / "secret", "w") as stream:
        os.set_inheritable(stream.fileno(), True)
        seen = (
            "import os\nassert 'MINDCODER_SECRET' not in os.environ\n"
            f"assert not os.path.exists({str(tmp_path)!r})\nfor fd in range(4, 1024):\n"
            "    try: os.fstat(fd)\n    except OSError: pass\n    else: raise ValueError(fd)"
        )
        assert run(seen).passed
        assert run(seen.replace("assert not os.path", "os.path"), isolation="limits").passed


KEYS = """
import ctypes, json, platform, sys
from mindcoder.evaluate.sandbox import Sandbox, SandboxOptions
libc = ctypes.CDLL(None, use_errno=True)
add, keyctl = {"x86_64": (248, 250), "aarch64": (217, 219)}[platform.machine()]
if libc.syscall(keyctl, 1, None) < 0 or libc.syscall(add, b"user", b"mindcoder-test", b"secret", 6, -3) < 0:
    sys.exit(77)
SEARCH = f'''
import ctypes
libc = ctypes.CDLL(None)
key = libc.syscall({keyctl}, 10, -3, b"user", b"mindcoder-test", 0)
assert key == -1, key
'''
exec(SEARCH.replace("== -1", "> 0"))  # the caller has it
found = {name: Sandbox(SandboxOptions(isolation=name)).run(SEARCH).reason for name in ("namespaces", "limits")}
sys.path.insert(0, sys.argv[1])
import sandbox_isolation
sandbox_isolation.leave_session_keyring()
exec(SEARCH)  # without the filter too
print(json.dumps(found))
"""


def test_the_caller_s_keys_are_out_of_reach():
    command = [sys.executable, "-c", KEYS, str(Path(module.__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    if done.returncode == 77:
        pytest.skip("this kernel keeps no keys")
    assert done.returncode == 0 and json.loads(done.stdout) == {"namespaces": "", "limits": ""}, done.stderr


MOUNTED = """
import subprocess, sys
from mindcoder.evaluate import sandbox
folder = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder + "/below it"], check=True)
open(folder + "/below it/there", "w").write("x")
seen = sandbox.visible_folders() + [folder]
sandbox.visible_folders = lambda: seen
program = f'''
assert open({folder!r} + "/below it/there").read() == "x"
for place in ("/x", "/below it/x", "/below it/there"):
    try: open({folder!r} + place, "a")
    except OSError: continue
    assert False, place
'''
outcome = sandbox.Sandbox(sandbox.SandboxOptions()).run(program)
assert outcome.passed, outcome.reason
"""


def test_mounts_below_a_visible_folder_are_read_only(tmp_path):
    """In a namespace where one may mount: a file system of its own below a folder that the program sees."""
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", MOUNTED, str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run([*command[:4], "true"], check=False).returncode != 0:
        pytest.skip("no unshare here")
    (tmp_path / "below it").mkdir()
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_interpreter_behind_a_link_is_found(monkeypatch, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "link"))
    assert {str(tmp_path / "link"), str(tmp_path / "real")} <= set(visible_folders())
    monkeypatch.setattr(sys, "prefix", "/library/python")
    assert "/library/python" in visible_folders()


def test_where_root_is_somebody_else_s_the_process_limit_holds():
    """As the only user of a user namespace there is nobody to become: the kernel's limit does not hold for the real
    root behind it, and the watcher counts."""
    program = HELD["more processes"]
    script = "import sys\nfrom mindcoder.evaluate.sandbox import *\nprint(Sandbox(SandboxOptions()).run(sys.argv[1]))"
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", script, program]
    if shutil.which("unshare") is None or subprocess.run([*command[:3], "true"], check=False).returncode != 0:
        pytest.skip("no unshare here")
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    held = ("Outcome(passed=True", "more than 32 processes and threads")
    assert any(words in done.stdout for words in held), done.stdout + done.stderr


LEFT = """
import os
os.mkdir("locked"); open("locked/file", "w").close(); os.chmod("locked", 0)
for _ in range(1050):
    os.mkdir("deep"); os.chdir("deep")
"""


def test_what_a_program_leaves_in_its_folder_goes(monkeypatch, tmp_path):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    assert run(LEFT, isolation="limits").passed
    assert list(tmp_path.iterdir()) == []


def test_the_other_programs_are_judged_as_if_alone():
    programs = [
        "assert True",
        FAIL["kill its group"],
        "x = 1",
        FAIL["output to its pipe without end"],
        "y = 2",
        "1 / 0",
    ]
    outcomes = list(Sandbox(SandboxOptions(memory_bytes=SMALL)).run_all(programs, workers=3))
    assert [outcome.passed for outcome in outcomes] == [True, False, True, False, True, False]


FORBIDDEN = """
import ctypes, sys
from mindcoder.errors import UserError
from mindcoder.evaluate.sandbox import Sandbox, SandboxOptions
sys.path.insert(0, sys.argv[1])
import sandbox_filter
sandbox_filter.install(ctypes.CDLL(None, use_errno=True))  # a container whose filter forbids new namespaces
try:
    Sandbox(SandboxOptions()).check()
except UserError as error:
    print(error)
limited = Sandbox(SandboxOptions(isolation="limits"))
limited.check()
print(limited.run("1 / 0").reason)
"""


def test_where_namespaces_are_forbidden_nothing_runs_but_by_limits():
    command = [sys.executable, "-c", FORBIDDEN, str(Path(module.__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    refused, limited = done.stdout.splitlines()
    assert "unshare: Operation not permitted" in refused and "--sandbox limits runs" in refused, done.stderr
    assert limited == "ZeroDivisionError: division by zero"


TREE = """
import json, os, subprocess, sys, threading, time
sys.path.insert(0, sys.argv[1])
import sandbox_watch
tree = sandbox_watch.Tree()
tree.become_reaper()
# a child with a second thread, and an orphan of another child
script = "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); print(1, flush=True)"
with_thread = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
with_thread.stdout.readline()
orphan = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!"], stdout=subprocess.PIPE, text=True)
expected = {str(with_thread.pid), orphan.stdout.readline().strip()}
orphan.wait()
for look in (tree._by_children, tree._by_parents):
    found, threads = look()
    assert set(found) == expected and threads == 3, (look, found, expected, threads)
held = tree.memory(found, 0)
assert 2**20 < held < 2**29, held
assert tree.memory(found, 2**40) > held  # what is reserved is enough to know
assert tree.kill(30) and not [one for one in tree.processes()[0] if not tree._is_dead(one)]
"""


def test_descendants_are_found_and_ended_whatever_the_kernel_offers():
    command = [sys.executable, "-c", TREE, str(Path(module.__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    assert done.returncode == 0, done.stderr


SECRET = """
import builtins, hashlib, os, sys
sys.path.insert(0, sys.argv[1])
import sandbox_child
reader, writer = os.pipe()
reader = os.dup2(reader, 10)  # 3 may be its number
os.dup2(writer, 3)
source = '''
import gc, hashlib, sys
seen, waiting, frame = set(), [list(sys.modules.values())], sys._getframe()
while frame:
    waiting += [frame, dict(frame.f_locals), frame.f_globals]
    frame = frame.f_back
gc.unfreeze()
waiting += gc.get_objects()
while waiting:
    item = waiting.pop()
    if id(item) in seen: continue
    seen.add(id(item))
    if type(item) is bytes and len(item) == 16: assert hashlib.sha256(item).hexdigest() != DIGEST
    waiting += gc.get_referents(item)
'''
def draw(count):
    drawn = open("/dev/urandom", "rb").read(count)
    builtins.DIGEST = hashlib.sha256(drawn).hexdigest()
    return drawn
sandbox_child.os = type(os)("os")
sandbox_child.os.urandom, sandbox_child.os.write = draw, os.write
sandbox_child.prove(source)
said = os.read(reader, 4096)
print(said[:1], said[17:33] == said[1:17], said[33:])
"""


def test_the_secret_is_on_no_object_that_python_can_reach():
    command = [sys.executable, "-c", SECRET, str(Path(module.__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    assert done.stdout == "b'H' True b'P'\n", done.stdout + done.stderr
