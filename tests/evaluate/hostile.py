"""Programs that attack the sandbox.

`FAIL` and `FORGED` must not pass, `SLOW` never end, `WATCHER` attack the process that watches them without namespaces;
`HELD` assert that the attack is refused, and must pass.
"""

from __future__ import annotations

_LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
_CHILD = "import os, sys, time\nif os.fork() == 0:\n"

FAIL = {
    # ends too early
    "os._exit in a thread": (
        "import os, threading, time\nthreading.Thread(target=os._exit, args=(0,)).start()\ntime.sleep(9)"
    ),
    "abort": "import os; os.abort()",
    "kill itself": "import os; os.kill(os.getpid(), 9)",
    "kill its group": "import os; os.kill(0, 9)",
    "another program in its place": "import os; os.execv('/bin/true', ['true'])",
    "exit in a deep call": "def f(n):\n    f(n - 1) if n else exit(0)\nf(99)",
    "exit while it cleans up": "class A:\n    def __del__(self): import os; os._exit(0)\na = A()\ndel a",
    "exception that cannot be printed": "class E(Exception):\n    def __str__(self): raise SystemExit(0)\nraise E",
    "exception without a name": (
        "class M(type):\n    __name__ = property(lambda self: '')\n"
        "class E(BaseException, metaclass=M):\n    def __str__(self): return ''\nraise E"
    ),
    # says that it passed
    "words to every pipe": (
        "import os\nfor fd in range(64):\n    for said in (b'P', b'H' + bytes(16), b'{\"passed\": true}'):\n"
        "        try: os.write(fd, said)\n        except OSError: pass\nos._exit(0)"
    ),
    "secret in frames and objects": (
        "import gc, os, sys\nframe, found = sys._getframe(), []\n"
        "while frame:\n    found += list(frame.f_locals.values()) + list(frame.f_globals.values())\n"
        "    found += gc.get_referents(frame)\n    frame = frame.f_back\n"
        "gc.unfreeze()\nfor item in gc.get_objects(): found += gc.get_referents(item)\n"
        "for item in found:\n    if type(item) is bytes and len(item) == 16: os.write(3, item + b'P')\nos._exit(0)"
    ),
    "the writing function replaced": (
        "import os\nreal = os.write\nos.write = lambda fd, data: real(fd, data[:16] + b'P')\nassert False"
    ),
    "the catching class replaced": "import builtins\nbuiltins.BaseException = KeyError\nassert False",
    "names that the runner uses": (
        "import builtins, sys\nfor module in list(sys.modules.values()):\n"
        "    for name in ('run', 'play', 'begin', 'verdict_of'):\n"
        "        if hasattr(module, name): setattr(module, name, lambda *given: b'P')\n"
        "builtins.type = builtins.str = lambda *given: b''\nassert False"
    ),
    "functions below it replaced": (
        "import sys\nframe = sys._getframe()\nwhile frame:\n"
        "    for name in ('run', 'begin', 'play'):\n"
        "        if name in frame.f_globals: frame.f_globals[name] = lambda *given: b'P'\n"
        "    frame = frame.f_back\nassert False"
    ),
    "a jump in the frame below": (
        "import sys\nhere = sys._getframe().f_back\n"
        "def jump(frame, event, arg):\n    here.f_lineno = here.f_lineno + 6\n    return jump\n"
        "here.f_trace = jump\nsys.settrace(jump)\nassert False"
    ),
    "a child says it": _CHILD + "    os.write(3, b'P')\n    os._exit(0)\nos.wait()\nos._exit(0)",
    # takes too much
    "output to its pipe without end": "import os\nwhile True: os.write(3, b'x' * 65536)",
    "many brackets": "x = " + "(" * 100_000 + ")" * 100_000,
    "a long string": "x = 'x' * 2**29",
    "/dev/shm": "for i in range(20): open(f'/dev/shm/{i}', 'wb').write(bytes(8 * 2**20))",
    "a sparse file": "import os\nos.truncate(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 2**40)",
    "memory of several processes": (
        _CHILD.replace("if", "for _ in range(5):\n  if")
        + "    held = bytearray(b'x') * (90 * 2**20)\n    time.sleep(60)\ntime.sleep(60)"
    ),
    "shared memory that no process touches": (
        "import mmap, os, time\nfor _ in range(5):\n  if os.fork() == 0:\n"
        "    held = mmap.mmap(-1, 90 * 2**20)\n    held[:] = bytes(1) * len(held)\n"
        "    if os.fork() == 0: time.sleep(60)\n    held.close()\n    time.sleep(60)\ntime.sleep(60)"
    ),
    "shared memory of processes that hide": (
        "import ctypes, mmap, os, time\nfor _ in range(5):\n  if os.fork() == 0:\n"
        "    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n    held = mmap.mmap(-1, 90 * 2**20)\n"
        "    held[:] = bytes(1) * len(held)\n    if os.fork() == 0: time.sleep(60)\n"
        "    held.close()\n    time.sleep(60)\ntime.sleep(60)"
    ),
    "shared memory among many mappings": (
        "import ctypes, mmap, os, time\nlibc = ctypes.CDLL(None)\nlibc.mmap.restype = ctypes.c_void_p\n"
        "for _ in range(5):\n  if os.fork() == 0:\n"
        "    for index in range(30_000): libc.mmap(None, 4096, 1 + index % 2 * 2, 34, -1, 0)\n"
        "    held = mmap.mmap(-1, 60 * 2**20)\n    held[:] = bytes(1) * len(held)\n    time.sleep(60)\ntime.sleep(60)"
    ),
    # not text that can run
    "zero byte": "x = '\0'",
    "half a character": "x = '\ud800'",
    "nothing but an indent": "    x = 1",
}

