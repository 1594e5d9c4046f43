"""Namespaces, mounts and identity of a program in the sandbox: standard library only, run in the child.

The first process enters namespaces of its own; its child is process 1 there and builds a root with what Python needs.
The program runs in a child of that one, without capabilities, as a user that does not exist outside.
"""

import ctypes
import os
import random
import struct

NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000  # user mnt pid net ipc uts
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
# statvfs flags and mount flags that a user namespace must not drop from a mount
LOCKED = (
    (os.ST_NODEV, 4),
    (os.ST_NOEXEC, 8),
    (os.ST_NOATIME, 1024),
    (os.ST_NODIRATIME, 2048),
    (os.ST_RELATIME, 1 << 21),
)
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP, PR_CAP_AMBIENT = 1, 4, 8, 24, 47
CAP_DAC_READ_SEARCH, AMBIENT_RAISE = 2, 2
CAPSET, KEYCTL = {"x86_64": 126, "aarch64": 91}, {"x86_64": 250, "aarch64": 219}
JOIN_SESSION_KEYRING = 1
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
INSIDE = 1000  # user id inside if the caller is not root
libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    """A function of libc that returns 0 on success.

    Raises:
        OSError: it fails.
    """
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def write(path, text):
    """Write text to a file."""
    with open(path, "w") as stream:
        stream.write(text)


def leave_session_keyring():
    """Join a new, empty session keyring, so that the caller's keys are out of reach. Kernels without keys have none."""
    number = KEYCTL.get(os.uname().machine)
    if number is not None:
        libc.syscall(number, JOIN_SESSION_KEYRING, None)


def enter_namespaces():
    """Enter all namespaces at once; children are born in the process namespace.

    Returns:
        The user and group for the program; None if the caller's own is mapped to `INSIDE`.
    """
    user, group = os.geteuid(), os.getegid()
    ranges = _ranges("uid"), _ranges("gid")
    spare = _spare(*ranges) if user == 0 else None
    if spare is None:
        call("unshare", NAMESPACES)
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{INSIDE} {user} 1")
        write("/proc/self/gid_map", f"{INSIDE} {group} 1")
        return None
    # Only a process outside may map more than one user: a helper stays there and does it.
    asked, answered = os.pipe(), os.pipe()
    process = os.getpid()
    helper = os.fork()
    if helper == 0:
        said = b""
        try:
            os.close(asked[1])
            if os.read(asked[0], 1):
                for kind, found in zip(("uid", "gid"), ranges):
                    write(f"/proc/{process}/{kind}_map", "".join(f"{first} {first} {size}\n" for first, size in found))
        except BaseException as error:
            said = str(error).encode()[:300]
        os.write(answered[1], said or b".")
        os._exit(0)
    os.close(asked[0])
    os.close(answered[1])
    try:
        call("unshare", NAMESPACES)
        os.write(asked[1], b"!")
    finally:
        os.close(asked[1])
        os.waitpid(helper, 0)
    said = os.read(answered[0], 300)
    os.close(answered[0])
    if said != b".":
        raise OSError(f"users cannot be mapped: {said.decode(errors='replace')}")
    return spare


def _ranges(kind):
    """The ids that exist here, as (first, count)."""
    with open(f"/proc/self/{kind}_map") as stream:
        lines = [line.split() for line in stream]
    return [(int(first), int(size)) for first, _, size in lines]


def _spare(users, groups):
    """An unused id, a new one per call (older kernels count processes by user); None if there is none."""
    first, size = max(users, key=lambda item: item[1])
    choices = 1 << 20 if size > 1 << 31 else min(size // 2, 4096)
    if choices < 1:
        return None
    top = 2_000_000_000 if size > 1 << 31 else first + size
    chosen = top - 1 - random.SystemRandom().randrange(choices)
    return chosen if any(start <= chosen < start + count for start, count in groups) else None


def mount(source, target, kind, flags, data=None):
    """mount(2)."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    call("mount", encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])


def close_in(root, visible, disk_bytes):
    """Switch to a read-only root with only what Python needs; /tmp and /dev/shm are in a tmpfs of ``disk_bytes``."""
    os.umask(0o022)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, f"size={disk_bytes},nr_inodes=4096,mode=755")
    for path in ("/tmp", "/dev/shm"):
        os.makedirs(root + path)
        mount(root + path, root + path, None, MS_BIND)  # a mount of its own, so that the rest can be read-only
        os.chmod(root + path, 0o1777)
    for path in visible:
        inside = root + path
        if os.path.islink(path):
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            os.symlink(os.readlink(path), inside)
            continue
        os.makedirs(inside, exist_ok=True)
        mount(path, inside, None, MS_BIND | MS_REC)
        for point in _mounts_under(inside):
            _make_read_only(point)
    for path in DEVICES:
        write(root + path, "")
        mount(path, root + path, None, MS_BIND)
    mount(None, root, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    os.chroot(root)
    os.chdir("/tmp")


def _mounts_under(folder):
    """The mount at the folder and all below it: a read-only flag applies to one mount only."""
    with open("/proc/self/mountinfo", "rb") as stream:
        points = [os.fsdecode(_unescaped(line.split(b" ")[4])) for line in stream]
    found = [point for point in dict.fromkeys(points) if point == folder or point.startswith(f"{folder}/")]
    if folder not in found:
        raise OSError(f"the mount at {folder} is not found, so it cannot be made read-only")
    return found


def _unescaped(text):
    for code, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        text = text.replace(code, character)
    return text


def _make_read_only(point):
    flags = os.statvfs(point).f_flag
    kept = sum(bit for name, bit in LOCKED if flags & name)
    mount(None, point, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | kept)


def needs_to_search(visible):
    """Whether a folder is accessible to its owner only: a Python of root's, run by a program that is no longer root."""
    return any(os.stat(path).st_mode & 0o5 != 0o5 for path in visible)


def drop_privileges(spare, searching):
    """Drop all capabilities, now and for any program that is executed; no longer root if the caller is.

    Args:
        spare: the user to become; None: no change.
        searching: keep the one capability to read what is visible.
    """
    kept = {CAP_DAC_READ_SEARCH} if searching and spare is not None else set()
    capability = 0
    while capability in kept or libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) == 0:
        capability += 1
    if spare is not None:
        call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(spare, spare, spare)
        os.setresuid(spare, spare, spare)
    # effective, permitted and inheritable, first the lower 32 capabilities, then the upper
    bits = sum(1 << number for number in kept)
    header, sets = struct.pack("II", 0x20080522, 0), struct.pack("6I", bits, bits, bits, 0, 0, 0)
    if libc.syscall(CAPSET[os.uname().machine], header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    for number in kept:
        call("prctl", PR_CAP_AMBIENT, AMBIENT_RAISE, ctypes.c_ulong(number), 0, 0)
