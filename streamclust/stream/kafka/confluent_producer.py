"""The producers of confluent-kafka: every message's acknowledgement is counted.

What failed in an unclear way is thrown away with all that it holds, so that nothing is sent later beside what
the caller sends again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from streamclust.core.clock import Clock
from streamclust.core.errors import Fenced, SinkUnavailable, StreamclustError
from streamclust.stream.kafka.confluent_errors import FENCED, TOO_LARGE, Causes, error_of, library_errors, translated
from streamclust.stream.kafka.ports import Outgoing, Part

if TYPE_CHECKING:
    from confluent_kafka import KafkaError
    from confluent_kafka import Message as LibraryMessage
    from confluent_kafka import Producer as LibraryProducer

Make = Callable[[], "tuple[LibraryProducer, Causes]"]
"""Connects a new producer; raises SinkUnavailable."""
QUEUE_WAIT = 0.1
"""Seconds that a full queue is served at once."""
PURGE_WAIT = 0.5
"""Seconds that purged messages may take to be reported."""


class Deliveries:
    """Counts messages sent and acknowledged since the last flush, and keeps the first refusal."""

    def __init__(self) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.refused: KafkaError | None = None
        self.where = ""

    def report(self, error: KafkaError | None, message: LibraryMessage) -> None:
        """Take the report of one message: the library's `on_delivery`."""
        if error is None:
            self.acknowledged += 1
        elif self.refused is None or error.name() in TOO_LARGE:
            self.refused = error
            self.where = f"a message of {len(message.value() or b'')} bytes to {message.topic()}"

    def missing(self) -> str:
        """Return how many are not acknowledged, for a message."""
        return f"{self.sent - self.acknowledged} of {self.sent} messages are not acknowledged"

    @property
    def complete(self) -> bool:
        """Whether every message is acknowledged."""
        return self.acknowledged == self.sent


