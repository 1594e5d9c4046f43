"""Runs one untrusted program: started by `mindcoder.evaluate.sandbox` as a process of its own, standard library only.

Reads a JSON object from stdin and writes one to stdout. The first process enters namespaces of its own (user, mount,
process, network, IPC, host name) and forks; its child, process 1 of the new process namespace, closes itself in, runs
the program, and says that it reached the end by a secret that the program is not told. When process 1 ends the kernel
kills whatever it started.
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys

CLONE_FLAGS = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000  # user mnt pid net ipc uts
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CAPSET = {"x86_64": 126, "aarch64": 91}
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
INSIDE = 1000  # the user's number in there
libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, kind, flags, data=None):
    encoded = [None if text is None else text.encode() for text in (source, target, kind, data)]
    call("mount", encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])


def write(path, text):
    with open(path, "w") as stream:
        stream.write(text)


def enter_namespaces():
    user, group = os.geteuid(), os.getegid()
    call("unshare", CLONE_FLAGS)
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{INSIDE} {user} 1")
    write("/proc/self/gid_map", f"{INSIDE} {group} 1")


def close_in(root, visible, disk_bytes):
    """A root of nothing but what Python needs, read-only, and an empty /tmp in memory."""
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, f"size={disk_bytes},nr_inodes=4096,mode=755")
    for path in visible:
        inside = root + path
        if os.path.islink(path):
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            os.symlink(os.readlink(path), inside)
            continue
        os.makedirs(inside, exist_ok=True)
        mount(path, inside, None, MS_BIND | MS_REC)
        mount(None, inside, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | locked_flags(path))
    os.makedirs(root + "/dev", exist_ok=True)
    for path in DEVICES:
        write(root + path, "")
        mount(path, root + path, None, MS_BIND)
    os.makedirs(root + "/tmp", exist_ok=True)  # there already where Python itself lies in it
    os.chroot(root)
    os.chdir("/tmp")


def locked_flags(path):
    """Flags of a mount that a user namespace must not drop."""
    flags, known = os.statvfs(path).f_flag, ((os.ST_NODEV, 4), (os.ST_NOEXEC, 8), (os.ST_NOATIME, 1024))
    return sum(bit for name, bit in (*known, (os.ST_NODIRATIME, 2048), (os.ST_RELATIME, 1 << 21)) if flags & name)


def drop_privileges():
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header, nothing = struct.pack("II", 0x20080522, 0), bytes(24)
    if libc.syscall(CAPSET[os.uname().machine], header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def limit(limits):
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))


def run(program):
    """None when the program reached its end, else what stopped it."""
    try:
        exec(compile(program, "program.py", "exec"), {})  # as all harnesses: __name__ is no "__main__"
    except BaseException as error:  # SystemExit too: the tests behind it did not run
        try:
            return f"{type(error).__name__}: {error}"[:300]
        except BaseException:
            return "an exception that cannot be printed"
    return None


def inside(order, verdict):
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if order["namespaces"]:
        close_in(order["root"], order["visible"], order["limits"]["FSIZE"] * 4)
        drop_privileges()
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    limit(order["limits"])
    stopped = run(order["program"])
    answer = {"secret": order["secret"]} if stopped is None else {"error": stopped}
    os.write(verdict, json.dumps(answer).encode())
    os._exit(0)


def main():
    order = json.loads(sys.stdin.read())
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if order["namespaces"]:
        enter_namespaces()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            inside(order, writer)
        except BaseException as error:
            os.write(writer, json.dumps({"broken": str(error)}).encode())
        os._exit(1)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    answer = os.read(reader, 65536).decode() if order["namespaces"] else read_now(reader)
    if not answer:
        code = os.waitstatus_to_exitcode(status)
        answer = json.dumps({"error": f"signal {-code}" if code < 0 else f"ended with exit code {code}"})
    sys.stdout.write(answer)


def read_now(reader):
    """What is in the pipe: without a process namespace something may still hold its other end."""
    os.set_blocking(reader, False)
    try:
        return os.read(reader, 65536).decode()
    except BlockingIOError:
        return ""


if __name__ == "__main__":
    main()
