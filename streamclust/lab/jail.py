"""A process that reads what strangers sent locks itself in: no network, no other files, no new programs, bounded in all."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

_PACKAGE: Final = "streamclust"
_PDEATHSIG, _NO_NEW_PRIVS, _CAPBSET_DROP, _DUMPABLE = 1, 38, 24, 4
_NEWUSER, _NEWNET, _NEWIPC = 0x10000000, 0x40000000, 0x08000000
_CAPSET: Final = {"x86_64": 126, "aarch64": 91}
_LL_CREATE, _LL_ADD, _LL_RESTRICT = 444, 445, 446
_READ: Final = (1 << 0) | (1 << 2) | (1 << 3)
"""Landlock: execute (which mapping a library may need), read a file, read a directory."""
_WRITE: Final = (1 << 1) | sum(1 << bit for bit in (4, 5, 7, 8, 14))
"""Write a file, remove directories and files, make directories and files, truncate."""
_ALL: Final = (1 << 13) - 1
_TCP: Final = 3
_SCOPES: Final = 3
"""No abstract sockets of others, and no signals to them: whoever started us is not ours to kill."""
_LAST_CAPABILITY: Final = 63
_SYSTEM: Final = (
    "/usr", "/lib", "/lib64", "/proc", "/sys/devices/system/cpu", "/dev/null", "/dev/urandom", "/etc/ld.so.cache",
    "/etc/fonts", "/etc/localtime", "/etc/mime.types", "/etc/matplotlibrc", "/etc/passwd",
)  # fmt: skip
_REFUSED: Final = frozenset({
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.startfile", "subprocess.Popen",
    "pty.spawn", "os.kill", "os.killpg", "os.chmod", "os.chown", "os.setxattr", "os.link", "os.symlink",
    "signal.pthread_kill", "shutil.chown", "sqlite3.connect", "webbrowser.open", "urllib.Request",
})  # fmt: skip
"""Events of the audit that end what is under way. See `sys.addaudithook`."""
_WRITERS: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Bounds(NamedTuple):
    """What the process may use."""

    cpu_seconds: int
    memory_bytes: int
    """Of address space, beyond what there is when it is bounded."""
    file_bytes: int
    """Size of one file."""
    files: int = 128
    """Open at once."""
    nice: int = 10


class Locked(NamedTuple):
    """What the kernel granted."""

    network: bool
    """Whether it has a network of its own, which is empty."""
    files: int
    """Version of Landlock; 0: the kernel has none, and only the audit hook stands."""
    capabilities: bool
    """Whether all were given up."""


def bound(parent: int, bounds: Bounds) -> Locked:
    """Do what must be done first, while there is one thread: die with the parent, no privileges, no network, few resources.

    Parameters
    ----------
    parent
        Its process id; when that is not our parent, it is gone, and so are we.

    Raises
    ------
    OSError
        The kernel refuses what it always grants.
    """
    libc = _libc()
    _checked(libc.prctl(_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        os._exit(1)
    os.setpriority(os.PRIO_PROCESS, 0, max(bounds.nice, os.getpriority(os.PRIO_PROCESS, 0)))
    os.umask(0o077)
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, bounds.cpu_seconds),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
        (resource.RLIMIT_NOFILE, bounds.files),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        _limit(what, most)
    _checked(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    alone = _NEWNET | _NEWIPC
    network = libc.unshare(alone) == 0 or libc.unshare(_NEWUSER | alone) == 0
    capabilities = _without_capabilities(libc)
    libc.prctl(_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)  # changing capabilities may clear it
    return Locked(network, 0, capabilities)


def confine_memory(more_bytes: int, later_bytes: int = 0) -> None:
    """Bound the address space to what it is now and so much more; after the large libraries are there.

    `later_bytes` is what `allow_memory` may add to that.
    """
    now = _address_space() + more_bytes
    _limit(resource.RLIMIT_AS, now + later_bytes)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (min(now, hard), hard))


def allow_memory() -> None:
    """Let the address space grow as far as `confine_memory` left room, while a library is loaded."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def settle_memory(more_bytes: int) -> None:
    """Bound the address space to what it is now and so much more, for good."""
    _limit(resource.RLIMIT_AS, _address_space() + more_bytes)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def lock(folder: Path, readable: Iterable[Path]) -> int:
    """Allow no file but those of Python and the system, `readable` (to read) and `folder` (to read and write); no sockets.

    Returns
    -------
    int
        Version of Landlock that enforces it; 0: none, then only Python's own calls are refused, by the audit hook.
    """
    version = _landlock(folder, [*_of_python(), *readable])
    sys.addaudithook(_hook(os.path.realpath(folder)))
    return version


def _hook(folder: str) -> Callable[[str, tuple[Any, ...]], None]:
    """Return what refuses sockets, programs and writing elsewhere; an audit hook cannot be taken away again."""
    inside = (folder + os.sep, os.devnull)
    moves = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.utime", "tempfile.mkstemp"}

    def allowed(path: Any) -> bool:
        name = os.fsdecode(path) if isinstance(path, str | bytes) else ""
        return isinstance(path, int) or (os.path.realpath(name) + os.sep).startswith(inside)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith("socket.") or event in _REFUSED:
            raise PermissionError(f"{event} is not allowed here")
        if event == "open" and args[2] is not None and args[2] & _WRITERS and not allowed(args[0]):
            raise PermissionError("writing outside of the own folder is not allowed")
        if event in moves and not all(allowed(path) for path in args[: 1 + (event == "os.rename")]):
            raise PermissionError(f"{event} outside of the own folder is not allowed")

    return hook


def _of_python() -> list[Path]:
    """Return where modules and libraries are; of a folder with much else beside our package, that package alone."""
    prefixes = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, str(Path(sys.executable).resolve().parents[1])]
    return [_narrow(Path(name)) for name in {*_SYSTEM, *prefixes} if name and Path(name).exists() and name != "/"]


def _narrow(path: Path) -> Path:
    """Return what of a folder holds modules: beside a checkout's package may lie the state directory."""
    own = path / _PACKAGE
    installed = any(path.glob("*.dist-info")) or not own.is_dir()
    return path if installed else own


def _landlock(folder: Path, readable: Iterable[Path]) -> int:
    libc = _libc()
    version = libc.syscall(_LL_CREATE, None, 0, 1)
    if version < 1:
        return 0
    handled = _ALL | (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    parts = (handled, *((_TCP,) if version >= 4 else ()), *((_SCOPES,) if version >= 6 else ()))
    attributes = struct.pack(f"={len(parts)}Q", *parts)
    ruleset = libc.syscall(_LL_CREATE, attributes, len(attributes), 0)
    if ruleset < 0:
        return 0
    try:
        for path in readable:
            _allow(libc, ruleset, path, _READ)
        _allow(libc, ruleset, folder, (_READ | _WRITE) & handled)
        return int(version) if libc.syscall(_LL_RESTRICT, ruleset, 0) == 0 else 0
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        own = access if path.is_dir() else access & 0b110 | access & 0b1
        rule = struct.pack("=Qi", own, fd)
        libc.syscall(_LL_ADD, ruleset, 1, rule, 0)
    finally:
        os.close(fd)


def _without_capabilities(libc: ctypes.CDLL) -> bool:
    """Give up every capability, for good."""
    for capability in range(_LAST_CAPABILITY + 1):
        libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    number = _CAPSET.get(os.uname().machine)
    if number is None:
        return False
    header, nothing = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    return bool(libc.syscall(number, header, nothing) == 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (limit, limit))


def _checked(answer: int, name: str) -> None:
    if answer != 0:
        raise OSError(ctypes.get_errno(), name)
