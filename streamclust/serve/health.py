"""Whether the daemon lives and whether it is ready; told by the daemon, asked over HTTP."""

from __future__ import annotations

import threading

LIVE_WITHIN = 30.0
"""Seconds within which the loop must have ticked."""
NO_TURN = "the loop has not finished a turn yet"


class Health:
    """Last tick of the loop and the reasons against readiness. Any thread may use it.

    Parameters
    ----------
    started
        Monotonic seconds of the start; the first tick may take `LIVE_WITHIN` from there.
    """

    def __init__(self, started: float) -> None:
        self._lock = threading.Lock()
        self._last = started
        self._reasons: dict[str, str] = {"loop": NO_TURN}
        self._degraded: dict[str, str] = {}

    def tick(self, monotonic: float) -> None:
        """Say that the loop goes round (also while it waits and tries again)."""
        with self._lock:
            self._last = max(self._last, monotonic)
            if self._reasons.get("loop") == NO_TURN:
                del self._reasons["loop"]

    def live(self, now: float) -> bool:
        """Whether the loop ticked within `LIVE_WITHIN` before `now` (monotonic seconds)."""
        with self._lock:
            return now - self._last <= LIVE_WITHIN

    def set_reason(self, name: str, text: str | None) -> None:
        """Set why the daemon is not ready, under a name; None takes that reason away."""
        with self._lock:
            if text is None:
                self._reasons.pop(name, None)
            else:
                self._reasons[name] = text

    def set_degraded(self, name: str, text: str | None) -> None:
        """Set what works worse than it should, though work goes on; None takes that away."""
        with self._lock:
            if text is None:
                self._degraded.pop(name, None)
            else:
                self._degraded[name] = text

    def degraded(self) -> list[str]:
        """Return what works worse than it should, as ``name: text`` by name."""
        with self._lock:
            return [f"{name}: {text}" for name, text in sorted(self._degraded.items())]

    def ready(self) -> tuple[bool, list[str]]:
        """Whether nothing speaks against it, and what does, as ``name: text`` by name."""
        with self._lock:
            reasons = [f"{name}: {text}" for name, text in sorted(self._reasons.items())]
        return not reasons, reasons