SLOW = {
    "packed zeros": (
        "import zlib\nwriter = zlib.compressobj()\n"
        "packed = b''.join(writer.compress(bytes(2**20)) for _ in range(1024)) + writer.flush()\n"
        "zlib.decompress(packed)"
    ),
    "stack": "import sys\nsys.setrecursionlimit(10**9)\nf = lambda: f()\nf()",
    "output without end": "while True: print('x' * 10**6)",
    "deaf to signals": (
        "import signal, time\nfor number in set(signal.Signals) - {9, 19}:\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "while True: time.sleep(1)"
    ),
    "exceptions swallowed": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "one long operation": "10 ** 10 ** 9",
    "a stopped child": _CHILD + "    os.kill(os.getpid(), 19)\nos.waitpid(-1, 0)",
    "its limits changed": (
        "import resource\nfor name in ('CPU', 'AS', 'NPROC'):\n"
        "    number = getattr(resource, 'RLIMIT_' + name)\n"
        "    try: resource.setrlimit(number, (-1, -1))\n    except (OSError, ValueError): pass\nwhile True: pass"
    ),
}

HELD = {
    "kill the first process": (
        "import os\nfor process, number in ((1, 9), (1, 15), (1, 2), (1, 19), (1, 10), (os.getppid(), 9), (-1, 9)):\n"
        "    try: os.kill(process, number)\n    except (PermissionError, ProcessLookupError): pass"
    ),
    "ptrace": _LIBC + "assert libc.ptrace(16, os.getppid(), 0, 0) == -1\nassert libc.ptrace(0, 0, 0, 0) == -1",
    "another process's memory": _LIBC + "assert libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0) == -1",
    "new namespaces": _LIBC + "assert libc.unshare(0x10000000) == libc.unshare(0x20000) == -1",
    "new namespaces by clone": (
        _LIBC + "import platform\nnumber = {'x86_64': 56, 'aarch64': 220}[platform.machine()]\n"
        "assert libc.syscall(number, 0x10000000 | 17, 0, 0, 0, 0) == -1"
    ),
    "other mounts": (
        _LIBC + "assert libc.mount(b'x', b'/tmp', b'tmpfs', 0, None) == -1\nassert libc.umount2(b'/tmp', 2) == -1\n"
        "assert libc.mount(None, b'/', None, 32 | 4096, None) == -1"
    ),
    "another root": "import os\ntry: os.chroot('/tmp')\nexcept OSError: pass\nelse: assert False",
    "become root": (
        "import os\nassert os.getuid() and os.geteuid() and os.getgid()\nfor name in ('setuid', 'setgid'):\n"
        "    try: getattr(os, name)(0)\n    except OSError: pass\n    else: assert False"
    ),
    "the caller's groups": "import os\nassert 0 not in os.getgroups()",
    "proc": "import os\nassert not os.path.exists('/proc') and not os.path.exists('/sys')",
    "raised limits": (
        "import resource\nfor name in ('CPU', 'AS', 'NPROC', 'NOFILE', 'FSIZE'):\n"
        "    number = getattr(resource, 'RLIMIT_' + name)\n    _, hard = resource.getrlimit(number)\n"
        "    assert hard > 0\n    try: resource.setrlimit(number, (hard, hard + 1))\n"
        "    except (OSError, ValueError): pass\n    else: assert False"
    ),
    "another process's limits": (
        "import os, resource\ntry: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0))\n"
        "except PermissionError: pass\nelse: assert False"
    ),
    "sockets that no namespace covers": (
        "import socket\nfor family in (16, 17, 31, 38, 40):\n    for kind in (1, 2, 3, 5):\n"
        "        try: socket.socket(family, kind)\n        except OSError: pass\n        else: assert False, family\n"
        "a, b = socket.socketpair()\na.send(b'x')\nassert b.recv(1) == b'x'"
    ),
    "network": (
        "import socket\nfor place in (('1.1.1.1', 53), ('127.0.0.1', 22), ('169.254.169.254', 80)):\n"
        "    try: socket.create_connection(place, 1)\n    except OSError: pass\n    else: assert False"
    ),
    "keys": (
        _LIBC + "import platform\nkeyctl, add, request = {'x86_64': (250, 248, 249), 'aarch64': (219, 217, 218)}"
        "[platform.machine()]\nfor keyring in range(-8, 0): assert libc.syscall(keyctl, 11, keyring, None, 0) == -1\n"
        "assert libc.syscall(add, b'user', b'x', b'y', 1, -2) == libc.syscall(request, b'user', b'x', None, 0) == -1"
    ),
    "memory that nobody is charged for": (
        _LIBC + "assert not hasattr(libc, 'memfd_create') or libc.memfd_create(b'x', 0) == -1\n"
        "assert libc.shmget(1, 4096, 0o1600) == -1"
    ),
    "files of others": (
        "import os\nfor fd in range(4, 1024):\n    try: os.fstat(fd)\n    except OSError: pass\n"
        "    else: assert False\n"
        "assert os.stat('/dev/null').st_rdev == os.fstat(0).st_rdev == os.fstat(1).st_rdev == os.fstat(2).st_rdev"
    ),
    "environment": (
        "import os\nassert set(os.environ) <= {'PATH', 'LANG', 'HOME', 'OMP_NUM_THREADS', 'LC_CTYPE'}, os.environ"
    ),
    "more processes": (
        "import os, time\ncount = 0\ntry:\n    while count < 500:\n"
        "        if os.fork() == 0: time.sleep(60)\n        count += 1\n"
        "except BlockingIOError: pass\nassert 4 < count < 40, count"
    ),
    "write outside /tmp": (
        "import os, sys\nfor place in ('/', '/usr', '/usr/lib', '/dev', '/etc', sys.prefix, sys.base_prefix):\n"
        "    try: open(os.path.join(place, 'x'), 'w')\n    except OSError: continue\n    assert False, place"
    ),
    "ordinary work": (
        "import json, multiprocessing, os, subprocess, sys, tempfile, threading\n"
        "assert subprocess.run([sys.executable, '-c', 'print(6 * 7)'], capture_output=True).stdout == b'42\\n'\n"
        "thread = threading.Thread(target=print)\nthread.start()\nthread.join()\n"
        "with tempfile.NamedTemporaryFile() as file: file.write(b'x' * 2**20)\n"
        "queue = multiprocessing.get_context('fork').SimpleQueue()\nqueue.put(7)\nassert queue.get() == 7\n"
        "assert __name__ != '__main__'"
    ),
}

