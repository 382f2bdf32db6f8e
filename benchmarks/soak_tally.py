"""What a soak must give and what it gave: windows by the grid, repeats of the looped signal, and slopes with their errors."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

NS = 1_000_000_000
UNCOMPARED = frozenset({"window_id", "stream", "start", "end", "name", "processed_at", "late"})
"""Fields that tell which window it is, which differ between loops, or which are as known when the event was made."""
CLOSE = {"memberships": 1e-5, "novelty": 1e-4, "peak": 1e-4, "rms": 1e-4, "gap_fraction": 1e-4}
"""Numbers, and how far they may be apart, in part of their size or of 1, whichever is larger."""
NO_MODEL = 255
"""Stands for no model, and for versions beyond what a soak makes."""
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """The signal that comes round again and again, and the grid that windows lie on.

    `loop_ns` must be a whole number of hops: then a window shows what the one a loop earlier showed.
    """

    streams: tuple[str, ...]
    start_ns: int
    loop_ns: int
    window_ns: int
    hop_ns: int
    profile: str
    """Label: name/version."""

    def __post_init__(self) -> None:
        if self.start_ns % self.hop_ns or self.loop_ns % self.hop_ns:
            raise ValueError("start_ns and loop_ns must be whole numbers of hops")

    @property
    def phases(self) -> int:
        """Windows of a stream that begin in one loop."""
        return self.loop_ns // self.hop_ns

    def windows(self, end_ns: int) -> int:
        """Return how many windows lie in a stream that ends there."""
        return max(0, (end_ns - self.start_ns - self.window_ns) // self.hop_ns + 1)

    def id_of(self, stream: str, number: int) -> str:
        """Return the id that the contract gives to window `number` of a stream, counted from the start of the signal."""
        text = f"{stream}\n{self.start_ns + number * self.hop_ns}\n{self.profile}"
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


class Verdict(NamedTuple):
    """What became of the windows."""

    expected: int
    received: int
    """Different ones of the expected."""
    missing: int
    added: int
    """Events of windows that no published signal has."""
    altered: int
    """Events that are not as the same signal gave before under the same model, or not as the contract says."""
    repeated: int
    """Events of windows that had come before."""


class Tally:
    """Takes the events of the output topic, compares each with what its signal gave before, and forgets it.

    Memory: one byte a window.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._seen = {stream: _Grown() for stream in plan.streams}
        self._facts: dict[tuple[str, int, int], Event] = {}
        self._strange = 0
        self._altered = 0
        self.models: Counter[int] = Counter()
        """Events by version of the model."""
        self.examples: list[str] = []
        """The first altered events, each beside what was expected."""

    @property
    def received(self) -> int:
        """Different windows so far."""
        return sum(seen.different for seen in self._seen.values())

    @property
    def repeated(self) -> int:
        """Events of windows that had come before."""
        return sum(seen.repeated for seen in self._seen.values())

    @property
    def altered(self) -> int:
        """Events that differ from what their signal gave before."""
        return self._altered

    def learn(self, event: Event) -> None:
        """Take an event of a run without faults as what its signal gives; ValueError when it gave another one before."""
        before = self._altered
        self._compare(event, self._number(event["start"]))
        if self._altered > before:
            raise ValueError(f"the signal does not come round: {self.examples[-1]}")

    def take(self, event: Event) -> None:
        """Take an event of the output topic."""
        self.models[event["model"]] += 1
        stream, number = event["stream"], self._number(event["start"])
        if stream not in self._seen or number is None or number < 0:
            self._strange += 1
            return
        if event["window_id"] != self._plan.id_of(stream, number):
            self._differs(event, {"window_id": self._plan.id_of(stream, number)})
        elif not self._seen[stream].add(number, min(event["model"] or NO_MODEL, NO_MODEL)):
            self._differs(event, {"model": self._seen[stream].model(number)})
        else:
            self._compare(event, number)

    def expected(self, ends_ns: Mapping[str, int]) -> int:
        """Return the number of windows in streams that end there."""
        return sum(self._plan.windows(end_ns) for end_ns in ends_ns.values())

    def verdict(self, ends_ns: Mapping[str, int]) -> Verdict:
        """Compare with the grid over what was published: end of each stream, ns."""
        wanted = {stream: self._plan.windows(ends_ns.get(stream, 0)) for stream in self._seen}
        expected = sum(wanted.values())
        inside = sum(seen.among(wanted[stream]) for stream, seen in self._seen.items())
        added = self._strange + self.received - inside
        return Verdict(expected, inside, expected - inside, added, self._altered, self.repeated)

    def missing(self, ends_ns: Mapping[str, int], most: int = 20) -> list[tuple[str, int]]:
        """Return the first windows that did not come: stream and start, ns."""
        plan = self._plan
        return [
            (stream, plan.start_ns + number * plan.hop_ns)
            for stream, seen in self._seen.items()
            for number in seen.absent(plan.windows(ends_ns.get(stream, 0)))[:most]
        ][:most]

    def _number(self, start: str) -> int | None:
        whole, _, fraction = start.rstrip("Z").partition(".")
        seconds = int(np.datetime64(whole, "s").astype(np.int64))
        since = seconds * NS + int(fraction.ljust(9, "0")) - self._plan.start_ns
        return None if since % self._plan.hop_ns else since // self._plan.hop_ns

    def _compare(self, event: Event, number: int | None) -> None:
        phase = (number or 0) % self._plan.phases
        facts = {name: value for name, value in event.items() if name not in UNCOMPARED}
        before = self._facts.setdefault((event["stream"], phase, event["model"]), facts)
        if before is not facts and not same(facts, before):
            self._differs(event, before)

    def _differs(self, event: Event, wanted: Event) -> None:
        self._altered += 1
        if len(self.examples) < 5:
            self.examples.append(f"{json.dumps(dict(event))} instead of {json.dumps(dict(wanted))}")


