"""Seccomp filter with the system calls that a program in the sandbox is denied; standard library only.

Refused is what a namespace does not cover: other processes' memory, the kernel's keys, new namespaces and mounts,
sockets outside the network namespace (AF_VSOCK, AF_ALG), memory that is not charged to any process (memfd, System V).
"""

import ctypes
import errno
import os
import struct

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
ALLOW, FAIL, KILL = 0x7FFF0000, 0x00050000, 0x80000000
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
X32 = 0x40000000  # x86's other ABI: the same calls under other numbers
NEW_NAMESPACES = 0x7E020000  # CLONE_NEW* flags of clone
FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
# Numbers for x86_64 and aarch64, from Linux' unistd_64.h and asm-generic/unistd.h.
CALLS = {
    "clone": (56, 220),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "prlimit64": (302, 261),
    "clone3": (435, 435),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
}
DENIED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
}


def instructions(machine):
    """The filter as (code, jump if true, jump if false, value), for ``x86_64`` or ``aarch64``."""
    at = list(MACHINES).index(machine)
    load_number = (LOAD, 0, 0, NUMBER)
    load_argument = (LOAD, 0, 0, FIRST_ARGUMENT)
    program = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, MACHINES[machine]), (RETURN, 0, 0, KILL), load_number]
    if machine == "x86_64":
        program += [(AT_LEAST, 0, 1, X32), _fail(errno.ENOSYS)]

    def where(name, *block):
        """Run the block, which begins by loading the first argument, for this call only."""
        program.append((EQUAL, 0, len(block) + 2, CALLS[name][at]))
        program.extend((load_argument, *block, load_number))

    # glibc then falls back to clone, whose flags can be checked
    for name in ("clone3", "memfd_create", "memfd_secret"):
        program += [(EQUAL, 0, 1, CALLS[name][at]), _fail(errno.ENOSYS)]
    for numbers in DENIED.values():
        program += [(EQUAL, 0, 1, numbers[at]), _fail(errno.EPERM)]
    where("clone", (ANY_BIT, 0, 1, NEW_NAMESPACES), _fail(errno.EPERM))
    where("prlimit64", (EQUAL, 1, 0, 0), _fail(errno.EPERM))  # on another process
    for name in ("socket", "socketpair"):
        skips = [(EQUAL, len(FAMILIES) - index, 0, family) for index, family in enumerate(FAMILIES)]
        where(name, *skips, _fail(errno.EAFNOSUPPORT))
    return [*program, (RETURN, 0, 0, ALLOW)]


def _fail(number):
    return (RETURN, 0, 0, FAIL | number)


def install(libc):
    """Install the filter for this process and everything it starts, irrevocably.

    Raises:
        OSError: the kernel does not support seccomp filters, or the architecture is unknown.
    """
    machine = os.uname().machine
    if machine not in MACHINES:
        raise OSError(errno.ENOSYS, f"no system call filter for {machine}")
    program = instructions(machine)
    packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *item) for item in program))

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]

    held = Filter(len(program), ctypes.addressof(packed))
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(held), 0, 0),
    ):
        if libc.prctl(arguments[0], *(ctypes.c_ulong(value) for value in arguments[1:])) != 0:
            raise OSError(ctypes.get_errno(), "seccomp: " + os.strerror(ctypes.get_errno()))
