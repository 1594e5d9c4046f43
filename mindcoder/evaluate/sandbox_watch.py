"""Processes of one program and their memory, as seen by the process that started it: standard library only."""

import ctypes
import os
import signal
import time

PAGE = os.sysconf("SC_PAGE_SIZE")
LONGEST_MAPS = 1 << 20  # bytes of a list of mappings: some 10,000 entries
PR_SET_CHILD_SUBREAPER = 36


class Tree:
    """All descendants of a process, including orphans: it is process 1 of its namespace, or was made their reaper.

    Args:
        disk: tmpfs folder whose contents count; None: there is none.
        process: whose descendants; None: this process's.
    """

    def __init__(self, disk=None, process=None):
        # The proc file system of outside, kept open: inside there is none. Its process ids are its own.
        self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._reaps = process is None
        self._own = os.readlink("self", dir_fd=self._proc) if self._reaps else str(process)
        self._disk = disk

    def become_reaper(self):
        """Become the parent of orphans, if there is no process namespace that does."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)

    def close(self):
        """Close the proc file system."""
        os.close(self._proc)

    def processes(self):
        """Process ids of the descendants, and their total number of threads."""
        try:
            return self._by_children()
        except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
            return self._by_parents()

    def _by_children(self):
        found, threads = [], 0
        waiting = self._children(self._own, self._own)
        while waiting:
            process = waiting.pop()
            found.append(process)
            try:
                tasks = self._list(f"{process}/task")
            except OSError:
                continue  # it has exited
            threads += len(tasks)
            for task in tasks:
                try:
                    waiting += self._children(process, task)
                except OSError:
                    continue
        return found, threads

    def _children(self, process, task):
        return self._read(f"{process}/task/{task}/children").decode().split()

    def _by_parents(self):
        children, threads = {}, {}
        for process in filter(str.isdigit, self._list(".")):
            try:
                fields = self._read(f"{process}/stat").rpartition(b")")[2].split()
            except OSError:
                continue
            children.setdefault(fields[1].decode(), []).append(process)
            threads[process] = int(fields[17])
        found, waiting = [], list(children.get(self._own, ()))
        while waiting:
            found.append(waiting.pop())
            waiting += children.get(found[-1], ())
        return found, sum(threads[process] for process in found)

    def memory(self, processes, limit):
        """Total memory in bytes; exact only if it might exceed ``limit``."""
        disk = 0
        if self._disk is not None:
            space = os.statvfs(self._disk)
            disk = (space.f_blocks - space.f_bfree) * space.f_frsize
        sizes = {process: self._pages(process) for process in processes}
        reserved = disk + sum(size for size, _ in sizes.values())
        if reserved <= limit:
            return reserved
        shared = {}
        return disk + sum(self._held(process, *sizes[process], shared) for process in processes) + sum(shared.values())

    def _pages(self, process):
        """Reserved and resident bytes; zero for a process that has exited."""
        try:
            size, resident = self._read(f"{process}/statm").split()[:2]
        except (OSError, ValueError):
            return 0, 0
        return int(size) * PAGE, int(resident) * PAGE

    def _held(self, process, reserved, resident, shared):
        """Memory of a process, with memory shared with others divided among them.

        Shared mappings go into ``shared`` instead, whole and once: their pages remain even if no process has touched
        them. A process that cannot be inspected counts with everything it has reserved.
        """
        try:
            self._add_shared(self._read(f"{process}/maps", LONGEST_MAPS), shared)
            lines = self._read(f"{process}/smaps_rollup").splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            return resident
        except (OSError, OverflowError):
            return reserved
        values = {line.split(b":")[0]: int(line.split()[1]) * 1024 for line in lines}
        if b"Pss_Anon" in values:
            return values[b"Pss_Anon"] + values[b"Pss_File"]
        return values.get(b"Pss", resident)  # before Linux 5.3

    @staticmethod
    def _add_shared(maps, shared):
        for line in maps.splitlines():
            fields = line.split(None, 5)
            if len(fields) == 6 and fields[1][3:4] == b"s" and fields[5].startswith(b"/dev/zero"):
                begin, end = (int(address, 16) for address in fields[0].split(b"-"))
                shared[fields[4]] = max(shared.get(fields[4], 0), int(fields[2], 16) + end - begin)

    def kill(self, seconds):
        """Kill until none is left or the time is over; returns whether none is left."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = [process for process in self.processes()[0] if not self._is_dead(process)]
            if not found:
                return True
            for process in found:
                try:
                    os.kill(int(process), signal.SIGKILL)
                except OSError:
                    continue
            if self._reaps:
                _reap()
            time.sleep(0.002)
        return False

    def _is_dead(self, process):
        try:
            return self._read(f"{process}/stat").rpartition(b")")[2].split()[0] in (b"Z", b"X")
        except OSError:
            return True

    def _list(self, name):
        number = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            return os.listdir(number)
        finally:
            os.close(number)

    def _read(self, name, longest=1 << 24):
        number = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            parts, size = [], 0
            while part := os.read(number, 1 << 16):
                parts.append(part)
                size += len(part)
                if size > longest:
                    raise OverflowError(name)
            return b"".join(parts)
        finally:
            os.close(number)


def _reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
