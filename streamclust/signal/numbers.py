"""A bounded set of window numbers: what was emitted or decided, remembered exactly."""

from __future__ import annotations

from bisect import bisect_right

EMITTED_RUNS = 256
"""Runs of window numbers remembered for one stream or group; the lowest is forgotten first."""


class Numbers:
    """A set of window numbers as sorted runs; adding the next number is O(1)."""

    __slots__ = ("_highs", "_lows")

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._lows, number) - 1
        return at >= 0 and number <= self._highs[at]

    def add(self, number: int) -> bool:
        """Add; return False when it was there."""
        if self._highs and number == self._highs[-1] + 1:
            self._highs[-1] = number
            return True
        if number in self:
            return False
        at = bisect_right(self._lows, number)
        self._lows.insert(at, number)
        self._highs.insert(at, number)
        if at + 1 < len(self._lows) and self._lows[at + 1] == number + 1:
            del self._lows[at + 1], self._highs[at]
        if at > 0 and self._highs[at - 1] == number - 1:
            del self._lows[at], self._highs[at - 1]
        if len(self._lows) > EMITTED_RUNS:
            del self._lows[0], self._highs[0]
        return True
