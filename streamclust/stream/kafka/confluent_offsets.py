"""Where partitions begin and end, what is at a time, what is committed: the questions about offsets, with confluent-kafka."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from streamclust.core.errors import SourceUnavailable
from streamclust.stream.kafka.confluent_errors import MISSING, error_of, library_errors, translated
from streamclust.stream.kafka.ports import Bounds, Part

if TYPE_CHECKING:
    from confluent_kafka import Consumer as LibraryConsumer
    from confluent_kafka import TopicPartition

BEGINNING, END = -2, -1
"""Kafka's names for the ends of a partition, where a time is asked for."""


class Offsets:
    """Asks the brokers for offsets, each time for `timeout` seconds at most.

    Parameters
    ----------
    asking
        Context in which the library is called: translates what it raises; takes what is being done.
    """

    def __init__(
        self, library: LibraryConsumer, asking: Callable[[str], AbstractContextManager[None]], timeout: float
    ) -> None:
        self._library = library
        self._asking = asking
        self._timeout = timeout
        self._commit: _Commit | None = None

    def commit(self, offsets: Mapping[Part, int]) -> None:
        """Commit, synchronously.

        The library would wait a whole session for a coordinator that is gone; so it is asked something first. For one
        that goes just then it waits without an end; so it waits apart, and one that was left behind comes before the next.
        """
        if not self.settled(self._timeout):
            raise SourceUnavailable("committing: the commit before is not answered yet")
        with self._asking("committing"):
            self._library.committed([position_of(next(iter(offsets)))], self._timeout)
            wanted = [position_of(part, offset) for part, offset in offsets.items()]
            commit = self._commit = _Commit(self._library, wanted)
            if not self.settled(self._timeout):
                raise SourceUnavailable(f"committing: no answer for {self._timeout:g} s")
            answers = commit.result()
        for answer in answers:
            _check(answer, "committing")

    def settled(self, timeout: float) -> bool:
        """Return whether no commit waits for its answer, after at most this many seconds."""
        if self._commit is not None:
            self._commit.join(timeout)
            if self._commit.is_alive():
                return False
            self._commit = None
        return True

    def beginnings(self, parts: Collection[Part]) -> dict[Part, int]:
        """Return the first offset of each partition that exists."""
        return self._ask(parts, BEGINNING)

    def committed(self, parts: Collection[Part]) -> dict[Part, int | None]:
        """Return the group's committed offsets; waits for transactions that are being decided."""
        if not parts:
            return {}
        with self._asking("asking for committed offsets"):
            answers = self._library.committed([position_of(part) for part in parts], self._timeout)
        for answer in answers:
            _check(answer, "asking for committed offsets")
        return {Part(a.topic, a.partition): a.offset if a.offset >= 0 else None for a in answers}

    def bounds(self, parts: Collection[Part]) -> dict[Part, Bounds]:
        """Return what the topic holds now, up to what is decided of transactions."""
        lows = self._ask(parts, BEGINNING)
        highs = self._ask(lows, END)
        return {part: Bounds(lows[part], high) for part, high in highs.items()}

    def at(self, parts: Collection[Part], timestamp_ms: int) -> dict[Part, int]:
        """Return for each the first offset with this time or later; the end where there is none."""
        found = self._ask(parts, max(0, timestamp_ms))
        ends = self._ask([part for part, offset in found.items() if offset < 0], END)
        return found | ends

    def _ask(self, parts: Iterable[Part], at: int) -> dict[Part, int]:
        """Return an offset of each partition that exists; `at` is a time in ms, BEGINNING or END."""
        wanted = list(parts)
        asked = [position_of(part, at) for part in wanted]
        if not asked:
            return {}
        with self._asking("asking for offsets"):
            answers = self._answers(asked)
        known = [answer for answer in answers if answer.error is None or answer.error.name() not in MISSING]
        for answer in known:
            _check(answer, "asking for offsets")
        found = {Part(answer.topic, answer.partition): answer.offset for answer in known}
        if len(found) < len(asked):
            self._confirm_missing([part for part in wanted if part not in found])
        return found

    def _answers(self, asked: list[TopicPartition]) -> list[TopicPartition]:
        """Ask for offsets; an error of all of them together, as the library raises it, is no answer."""
        try:
            return self._library.offsets_for_times(asked, self._timeout)
        except library_errors() as error:
            if error_of(error).name() not in MISSING:
                raise
            return []

    def _confirm_missing(self, parts: Sequence[Part]) -> None:
        """Raise unless these do not exist; the library says so too when it knows no more."""
        with self._asking("asking for offsets"):
            for topic in {part.topic for part in parts}:
                found = self._library.list_topics(topic, timeout=self._timeout).topics[topic]
                unknown = found.error is not None and found.error.name() not in MISSING
                there = [part.label for part in parts if part.topic == topic and part.number in found.partitions]
                if unknown or there:
                    raise SourceUnavailable(f"asking for offsets: no answer for {', '.join(there) or topic}")


class _Commit(threading.Thread):
    """One commit and its answer."""

    def __init__(self, library: LibraryConsumer, wanted: list[TopicPartition]) -> None:
        super().__init__(name="commit", daemon=True)
        self._library = library
        self._wanted = wanted
        self._answers: list[TopicPartition] = []
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        """Wait for the answer."""
        try:
            self._answers = self._library.commit(offsets=self._wanted, asynchronous=False)
        except library_errors() as error:
            self._error = error

    def result(self) -> list[TopicPartition]:
        """Return the answer, or raise what the library raised."""
        if self._error is not None:
            raise self._error
        return self._answers


def position_of(part: Part, offset: int = END) -> TopicPartition:
    """Return a partition and an offset as the library names them."""
    from confluent_kafka import TopicPartition

    return TopicPartition(part.topic, part.number, offset)


def _check(answer: TopicPartition, doing: str) -> None:
    if answer.error is not None:
        raise translated(answer.error, f"{doing} of {answer.topic}/{answer.partition}", SourceUnavailable)
