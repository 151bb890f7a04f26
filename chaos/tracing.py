"""Every system call of a process and its threads, one at a time and in one order.

A tracer sees each call before it is made and after it returned, and may let it
fail or kill the process there; so "the n-th call" means the same in every run,
whichever thread makes it.  Linux on x86-64 only, by ptrace(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from attrs import define, field, frozen

from chaos.forked import ChaosFailed, Process, reaped

CALLS = {
    0: "read", 1: "write", 2: "open", 3: "close", 4: "stat", 5: "fstat", 6: "lstat", 8: "lseek",
    9: "mmap", 16: "ioctl", 17: "pread64", 18: "pwrite64", 19: "readv", 20: "writev",
    21: "access", 26: "msync", 32: "dup", 33: "dup2", 40: "sendfile", 41: "socket",
    42: "connect", 43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg",
    48: "shutdown", 49: "bind", 50: "listen", 51: "getsockname", 52: "getpeername",
    53: "socketpair", 54: "setsockopt", 55: "getsockopt", 72: "fcntl", 73: "flock",
    74: "fsync", 75: "fdatasync", 76: "truncate", 77: "ftruncate", 82: "rename", 83: "mkdir",
    84: "rmdir", 85: "creat", 86: "link", 87: "unlink", 88: "symlink", 89: "readlink",
    90: "chmod", 91: "fchmod", 92: "chown", 93: "fchown", 133: "mknod", 137: "statfs",
    138: "fstatfs", 162: "sync", 217: "getdents64", 221: "fadvise64", 233: "epoll_ctl",
    257: "openat", 258: "mkdirat", 259: "mknodat", 260: "fchownat", 262: "newfstatat",
    263: "unlinkat", 264: "renameat", 265: "linkat", 266: "symlinkat", 267: "readlinkat",
    268: "fchmodat", 269: "faccessat", 275: "splice", 277: "sync_file_range",
    280: "utimensat", 285: "fallocate", 288: "accept4", 291: "epoll_create1", 293: "pipe2",
    295: "preadv", 296: "pwritev", 306: "syncfs", 316: "renameat2", 318: "getrandom",
    325: "mlock2", 326: "copy_file_range", 327: "preadv2", 328: "pwritev2", 332: "statx",
    425: "io_uring_setup", 437: "openat2", 439: "faccessat2", 452: "fchmodat2",
}  # fmt: skip
"""Those with a name here; the rest (memory, locks, time, threads) is nobody's business."""

KILL = "kill"
Answer: TypeAlias = "int | str | None"
"""What to do with a call: let it be (None), fail it with an errno, or KILL."""

_SEIZE, _INTERRUPT, _SYSCALL, _POKEUSER, _CALL_INFO = 0x4206, 0x4207, 24, 6, 0x420E
# Calls are told from traps, children are followed, and none outlives the tracer.
_OPTIONS = 0x01 | 0x02 | 0x04 | 0x08 | 0x100000
_ORIG_RAX, _RAX = 15 * 8, 10 * 8
_WALL = 0x40000000
_ENTRY, _EXIT = 1, 2
_INFO = struct.Struct("<B3xIQQ7Q")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


@frozen
class Call:
    """One system call: ``number`` counts those with a name, from 1."""

    number: int
    tid: int
    name: str
    args: tuple[int, ...]

    def descriptor(self, at: int = 0) -> int:
        """The argument ``at`` as the C int it is."""
        return ctypes.c_int(self.args[at] & 0xFFFFFFFF).value

    def memory(self, address: int, size: int) -> bytes:
        """Bytes of the process."""
        fd = os.open(f"/proc/{self.tid}/mem", os.O_RDONLY)
        try:
            return os.pread(fd, size, address)
        finally:
            os.close(fd)

    def text(self, at: int) -> str:
        """The argument ``at`` as the string it points to."""
        address, found = self.args[at], b""
        while b"\0" not in found and len(found) < 4096:
            # Not across the end of a page: the next one may not be there.
            found += self.memory(address + len(found), 256 - (address + len(found)) % 256)
        return os.fsdecode(found.partition(b"\0")[0])


