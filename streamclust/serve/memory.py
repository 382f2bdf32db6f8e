"""Gives memory that nothing uses any more back to the system, again and again: else what the worst burst took stays for good."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

EVERY: Final = 20.0
"""Seconds between two times."""
_M_ARENA_MAX: Final = -8
"""Of glibc's malloc.h."""

Trim = Callable[[], object]
"""Lets the C library give its free pages back to the system."""


def one_heap() -> Trim | None:
    """Let threads that begin from now on share one heap, for the life of the process; return what gives back its free pages.

    Heaps of threads are not given back whole, and the interpreter lets one thread run at a time anyway. None, and
    nothing is changed, with a C library other than glibc, as on Alpine Linux and macOS.
    """
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    limit, trim = (getattr(library, name, None) for name in ("mallopt", "malloc_trim"))
    if limit is None or trim is None:
        return None
    limit.argtypes, trim.argtypes = (ctypes.c_int, ctypes.c_int), (ctypes.c_size_t,)
    limit(_M_ARENA_MAX, 1)
    return partial(trim, 0)


class Memory:
    """What the daemon holds and does not use. One thread uses it.

    Cycles of dead objects go first: the collector counts objects, and one dead poll of kafka-python, its traceback and
    frames, may hold megabytes of messages. Then the free pages go back: by itself the C library keeps all that lie
    below the newest block in use.
    """

    def __init__(self, trim: Trim | None) -> None:
        self._trim = trim
        self._at = float("-inf")

    def tick(self, now: float) -> None:
        """Give back what is free, when `EVERY` seconds have gone by since the last time (monotonic seconds)."""
        if now < self._at:
            return
        self._at = now + EVERY
        gc.collect()
        if self._trim is not None:
            self._trim()
