"""The samples topic: kept windows of all workers, and the reader that fills the trainer's own buffer from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from streamclust.core.clock import Clock
from streamclust.core.errors import MessageTooLarge, SinkUnavailable, SourceUnavailable
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.store.kept import Damaged, Kept, packed, unpacked
from streamclust.stream.kafka.ports import (
    Bounds,
    Client,
    Consumer,
    ConsumerOptions,
    Fetched,
    Outgoing,
    Part,
    Producer,
    part_of,
)
from streamclust.stream.kafka.topics import make_sure

FLUSH_TIMEOUT = 1.0
"""Seconds that acknowledgements of the windows of the last call are waited for; they have mostly come by then."""
MESSAGES = 256
"""Read at once."""
_WAIT = 0.25


class KafkaKeeper:
    """Sends kept windows to the samples topic; a `keeper.Taker`. Some may be lost in a crash, none matters.

    Nothing is asked of a broker before the first `put`.

    Parameters
    ----------
    profile_digest
        Of the profile that the windows were made with.
    """

    def __init__(self, client: Client, kafka: KafkaSpec, profile_digest: str) -> None:
        self._client = client
        self._kafka = kafka
        self._digest = profile_digest
        self._producer: Producer | None = None
        self.too_large = 0
        """Windows that the topic does not take."""

    def put(self, kept: Sequence[Kept], /) -> int:
        """See that the windows of the last call are acknowledged, then send these; return how many.

        Raises
        ------
        SinkUnavailable
            Some were not acknowledged, or cannot be sent now.
        NotAllowed
            The topic is missing and may not be created.
        """
        try:
            producer = self._connected()
            self._settle(producer)
            return sum(self._sent(producer, one) for one in kept)
        except SinkUnavailable:
            producer_was, self._producer = self._producer, None
            if producer_was is not None:
                producer_was.close()
            raise

    def close(self) -> None:
        """See that all is acknowledged, and release the connection. May be called twice; SinkUnavailable."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                self._settle(producer)
            finally:
                producer.close()

    def _sent(self, producer: Producer, kept: Kept) -> bool:
        key = kept.stream.encode(errors="backslashreplace")
        try:
            producer.send(Outgoing(self._kafka.topics.samples, packed(kept, self._digest), key))
        except MessageTooLarge:
            self.too_large += 1
            return False
        return True

    def _settle(self, producer: Producer) -> None:
        try:
            producer.flush(FLUSH_TIMEOUT)
        except MessageTooLarge:
            self.too_large += 1

    def _connected(self) -> Producer:
        if self._producer is None:
            make_sure(self._client, self._kafka, ["samples"])
            self._producer = self._client.producer()
        return self._producer


class Fillable(Protocol):
    """What is filled: `store.buffer.Buffer`."""

    def put(self, kept: Sequence[Kept], marks: Mapping[str, int] | None = None) -> int:
        """Take windows, and remember how far the topic was read, together."""
        ...

    def marks(self) -> dict[str, int]:
        """Return what was remembered."""
        ...


class Filled(NamedTuple):
    """What one `fill` did."""

    messages: int
    taken: int
    """Windows that were new to the buffer."""
    damaged: int
    """Messages that are no kept windows."""
    foreign: int
    """Of another profile."""
    complete: bool
    """Whether the end was reached that the topic had at the beginning."""


@dataclass(slots=True)
class _Tally:
    messages: int = 0
    taken: int = 0
    damaged: int = 0
    foreign: int = 0


class SamplesReader:
    """Reads the topic into a buffer, on from where that buffer has it; one reader for one buffer.

    Because a message and how far was read are stored together, and a window that is there is passed over, a buffer
    that is filled in any portions, with any crashes, has the windows once. It may begin empty at any time.
    """

    def __init__(self, client: Client, kafka: KafkaSpec, profile_digest: str, clock: Clock) -> None:
        self._client = client
        self._kafka = kafka
        self._digest = profile_digest
        self._clock = clock

    def fill(self, buffer: Fillable, limit_s: float) -> Filled:
        """Read to the end that the topic has now, for at most `limit_s` seconds.

        Raises
        ------
        SourceUnavailable, NotAllowed
            The brokers or the topic are not there; what was read until then is in the buffer.
        SinkUnavailable
            The buffer cannot be written.
        """
        deadline = self._clock.monotonic() + limit_s
        try:
            make_sure(self._client, self._kafka, ["samples"])
        except SinkUnavailable as error:
            raise SourceUnavailable(str(error)) from error
        consumer = self._client.consumer(ConsumerOptions(topics=(self._kafka.topics.samples,)))
        try:
            return self._filled(consumer, buffer, deadline)
        finally:
            consumer.close()

    def _filled(self, consumer: Consumer, buffer: Fillable, deadline: float) -> Filled:
        bounds = consumer.bounds(consumer.assigned())
        at = _starts(_known(buffer.marks()), bounds)
        for part, offset in at.items():
            consumer.seek(part, offset)
        tally = _Tally()
        while behind := {part for part in at if at[part] < bounds[part].high}:
            if self._clock.monotonic() > deadline:
                break
            fetched = consumer.poll(MESSAGES, _WAIT)
            for part in fetched.gone:
                at[part] = max(at[part], consumer.bounds([part]).get(part, bounds[part]).low)
                consumer.seek(part, at[part])
            self._take(fetched, buffer, at, tally)
            if not fetched.messages:
                self._passed(consumer, behind, at)
        return Filled(tally.messages, tally.taken, tally.damaged, tally.foreign, complete=not behind)

    def _take(self, fetched: Fetched, buffer: Fillable, at: dict[Part, int], tally: _Tally) -> None:
        kept = []
        for message in fetched.messages:
            at[message.part] = message.offset + 1
            try:
                one = unpacked(message.value or b"", self._digest)
            except Damaged:
                tally.damaged += 1
                continue
            tally.foreign += one is None
            kept += [one] if one is not None else []
        tally.messages += len(fetched.messages)
        if fetched.messages or fetched.gone:
            tally.taken += buffer.put(kept, {part.label: offset for part, offset in at.items()})

    def _passed(self, consumer: Consumer, behind: set[Part], at: dict[Part, int]) -> None:
        """Go past what retention took away meanwhile."""
        for part, bound in consumer.bounds(behind).items():
            if bound.low > at[part]:
                at[part] = bound.low
                consumer.seek(part, bound.low)


def _starts(marks: Mapping[Part, int], bounds: Mapping[Part, Bounds]) -> dict[Part, int]:
    """Return where to begin: where it was left, unless that is not, or not yet, in the topic (which was made anew)."""
    return {
        part: marks[part] if part in marks and low <= marks[part] <= high else low
        for part, (low, high) in bounds.items()
    }


def _known(marks: Mapping[str, int]) -> dict[Part, int]:
    return {part_of(label): offset for label, offset in marks.items() if label.rpartition("/")[2].isdigit()}
