"""Which of a publisher's messages are in a topic: reads it, without a group, from given ends until no more of them come."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress

from streamclust.core.clock import Clock
from streamclust.core.errors import SourceUnavailable, StateError
from streamclust.stream.kafka.ports import Bounds, Client, Consumer, ConsumerOptions, Message, Part

PUBLISHER, POSITION = "publisher", "position"
"""Headers of every message that is published."""
POLL, POLL_S = 5000, 0.25
HOLLOW_S = 5.0
"""Offsets before the end at which nothing comes for so long hold no messages (marks of transactions)."""


def digest(value: bytes) -> str:
    """Short text that differs where the bytes do."""
    return hashlib.blake2b(value, digest_size=8).hexdigest()


class Arrivals:
    """Looks into one topic. Every method may raise SourceUnavailable: call again."""

    def __init__(self, client: Client, topic: str, partitions: int, clock: Clock) -> None:
        self._client = client
        self._topic = topic
        self._parts = tuple(Part(topic, n) for n in range(partitions))
        self._clock = clock
        self._consumer: Consumer | None = None

    def ends(self) -> dict[str, int]:
        """Return the offset of the next message of each partition."""
        return {part.label: bound.high for part, bound in self._bounds().items()}

    def check(self, ends: Mapping[str, int]) -> None:
        """Look whether the topic is the one that had these ends.

        Raises
        ------
        StateError
            It ends before them: it is another one of the same name.
        """
        for label, end in self.ends().items():
            if end < ends.get(label, 0):
                raise StateError(
                    f"{label} ends at {end}, but ended at {ends[label]} when this state was saved: "
                    "it is not the same topic; give another --state to publish all again"
                )

    def since(self, ends: Mapping[str, int], publisher: str, settle_s: float) -> dict[str, str]:
        """Return position -> digest of the publisher's messages from `ends` on.

        It returns when everything has been read to the ends that were there when none of them had come for `settle_s`;
        others may go on to publish into the topic.
        """
        at = {part: max(bound.low, ends.get(part.label, 0)) for part, bound in self._bounds().items()}
        try:
            return self._read(at, publisher, settle_s)
        finally:
            with suppress(SourceUnavailable):
                self._use().pause(self._parts)

    def close(self) -> None:
        """Release the connection. May be called twice."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _read(self, at: dict[Part, int], publisher: str, settle_s: float) -> dict[str, str]:
        consumer, mine = self._use(), publisher.encode()
        for part, offset in at.items():
            consumer.seek(part, offset)
        consumer.resume(self._parts)
        found: dict[str, str] = {}
        highs: dict[Part, int] = {}
        looked = came = quiet_since = self._clock.monotonic()
        while True:
            if _reached(at, highs) or self._clock.monotonic() - came >= HOLLOW_S:
                if highs and looked - quiet_since >= settle_s:
                    return found
                looked = self._clock.monotonic()
                highs = {part: bound.high for part, bound in self._bounds().items()}
                if _reached(at, highs) and looked - quiet_since >= settle_s:
                    return found
            fetched = consumer.poll(POLL, POLL_S)
            for part in fetched.gone:
                at[part] = self._bounds()[part].low
                consumer.seek(part, at[part])
            known = len(found)
            for message in fetched.messages:
                at[message.part] = message.offset + 1
                _note(message, mine, found)
            now = self._clock.monotonic()
            if any(message.offset < highs.get(message.part, 0) for message in fetched.messages):
                came = now
            if len(found) > known:
                quiet_since = now

    def _bounds(self) -> dict[Part, Bounds]:
        found = self._use().bounds(self._parts)
        if len(found) != len(self._parts):
            self.close()
            raise SourceUnavailable(f"{self._topic}: {len(self._parts) - len(found)} of its partitions do not answer")
        return found

    def _use(self) -> Consumer:
        if self._consumer is None:
            consumer = self._client.consumer(ConsumerOptions(topics=[self._topic]))
            consumer.poll(1, 0.0)
            consumer.pause(self._parts)
            self._consumer = consumer
        return self._consumer


def _reached(at: Mapping[Part, int], highs: Mapping[Part, int]) -> bool:
    return all(at[part] >= high for part, high in highs.items())


def _note(message: Message, mine: bytes, found: dict[str, str]) -> None:
    headers = dict(message.headers)
    if headers.get(PUBLISHER) == mine:
        found[headers.get(POSITION, b"").decode("utf-8", "surrogateescape")] = digest(message.value or b"")
