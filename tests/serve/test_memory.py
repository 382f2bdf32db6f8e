import ctypes
import gc
import platform
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from streamclust.serve.memory import EVERY, Memory, one_heap

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep what they have")
BLOCKS, SIZE = 4096, 16 * 1024
"""Together 64 MiB, each below what malloc would map by itself."""


class Knot:
    """Refers to itself."""

    def __init__(self):
        self.me = self


def resident() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@glibc
def test_pages_below_a_block_that_is_in_use_go_back_to_the_system():
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    blocks = [library.malloc(SIZE) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, SIZE)
    kept = blocks.pop()
    for block in blocks:
        library.free(block)
    held = resident()

    Memory(one_heap()).tick(0.0)

    library.free(kept)
    assert held - resident() > BLOCKS * SIZE * 3 // 4


def test_dead_cycles_go_without_waiting_for_the_collector():
    gc.disable()
    try:
        dead = weakref.ref(Knot())
        assert dead() is not None

        Memory(None).tick(0.0)
    finally:
        gc.enable()

    assert dead() is None


def test_it_happens_at_once_and_then_every_so_often():
    times = []
    memory = Memory(lambda: times.append(now))

    for now in (5.0, 5.0 + EVERY / 2, 4.9 + EVERY, 5.0 + EVERY, 6.0 + EVERY, 5.0 + 2 * EVERY):
        memory.tick(now)

    assert times == [5.0, 5.0 + EVERY, 5.0 + 2 * EVERY]


@glibc
def test_a_thread_has_no_heap_of_its_own():
    code = """
import ctypes, threading
from streamclust.serve.memory import one_heap
one_heap()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
found = []
thread = threading.Thread(target=lambda: found.append(library.malloc(ctypes.c_size_t(100_000))))
thread.start()
thread.join()
heap = next(line.split()[0] for line in open("/proc/self/maps") if line.rstrip().endswith("[heap]"))
low, high = (int(end, 16) for end in heap.split("-"))
print(low <= found[0] < high)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "True"