# Lines left out, in frames of the sandbox or in the program's own: each ends with a test that fails.
_BELOW = (
    "import dis, sys\n"
    "def last(code): return max(line for _, line in dis.findlinestarts(code) if line)\n"
    "def jump(frame, event, arg):\n"
    "    try: frame.f_lineno = last(frame.f_code)\n    except Exception: pass\n"
    "    return jump\n"
    "def below(trace, frame):\n"
    "    while frame:\n"
    "        try: frame.f_trace = jump\n        except AttributeError: pass\n"
    "        frame = frame.f_back\n"
    "    try: trace(lambda *given: None)\n    except Exception: pass\n"
)
_NEW_SYS = (
    "import _imp, importlib.machinery\n"
    "new = _imp.create_builtin(importlib.machinery.ModuleSpec('sys', importlib.machinery.BuiltinImporter))\n"
)
_TEST = "\nif True:\n    assert False, 'the tests'\nlast_line = 0"
_GENERATOR = "def made(): yield\nmaker = made()\nnext(maker)\n"
_GUARD = (
    "import gc, types\n"
    "for item in gc.get_objects():\n"
    "    if type(item) is types.FunctionType and item.__module__ == 'sandbox_guard':\n"
    "        for name, value in (('__code__', (lambda *given: None).__code__), ('__defaults__', (1, 2)),\n"
    "                            ('__kwdefaults__', {'event': 1})):\n"
    "            try: setattr(item, name, value)\n            except Exception: pass\n"
    "        item.__globals__.clear()\n"
)