class ConfluentProducer:
    """Keeps the promises of `ports.Producer`."""

    def __init__(self, make: Make, timeout: float) -> None:
        self._make = make
        self._timeout = timeout
        self._deliveries = Deliveries()
        self._library: LibraryProducer | None = None
        self._library, self._causes = make()
        self._closed = False

    def send(self, message: Outgoing) -> None:
        """Hand over one message; waits while the queue is full, for one request's time at most."""
        if self._closed:
            raise SinkUnavailable("the producer is closed")
        if self._library is None:
            self._library, self._causes = self._make()
        try:
            produce(self._library, message, self._deliveries, self._timeout)
        except library_errors() as error:
            carried = error_of(error)
            if carried.fatal() or carried.name() == "_FATAL":
                self._drop()
            raise translated(carried, _describe(message), SinkUnavailable, self._causes) from error

    def flush(self, timeout: float) -> None:
        """Return when each message is acknowledged; otherwise throw the producer away."""
        if self._deliveries.sent == 0:
            return
        failure = None if self._library is None else _flushed(self._library, timeout)
        deliveries, self._deliveries = self._deliveries, Deliveries()
        if deliveries.complete:
            return
        refused = deliveries.refused or failure
        self._drop()
        if refused is None:
            raise SinkUnavailable(f"{deliveries.missing()} after {timeout:g} s{self._causes.text()}")
        raise translated(refused, deliveries.where, SinkUnavailable, self._causes)

    def close(self) -> None:
        """Release everything. May be called twice."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        library, self._library = self._library, None
        if library is not None:
            discard(library)


class ConfluentTransactional:
    """Keeps the promises of `ports.TransactionalProducer`."""

    def __init__(self, make: Make, timeout: float, transaction_timeout: float, clock: Clock) -> None:
        self._make = make
        self._timeout = timeout
        self._transaction_timeout = transaction_timeout
        self._clock = clock
        self._library: LibraryProducer | None = None
        self._causes = Causes()
        self._ended: StreamclustError | None = None
        self._ready()

    def transact(self, messages: Sequence[Outgoing], offsets: Mapping[Part, int], group: Any) -> None:
        """Do one whole transaction, within the time that the broker gives it; otherwise it is aborted."""
        library = self._ready()
        began = self._clock.monotonic()
        try:
            self._done(library, messages, offsets, group)
        except library_errors() as error:
            failure = self._failure(error_of(error), began)
            self._undo(library, failure)
            raise failure from error
        except StreamclustError as failure:
            self._undo(library, failure)
            raise

    def close(self) -> None:
        """Abort what is open and release everything. May be called twice."""
        self._ended = SinkUnavailable("the producer is closed")
        library, self._library = self._library, None
        if library is not None:
            discard(library)

    def _done(
        self, library: LibraryProducer, messages: Sequence[Outgoing], offsets: Mapping[Part, int], group: Any
    ) -> None:
        from confluent_kafka import TopicPartition

        end = self._clock.monotonic() + self._transaction_timeout
        deliveries = Deliveries()
        library.begin_transaction()
        for message in messages:
            self._handed(library, message, deliveries, end)
        library.flush(self._left(end))
        if deliveries.refused is not None:
            raise translated(deliveries.refused, deliveries.where, SinkUnavailable, self._causes)
        if not deliveries.complete:
            raise SinkUnavailable(f"{deliveries.missing()}{self._causes.text()}")
        if offsets:
            positions = [TopicPartition(part.topic, part.number, offset) for part, offset in offsets.items()]
            library.send_offsets_to_transaction(positions, group, self._left(end))
        library.commit_transaction(self._left(end))

    def _handed(self, library: LibraryProducer, message: Outgoing, deliveries: Deliveries, end: float) -> None:
        """Hand over one message; only one that is too large is told apart."""
        try:
            produce(library, message, deliveries, self._left(end))
        except library_errors() as error:
            carried = error_of(error)
            if carried.name() not in TOO_LARGE:
                raise
            raise translated(carried, _describe(message), SinkUnavailable) from error

    def _left(self, end: float) -> float:
        return max(0.1, end - self._clock.monotonic())

    def _failure(self, error: KafkaError, began: float) -> StreamclustError:
        """Return our error; a broker that gave up waiting fences us just as another process does."""
        took = self._clock.monotonic() - began
        if error.name() in FENCED and took >= self._transaction_timeout:
            return SinkUnavailable(f"a transaction took {took:.1f} s and was aborted: {error.str()}")
        return translated(error, "a transaction", SinkUnavailable, self._causes)

    def _undo(self, library: LibraryProducer, failure: StreamclustError) -> None:
        """Make the producer anew, which aborts what it left; if not now, then before the next transaction.

        A producer that has aborted by itself may purge messages of its next transaction. One that was fenced
        ends: made anew, it would fence the other.
        """
        self._library = None
        discard(library)
        if isinstance(failure, Fenced):
            self._ended = failure
            return
        with suppress(SinkUnavailable):
            self._ready()

    def _ready(self) -> LibraryProducer:
        if self._ended is not None:
            raise self._ended
        if self._library is not None:
            return self._library
        library, self._causes = self._make()
        try:
            library.init_transactions(self._timeout)
        except library_errors() as error:
            discard(library)
            raise translated(error_of(error), "beginning transactions", SinkUnavailable, self._causes) from error
        self._library = library
        return library


def produce(library: LibraryProducer, message: Outgoing, deliveries: Deliveries, timeout: float) -> None:
    """Hand one message to the library; while its queue is full, wait `timeout` seconds at most.

    Raises
    ------
    SinkUnavailable
        The queue stays full.
    KafkaException
        The library does not take it.
    """
    waited = 0.0
    while True:
        try:
            library.produce(
                message.topic,
                message.value,
                message.key,
                -1 if message.partition is None else message.partition,
                on_delivery=deliveries.report,
                timestamp=message.timestamp_ms or 0,
                headers=list(message.headers),
            )
        except BufferError:
            if waited >= timeout:
                raise SinkUnavailable(f"the queue of the producer is full for {waited:g} s") from None
            library.poll(QUEUE_WAIT)
            waited += QUEUE_WAIT
        else:
            deliveries.sent += 1
            library.poll(0)
            return


def discard(library: LibraryProducer) -> None:
    """End a producer; what it still holds is never sent."""
    with suppress(*library_errors()):
        library.purge(in_queue=True, in_flight=True)
        library.flush(PURGE_WAIT)


def _flushed(library: LibraryProducer, timeout: float) -> KafkaError | None:
    """Wait for acknowledgements; return what ended that for good."""
    try:
        library.flush(timeout)
    except library_errors() as error:
        return error_of(error)
    return None


def _describe(message: Outgoing) -> str:
    return f"a message of {len(message.value or b'')} bytes to {message.topic}"
