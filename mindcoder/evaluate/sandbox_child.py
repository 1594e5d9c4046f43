"""Runs one untrusted program: started by `mindcoder.evaluate.sandbox` as a separate process, standard library only.

Reads a JSON object from stdin and writes one to stdout::

    this process            enters namespaces of its own and waits
      watcher, process 1    builds the root, limits time, memory and processes, reads what the program reports
        program             confined: another session, no file but one pipe, no capability, few system calls

With isolation ``limits`` there are no namespaces, and this process is the watcher. When the watcher exits the kernel
kills whatever the program started. A line break on stdout before the answer says that the program's time has begun.

"Passed" is a secret drawn for this one program. While the program runs, the secret is an unnamed operand of the
expression that calls it (`prove`): it reaches the pipe only if the call returns. An exception, an early exit or a
jump drops it, and no frame can report "passed" without it. `sandbox_guard` disables the line jumps of debuggers, so
that the program cannot skip its own tests either.

What this does not prevent: as in every harness that runs tests in the program's own interpreter, a program can change
what a test means (objects equal to everything, replaced builtins). Native code, ``ctypes``, hand-made bytecode and,
with ``limits``, ``/proc/self/mem`` can search the process's memory for the secret.
"""

import json
import os
import resource
import select
import signal
import sys
import time
import types

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sandbox_filter  # noqa: E402
import sandbox_guard  # noqa: E402
import sandbox_isolation as isolation  # noqa: E402
import sandbox_watch  # noqa: E402

del sys.path[0]

SECRET_BYTES, LONGEST = 16, 4096
SETUP_SECONDS = 30.0  # for everything before the program's first line, on a busy machine
FIRST_POLL, LAST_POLL = 0.01, 0.05  # polling interval for memory and processes, in seconds
KILL_SECONDS = 5.0
BEGUN = b"\n"  # the program's time starts here; not part of the JSON that follows