def unsupported() -> str:
    """Why there can be no tracer here; empty where there can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "System calls can be followed on Linux on x86-64 only."
    pid = os.fork()
    if not pid:
        signal.pause()
    try:
        _ptrace(_SEIZE, pid, 0, 0)
    except OSError as error:
        return f"This user may not trace processes here ({error.strerror})."
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, _WALL)
    return ""


def _ptrace(request: int, pid: int, address: int, data: int) -> None:
    if _libc.ptrace(request, pid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@define
class Tracer:
    """Follows a ``held`` process; ``run`` lets it go.

    ``before`` hears of each named call and says what to do with it, ``after``
    of its result (below 0: an errno).  Where ``alone`` says so, no other thread
    makes a named call until that one has returned.
    """

    process: Process
    before: Callable[[Call], Answer]
    after: Callable[[Call, int], object] = lambda call, result: None
    alone: Callable[[Call], bool] = lambda call: False
    hung: bool = False
    _calls: int = 0
    _open: dict[int, tuple[Call, Answer]] = field(factory=dict)
    _known: set[int] = field(factory=set)

    def run(self, until: Callable[[], bool], seconds: float) -> None:
        """Follow it until ``until`` says so, or it is over; kill it if that takes longer."""
        pid = self.process.pid
        self._known.add(pid)
        _ptrace(_SEIZE, pid, 0, _OPTIONS)
        _ptrace(_INTERRUPT, pid, 0, 0)
        self.process.release()
        self.resume(until, seconds)

    def resume(self, until: Callable[[], bool], seconds: float) -> None:
        """Go on following."""

        def late(number: int, frame: object) -> None:
            self.hung = True
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

        before = signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            while not self.process.over() and not until():
                self._take(*self._next())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def kill(self) -> None:
        """kill -9; its threads have to be waited for one by one, since they are followed, too."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        while not self.process.over():
            self._take(*self._next())

    def _next(self) -> tuple[int, int]:
        try:
            return os.waitpid(-1, _WALL)
        except ChildProcessError:
            raise ChaosFailed("The process that is followed has gone.") from None

    def _take(self, tid: int, status: int) -> None:
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            self._open.pop(tid, None)
            if tid == self.process.pid or tid not in self._known:
                reaped[tid] = status
            self._known.discard(tid)
            return
        if tid not in self._known:
            self._known.add(tid)
        signum = os.WSTOPSIG(status)
        if signum == signal.SIGTRAP | 0x80:
            self._stopped(tid)
        else:
            # Events of ptrace itself stop it as well; only signals are passed on.
            self._go(tid, 0 if status >> 16 else signum)

    def _go(self, tid: int, signum: int = 0) -> None:
        with suppress(ProcessLookupError):  # killed meanwhile
            _ptrace(_SYSCALL, tid, 0, signum)

    def _stopped(self, tid: int) -> None:
        info = ctypes.create_string_buffer(_INFO.size)
        try:
            _ptrace(_CALL_INFO, tid, _INFO.size, ctypes.addressof(info))
        except ProcessLookupError:
            return
        kind, _, _, _, *values = _INFO.unpack(info.raw)
        if kind == _ENTRY and values[0] in CALLS:
            self._enter(tid, CALLS[values[0]], tuple(values[1:7]))
        elif kind == _EXIT and tid in self._open:
            self._leave(tid, ctypes.c_int64(values[0]).value)
        else:
            self._go(tid)

    def _enter(self, tid: int, name: str, args: tuple[int, ...]) -> None:
        self._calls += 1
        call = Call(self._calls, tid, name, args)
        answer = self.before(call)
        if answer == KILL:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            return
        self._open[tid] = call, answer
        if isinstance(answer, int):
            # A call of number -1 does nothing; its result is set when it returns.
            with suppress(ProcessLookupError):
                _ptrace(_POKEUSER, tid, _ORIG_RAX, 2**64 - 1)
        self._go(tid)
        if self.alone(call):
            self._wait_for(tid)

    def _wait_for(self, tid: int) -> None:
        while tid in self._open:
            found, status = os.waitpid(tid, _WALL)
            self._take(found, status)

    def _leave(self, tid: int, result: int) -> None:
        call, answer = self._open.pop(tid)
        if isinstance(answer, int):
            result = -answer
            with suppress(ProcessLookupError):
                _ptrace(_POKEUSER, tid, _RAX, result & (2**64 - 1))
        self.after(call, result)
        self._go(tid)


def named(number: int) -> str:
    """An errno as people know it."""
    return errno.errorcode.get(number, str(number))