class _Grown:
    """How often each window of a stream came, and under which model."""

    def __init__(self) -> None:
        self._models = bytearray()
        self.different = 0
        self.repeated = 0

    def add(self, number: int, model: int) -> bool:
        """Count an event; False when the window came before under another model."""
        if number >= len(self._models):
            self._models.extend(bytes(number + 1024 - len(self._models)))
        before, self._models[number] = self._models[number], model
        self.different += before == 0
        self.repeated += before != 0
        if before:
            self._models[number] = before
        return before in {0, model}

    def model(self, number: int) -> int:
        """Version that made a window first."""
        return self._models[number]

    def among(self, count: int) -> int:
        """Return how many of the first `count` windows came."""
        return count - len(self.absent(count))

    def absent(self, count: int) -> list[int]:
        """Numbers of the first `count` windows that did not come."""
        here = np.zeros(count, bool)
        known = np.frombuffer(bytes(self._models[:count]), np.uint8)
        here[: len(known)] = known > 0
        return np.flatnonzero(~here).tolist()


def same(one: Event, other: Event) -> bool:
    """Return True when two windows were judged alike: numbers within `CLOSE`, all else exactly."""
    if one.keys() != other.keys():
        return False
    if any(one[name] != other[name] for name in one if name not in CLOSE):
        return False
    return all(_close(one[name], other[name], CLOSE[name]) for name in one.keys() & CLOSE.keys())


def _close(one: Any, other: Any, apart: float) -> bool:
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_close(one[key], other[key], apart) for key in one)
    if one is None or other is None:
        return one is other
    return bool(abs(one - other) <= apart * max(1.0, abs(other)))


class Slope(NamedTuple):
    """A straight line through a quantity over time."""

    first: float
    """Value of the line at its begin."""
    last: float
    per_hour: float
    error: float
    """Standard error of `per_hour`, widened for neighbours in time being alike."""
    seconds: float
    """Length of time that it goes through."""

    @property
    def flat(self) -> bool:
        """Within two standard errors of zero."""
        return abs(self.per_hour) <= 2 * self.error


def slope(seconds: Sequence[float], values: ArrayLike) -> Slope | None:
    """Return the least-squares line; None for fewer than three values.

    The residuals of memory over time are no independent draws: the error of independent ones is multiplied by
    sqrt((1 + r) / (1 - r)), r being the correlation of each residual with the next (at least 0, at most 0.98).
    """
    t, y = np.asarray(seconds, np.float64), np.asarray(values, np.float64)
    if len(t) < 3 or np.ptp(t) == 0:
        return None
    from_mean = t - t.mean()
    spread = float(from_mean @ from_mean)
    steep = float(from_mean @ (y - y.mean())) / spread
    rest = y - y.mean() - steep * from_mean
    noise = float(rest @ rest) / (len(t) - 2)
    squares = float(rest @ rest)
    alike = float(rest[1:] @ rest[:-1]) / squares if squares > 0 else 0.0
    alike = min(max(alike, 0.0), 0.98)
    error = float(np.sqrt(noise / spread * (1 + alike) / (1 - alike)))
    line = y.mean() + steep * from_mean
    return Slope(float(line[0]), float(line[-1]), 3600 * steep, 3600 * error, float(np.ptp(t)))
