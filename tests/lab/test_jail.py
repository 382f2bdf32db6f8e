from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BEGIN = """
import json, os, sys
from pathlib import Path
from streamclust.lab import jail
folder = Path(sys.argv[1])
parent = int(sys.argv[2]) or os.getppid()
locked = jail.bound(parent, jail.Bounds(3, 256 << 20, 1 << 20))
import numpy, socket, ctypes
jail.confine_memory(256 << 20)
version = jail.lock(folder, [])
def tried(what):
    try:
        what()
    except BaseException as error:
        return type(error).__name__
    return "done"
"""


def inside(folder, code, parent=0):
    """Run code that is locked in; return the process and what it printed."""
    found = subprocess.run(
        [sys.executable, "-c", BEGIN + code, str(folder), str(parent)],
        capture_output=True, text=True, timeout=120, cwd=ROOT, check=False,
    )  # fmt: skip
    return found, json.loads(found.stdout.splitlines()[-1]) if found.stdout.strip() else None


def test_a_worker_sees_no_secrets_and_kills_nobody(tmp_path):
    code = """
parent = os.getppid()
names = [f"/proc/{parent}/environ", f"/proc/{parent}/mem", "/etc/shadow", "/etc/ssl/private", "/root", str(Path.cwd() / "README.md")]
libc = ctypes.CDLL(None, use_errno=True)
print(json.dumps([version, [tried(lambda: open(name, "rb").read(1)) for name in names], libc.kill(parent, 0)]))
"""
    (version, read, killed) = inside(tmp_path, code)[1]
    if not version:
        pytest.skip("this kernel has no Landlock")
    assert set(read) <= {"PermissionError", "FileNotFoundError"}
    if version >= 6:
        assert killed == -1


def test_a_worker_has_no_network_no_programs_and_writes_nowhere_else(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (tmp_path / "other").write_text("x")
    (own / "way").symlink_to(tmp_path / "other")
    code = """
other = str(folder.parent / "other")
print(json.dumps({
    "inside": tried(lambda: (folder / "a").write_text("x")),
    "outside": tried(lambda: open(other, "w")),
    "append": tried(lambda: open(other, "ab")),
    "new": tried(lambda: os.open(str(folder.parent / "new"), os.O_CREAT | os.O_WRONLY)),
    "link": tried(lambda: open(folder / "way", "w")),
    "up": tried(lambda: open(folder / ".." / "new", "w")),
    "rename": tried(lambda: os.rename(folder / "a", folder.parent / "b")),
    "remove": tried(lambda: os.remove(other)),
    "read": tried(lambda: open(other).read()),
    "socket": tried(lambda: socket.socket()),
    "name": tried(lambda: socket.getaddrinfo("localhost", 80)),
    "program": tried(lambda: os.system("true")),
    "fork": tried(os.fork),
    "exec": tried(lambda: os.execv("/bin/true", ["true"])),
    "kill": tried(lambda: os.kill(os.getppid(), 9)),
    "symlink": tried(lambda: os.symlink(other, folder / "c")),
    "landlock": version,
}))
"""
    done, found = inside(own, code)
    assert found is not None, done.stderr
    assert found.pop("inside") == "done"
    landlock = found.pop("landlock")
    if not landlock:
        found.pop("read")
    assert set(found.values()) == {"PermissionError"}, found
    assert (tmp_path / "other").read_text() == "x"
    assert not (tmp_path / "new").exists()


def test_the_kernel_refuses_too_what_goes_round_python(tmp_path):
    code = """
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.open(str(folder.parent / "raw").encode(), os.O_CREAT | os.O_WRONLY, 0o600)
s = libc.socket(2, 1, 0)
class Address(ctypes.Structure):
    _fields_ = [("family", ctypes.c_ushort), ("port", ctypes.c_ushort), ("host", ctypes.c_uint), ("zero", ctypes.c_char * 8)]
to = Address(2, 0x5000, 0x0100007f, b"")
print(json.dumps({"fd": fd, "connected": libc.connect(s, ctypes.byref(to), 16), "landlock": version, "network": locked.network,
    "capabilities": [line for line in open("/proc/self/status") if line.startswith("CapEff")][0].split()[1],
    "privileges": [line for line in open("/proc/self/status") if line.startswith("NoNewPrivs")][0].split()[1],
    "core": __import__("resource").getrlimit(4)[0], "nice": os.nice(0)}))
"""
    _, found = inside(make(tmp_path), code)
    if found["landlock"]:
        assert found["fd"] < 0
        assert not (tmp_path / "raw").exists()
    assert found["connected"] < 0
    assert int(found["capabilities"], 16) == 0
    assert (found["privileges"], found["core"]) == ("1", 0)
    assert found["nice"] >= 10


def make(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    return own


def test_memory_files_and_computing_time_are_bounded(tmp_path):
    code = """
print(json.dumps({"memory": tried(lambda: numpy.ones(1 << 30)), "file": tried(lambda: (folder / "big").write_bytes(bytes(2 << 20)))}),
      flush=True)
while True:
    pass
"""
    done, found = inside(make(tmp_path), code)
    assert found["memory"] == "MemoryError"
    assert done.returncode in {-signal.SIGXCPU, -signal.SIGKILL}
    assert (tmp_path / "own" / "big").stat().st_size <= 1 << 20


def test_a_worker_whose_parent_is_another_process_ends_at_once(tmp_path):
    done, found = inside(make(tmp_path), "print('[1]')", parent=1 if os.getpid() != 1 else 2)
    assert found is None
    assert done.returncode == 1


@pytest.mark.fault
def test_a_worker_dies_with_its_parent(tmp_path):
    make(tmp_path)
    child = BEGIN + "(folder / 'pid').write_text(str(os.getpid()))\nimport time\ntime.sleep(60)"
    code = f"import subprocess, sys, time\np = subprocess.Popen([sys.executable, '-c', {child!r}, {str(tmp_path / 'own')!r}, '0'])\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as parent:
        where, until = tmp_path / "own" / "pid", time.monotonic() + 60
        while not (where.exists() and where.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        pid = int(where.read_text())
        parent.kill()
    while (
        time.monotonic() < until
        and Path(f"/proc/{pid}/stat").exists()
        and " Z " not in Path(f"/proc/{pid}/stat").read_text()
    ):
        time.sleep(0.05)
    assert time.monotonic() < until