def main():
    order = json.loads(sys.stdin.buffer.read())
    isolation.call("prctl", isolation.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    isolation.leave_session_keyring()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if order["cgroup"]:
            isolation.write(os.path.join(order["cgroup"], "cgroup.procs"), "0")
        if order["namespaces"]:
            enter(order)
        else:
            answer(watched(order, None))
    except BaseException as error:
        answer({"broken": f"{type(error).__name__}: {error}"[:300]})


def answer(value):
    """Send the answer to the parent; once."""
    os.write(1, json.dumps(value).encode())
    os._exit(0)


def enter(order):
    """Enter namespaces and start the watcher as their first process."""
    spare = isolation.enter_namespaces()
    isolation.call("prctl", isolation.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user clears it
    watcher = os.fork()
    if watcher == 0:
        try:
            isolation.call("prctl", isolation.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            answer(watched(order, spare))
        except BaseException as error:
            answer({"broken": f"{type(error).__name__}: {error}"[:300]})
        os._exit(1)
    _, status = os.waitpid(watcher, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        answer({"error": f"the sandbox's first process ended with {'signal' if code < 0 else 'code'} {abs(code)}"})


def watched(order, spare):
    """Start the program and supervise it; returns the verdict."""
    tree = sandbox_watch.Tree("/" if order["namespaces"] else None)
    searching = order["namespaces"] and isolation.needs_to_search(order["visible"])
    if order["namespaces"]:
        isolation.close_in(order["root"], order["visible"], order["disk_bytes"])
    else:
        tree.become_reaper()
    reader, writer = os.pipe()
    program = os.fork()
    if program == 0:
        try:
            play(order, spare, searching, writer)
        except BaseException as error:
            os.write(writer, b"B" + f"{type(error).__name__}: {error}"[:300].encode("utf-8", "replace"))
        os._exit(1)
    os.close(writer)
    isolation.call("prctl", isolation.PR_SET_DUMPABLE, 0, 0, 0, 0)
    verdict = watch(order, tree, reader, program)
    if not order["namespaces"] and not tree.kill(KILL_SECONDS):
        verdict = verdict if "broken" in verdict else {"error": "left processes that do not end"}
    return verdict


def watch(order, tree, reader, program):
    """Wait until the program has reported its end, has exited, or must be killed."""
    os.set_blocking(reader, False)
    begun, said, wait, is_open, status = None, b"", FIRST_POLL, True, None
    deadline = time.monotonic() + SETUP_SECONDS
    while True:
        if is_open:
            ready = select.select([reader], [], [], wait)[0]
            if ready:
                part = os.read(reader, LONGEST)
                said, is_open = said + part, bool(part)
        else:
            time.sleep(FIRST_POLL / 2)
        if begun is None and said:
            if said[:1] == b"B":
                return {"broken": said[1:].decode("utf-8", "replace")}
            begun, said = said[1 : 1 + SECRET_BYTES], said[1 + SECRET_BYTES :]
            os.write(1, BEGUN)
            deadline = time.monotonic() + order["seconds"]
        if begun is not None and said:
            return verdict_of(said, begun)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            return {"error": f"signal {-code}" if code < 0 else f"ended with exit code {code}"}
        status = reaped(program)
        if status is not None:
            continue  # its last report is in the pipe
        if time.monotonic() >= deadline:
            return {"timeout": True} if begun is not None else {"broken": f"no start within {SETUP_SECONDS:g} s"}
        found, threads = tree.processes()
        if threads > order["processes"] + 1:  # the kernel enforces the actual limit
            return {"error": f"more than {order['processes']} processes and threads"}
        if tree.memory(found, order["memory_bytes"]) > order["memory_bytes"]:
            return {"error": f"used more than {order['memory_bytes'] / 2**30:g} GiB of memory"}
        wait = min(wait * 2, LAST_POLL)


def verdict_of(said, secret):
    if said == secret + b"P":
        return {"passed": True}
    if said.startswith(b"F"):  # a program gains nothing by sending it
        return {"error": said[1:].decode("utf-8", "replace")}
    return {"error": "wrote to the sandbox's own pipe"}


def reaped(program):
    """The exit status of the program once it has ended; orphans are reaped too."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if process == 0:
            return None
        if process == program:
            return status


def play(order, spare, searching, verdict):
    """Confine this process and run the program in it."""
    os.setsid()
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    if verdict != 3:
        os.dup2(verdict, 3)
    os.closerange(4, 1024)
    for name, value in order["limits"].items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))
    if order["namespaces"]:
        isolation.drop_privileges(spare, searching)
    isolation.call("prctl", isolation.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    isolation.call("prctl", isolation.PR_SET_DUMPABLE, 1, 0, 0, 0)  # lets the watcher read its memory usage
    try:
        sandbox_filter.install(isolation.libc)
    except OSError:
        if order["namespaces"]:
            raise
    signal.signal(signal.SIGINT, signal.default_int_handler)
    source = order.pop("program")
    order.clear()
    sys.modules["__main__"] = types.ModuleType("__main__")
    sandbox_guard.forbid_jumps()
    try:
        prove(source)
    except BaseException as error:  # SystemExit too: the tests after it did not run
        os.write(3, b"F" + described(error))
    os._exit(0)


def prove(source):
    """Run the program; at its end, and only there, write the secret and ``P``.

    One expression without a handler and without variables: `begin` is called first, and its result is on the
    interpreter's stack only. Any other way in which the program ends discards it.
    """
    # As in all harnesses, __name__ is not "__main__".
    os.write(3, begin() + (b"P", exec(compile(source, "program.py", "exec"), {}))[0])


def begin():
    """Draw the secret and send it to the watcher."""
    secret = os.urandom(SECRET_BYTES)
    os.write(3, b"H" + secret)
    return secret


def described(error):
    """What stopped the program, in bytes."""
    try:
        return f"{type(error).__name__}: {error}"[:300].encode("utf-8", "replace")
    except BaseException:
        return b"an exception that cannot be printed"


if __name__ == "__main__":
    main()