FORGED = {
    "sys imported again": _BELOW + "del sys.modules['sys']\nimport sys as new\nbelow(new.settrace, sys._getframe())",
    "sys made again": _BELOW + _NEW_SYS + "below(new.settrace, sys._getframe())",
    "sys made again, ended early": _BELOW + _NEW_SYS + "below(new.settrace, sys._getframe())\nraise SystemExit(0)",
    "sys made again, ended by a generator": (
        _BELOW + _NEW_SYS + "below(new.settrace, sys._getframe())\nraise StopIteration(b'P')"
    ),
    "sys reloaded": _BELOW + "import importlib\nnew = importlib.reload(sys)\nbelow(new.settrace, sys._getframe())",
    "sys by its loader": (
        _BELOW + "new = sys.__spec__.loader.create_module(sys.__spec__)\nbelow(new.settrace, sys._getframe())"
    ),
    "all functions named settrace": (
        _BELOW + _NEW_SYS + "import gc, types\nfor item in gc.get_objects():\n"
        "    if type(item) is types.BuiltinFunctionType and item.__name__ in ('settrace', 'setprofile'):\n"
        "        below(item, sys._getframe())"
    ),
    "setprofile": _BELOW + _NEW_SYS + "below(new.setprofile, sys._getframe())",
    "a profiler that jumps": _BELOW + _NEW_SYS + "new.setprofile(jump)\nbelow(print, sys._getframe())\nabs(1)",
    "the debugger": (
        _BELOW + _NEW_SYS + "sys.settrace = new.settrace\nimport bdb\ndebugger = bdb.Bdb()\n"
        "debugger.user_line = lambda frame: jump(frame, 'line', None)\n"
        "try: debugger.set_trace()\nexcept Exception: pass"
    ),
    "trace of threads": (
        _BELOW + _NEW_SYS + "import threading\nsys.settrace = new.settrace\nthreading.settrace(jump)\n"
        "main = sys._getframe()\nthread = threading.Thread(target=lambda: below(new.settrace, main))\n"
        "thread.start()\nthread.join()"
    ),
    "frames of all threads": _BELOW + "for frame in sys._current_frames().values(): below(print, frame)",
    "the guard's functions replaced": _BELOW + _GUARD + _NEW_SYS + "below(new.settrace, sys._getframe())",
    "another audit hook": (
        _BELOW + _NEW_SYS + "sys.addaudithook(lambda *given: None)\nbelow(new.settrace, sys._getframe())"
    ),
    "the members of frames": (
        _BELOW + "import gc, types\nmembers = gc.get_referents(types.FrameType.__dict__)[0]\n"
        "frame = sys._getframe()\ntry: members['f_trace'].__set__(frame, jump)\nexcept KeyError: pass\n"
        "try: members['f_lineno'].__set__(frame, last(frame.f_code))\nexcept Exception: pass"
    ),
    "a jump without a tracer": (
        "import sys\nframe = sys._getframe()\ntry:\n    frame.f_trace = print\nexcept AttributeError: pass\n"
        "try:\n    frame.f_lineno = 10\nexcept Exception: pass"
    ),
    "a jump in the frame of a test": (
        "import sys\ndef solve():\n    frame = sys._getframe().f_back\n    try:\n        frame.f_trace = print\n"
        "        frame.f_lineno = frame.f_lineno + 2\n    except Exception: pass\n"
        "def check():\n    solve()\n    assert False\n    return 1\ncheck()"
    ),
    "a frame of a traceback": (
        _BELOW + "try: 1 / 0\nexcept ZeroDivisionError as error: frame = error.__traceback__.tb_frame\n"
        "below(print, frame)\ntry: frame.f_lineno = last(frame.f_code)\nexcept Exception: pass"
    ),
    "a frame of a generator": (
        _BELOW + _GENERATOR + "below(print, maker.gi_frame)\n"
        "def inner():\n    below(print, maker.gi_frame.f_back)\n    yield\nmaker = inner()\n"
        "next(maker, None)"
    ),
    "a handler of signals": (
        _BELOW + _NEW_SYS + "import signal\n"
        "signal.signal(signal.SIGALRM, lambda number, frame: below(new.settrace, frame))\n"
        "signal.raise_signal(signal.SIGALRM)"
    ),
    "while it cleans up": (
        _BELOW + _NEW_SYS + "class A:\n    def __del__(self): below(new.settrace, sys._getframe())\nkept = [A()]\n"
        "kept.append(kept)\ndel kept\nimport gc\n"
        "gc.callbacks.append(lambda *given: below(new.settrace, sys._getframe()))\n"
        "gc.collect()"
    ),
    "hooks of exceptions": (
        _BELOW + _NEW_SYS + "import atexit, threading\n"
        "sys.excepthook = sys.unraisablehook = threading.excepthook = lambda *given: below(new.settrace, given[0])\n"
        "atexit.register(lambda: below(new.settrace, sys._getframe()))"
    ),
    "an exception whose text is asked for": (
        _BELOW + _NEW_SYS + "class E(BaseException):\n    def __str__(self):\n"
        "        below(new.settrace, sys._getframe())\n        return 'P'\nraise E"
    ),
    "an encoding of its own": (
        _BELOW + _NEW_SYS + "import codecs\ncodecs.register_error('replace', lambda error: (\n"
        "    below(new.settrace, sys._getframe()), ('P', error.end))[1])\nraise ValueError('\\ud800')"
    ),
    "the exit taken away": (
        _BELOW + _NEW_SYS + "import os\nreal = os.write\nos._exit = lambda code: None\n"
        "os.write = lambda fd, data: [real(number, b'{\"passed\": true}') for number in range(8)]\n"
        "below(new.settrace, sys._getframe())"
    ),
    "the caller's locals": (
        "import sys\nframe = sys._getframe()\nwhile frame:\n"
        "    for name in list(frame.f_locals):\n"
        "        try: frame.f_locals[name] = b'P'\n        except Exception: pass\n"
        "    try: frame.clear()\n    except RuntimeError: pass\n    frame = frame.f_back"
    ),
    "a subinterpreter": (
        "try:\n    import _xxsubinterpreters as other\n    number = other.create()\n"
        "    other.run_string(number, 'import sys; sys.settrace(lambda *given: None)')\nexcept Exception: pass"
    ),
}  # fmt: skip
FORGED = {case: program + _TEST for case, program in FORGED.items()}

WATCHER = {
    "stopped": "import os, signal, time\nos.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(60)",
    "stopped, at the end": "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)",
    "stopped by a child": (
        "import os, time\nparent = os.getppid()\nif os.fork() == 0:\n    os.kill(parent, 19)\ntime.sleep(60)"
    ),
    "stopped and continued": (
        "import os, time\nparent, end = os.getppid(), time.monotonic() + 20\n"
        "while time.monotonic() < end:\n    os.kill(parent, 19)\n    os.kill(parent, 18)"
    ),
    "killed": "import os\nos.kill(os.getppid(), 9)",
}
