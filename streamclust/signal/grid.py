"""The absolute grid: nominal rates, sample indices and window numbers, in exact integer arithmetic.

Sample k of a stream with nominal rate f stands for the time k / f since 1970. A record is laid on
the grid by its own header alone, ``round(start * f)``; nothing depends on which record came before,
so a restart, another order or another batching lays it on the same indices.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b

NS = 1_000_000_000
DRIFT = 1e-3
"""A header's rate within this part of a whole number of hertz (or seconds) is that number."""


@lru_cache(maxsize=4096)
def nominal_rate(rate_hz: float) -> Fraction:
    """Return the exact rate that a header's rate stands for.

    Rates that are small fractions already stay (31.25 Hz, 24414.0625 Hz). Otherwise a drifting
    clock's 99.9987 is 100 Hz, and 0.09999 is 1/10 Hz.

    >>> nominal_rate(99.9987), nominal_rate(31.25), nominal_rate(0.1)
    (Fraction(100, 1), Fraction(125, 4), Fraction(1, 10))
    """
    exact = Fraction(rate_hz)
    if exact.denominator <= 256:
        return exact
    for whole in (Fraction(round(rate_hz)), Fraction(1, max(1, round(1 / rate_hz)))):
        if whole and abs(whole / exact - 1) <= DRIFT:
            return whole
    return exact.limit_denominator(1000)


def index_at(time_ns: int, rate: Fraction) -> tuple[int, float]:
    """Return the grid index nearest to a time, and how much later the time is, in samples [-0.5, 0.5)."""
    numerator, denominator = rate.as_integer_ratio()
    scale = denominator * NS
    scaled = time_ns * numerator
    index = (2 * scaled + scale) // (2 * scale)
    return index, (scaled - index * scale) / scale


def time_at(index: int, rate: Fraction) -> int:
    """Return the time of a grid index, ns since 1970, rounded."""
    scale = 2 * rate.numerator
    return (2 * index * rate.denominator * NS + rate.numerator) // scale


@dataclass(frozen=True, slots=True)
class Geometry:
    """Which samples make window n of a stream with one rate: [first(n) - left, first(n) + length + right)."""

    rate: Fraction
    hop_ns: int
    length: int
    left: int
    right: int

    def first(self, number: int) -> int:
        """Index of the first sample at or after the window's grid time."""
        scale = self.rate.denominator * NS
        return -(-number * self.hop_ns * self.rate.numerator // scale)

    def number_from(self, index: int) -> int:
        """Lowest window number whose left margin begins at `index` or later."""
        wanted = index + self.left
        scale = self.rate.denominator * NS
        number = ((wanted - 1) * scale) // (self.hop_ns * self.rate.numerator)
        while self.first(number) < wanted:
            number += 1
        return number


def samples_in(length_ns: int, rate: Fraction) -> int:
    """Return the number of samples in a length of time, rounded."""
    return round(Fraction(length_ns * rate.numerator, rate.denominator * NS))


def window_id(stream: str, start_ns: int, profile: str) -> str:
    """Return the id that follows from stream, start and profile alone: 24 hexadecimal digits.

    >>> window_id("FDSN:BW_RJOB__E_H_Z", 0, "seismic/1")
    '8f9bef135ec28eb818bd032f'
    """
    return blake2b(f"{stream}\n{start_ns}\n{profile}".encode(), digest_size=12).hexdigest()
