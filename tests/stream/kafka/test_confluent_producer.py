from __future__ import annotations

from types import SimpleNamespace

import pytest

from streamclust.core.clock import ManualClock
from streamclust.core.errors import Fenced, MessageTooLarge, Rebalanced, SinkUnavailable
from streamclust.stream.kafka.confluent_errors import Causes
from streamclust.stream.kafka.confluent_producer import ConfluentProducer, ConfluentTransactional
from streamclust.stream.kafka.ports import Outgoing, Part

ck = pytest.importorskip("confluent_kafka")
ONE = Outgoing("t", b"one")


def exception(code, **more):
    return ck.KafkaException(ck.KafkaError(getattr(ck.KafkaError, code), **more))


class Library:
    """A producer of the library: acknowledges at `flush` what it was given, with the errors that a test sets."""

    def __init__(self, **raising):
        self.raising = raising
        self.told = []
        self.waiting = []
        self.errors = []
        self.silent = False
        self.full = 0

    def produce(self, topic, value, key, partition, on_delivery, **_):
        self._note("produce")
        if self.full:
            self.full -= 1
            raise BufferError
        self.waiting.append((on_delivery, value, topic))

    def flush(self, timeout):
        self._note("flush")
        if not self.silent:
            for report, value, topic in self.waiting:
                error = self.errors.pop(0) if self.errors else None
                report(error, SimpleNamespace(value=lambda value=value: value, topic=lambda topic=topic: topic))
            self.waiting = []
        return len(self.waiting)

    def purge(self, **_):
        self._note("purge")
        purged = ck.KafkaError(ck.KafkaError._PURGE_QUEUE)
        self.errors = [purged] * len(self.waiting)
        self.silent = False

    def _note(self, name):
        self.told.append(name)
        if name in self.raising:
            raise self.raising[name]

    def __getattr__(self, name):
        return lambda *_: self._note(name)


class Factory:
    """Gives one library after the other."""

    def __init__(self, *libraries):
        self.libraries = list(libraries)

    def __call__(self):
        if not self.libraries:
            raise SinkUnavailable("no broker")
        return self.libraries.pop(0), Causes()


def test_a_producer_whose_messages_are_not_acknowledged_is_emptied_and_replaced():
    first, second = Library(), Library()
    producer = ConfluentProducer(Factory(first, second), 1.0)
    first.silent = True
    producer.send(ONE)
    producer.send(ONE)

    with pytest.raises(SinkUnavailable, match="2 of 2 messages are not acknowledged"):
        producer.flush(0.1)
    assert "purge" in first.told
    producer.flush(0.1)  # nothing was sent since
    producer.send(ONE)
    producer.flush(0.1)
    assert second.told == ["produce", "poll", "flush"]


def test_one_message_that_is_refused_fails_the_flush():
    library = Library()
    producer = ConfluentProducer(Factory(library), 1.0)
    library.errors = [None, ck.KafkaError(ck.KafkaError.NOT_ENOUGH_REPLICAS), None]
    for _ in range(3):
        producer.send(ONE)

    with pytest.raises(SinkUnavailable, match="NOT_ENOUGH_REPLICAS"):
        producer.flush(0.1)


def test_a_message_that_is_too_large_is_named_among_other_failures():
    library = Library()
    producer = ConfluentProducer(Factory(library), 1.0)
    library.errors = [ck.KafkaError(ck.KafkaError._MSG_TIMED_OUT), ck.KafkaError(ck.KafkaError.MSG_SIZE_TOO_LARGE)]
    for value in (b"x", b"large"):
        producer.send(Outgoing("t", value))

    with pytest.raises(MessageTooLarge, match="5 bytes to t"):
        producer.flush(0.1)


def test_a_full_queue_is_waited_for_and_not_for_ever():
    library = Library()
    producer = ConfluentProducer(Factory(library), 0.5)
    library.full = 3
    producer.send(ONE)
    producer.flush(0.1)
    library.full = 1000

    with pytest.raises(SinkUnavailable, match="queue"):
        producer.send(ONE)


def test_what_was_sent_before_a_fatal_error_is_missed_by_the_flush():
    first, second = Library(), Library()
    producer = ConfluentProducer(Factory(first, second), 1.0)
    producer.send(ONE)
    first.raising["produce"] = exception("OUT_OF_ORDER_SEQUENCE_NUMBER", fatal=True)
    with pytest.raises(SinkUnavailable):
        producer.send(ONE)

    producer.send(ONE)  # by the second
    with pytest.raises(SinkUnavailable):
        producer.flush(0.1)


def test_after_closing_nothing_is_sent():
    library = Library()
    producer = ConfluentProducer(Factory(library), 1.0)
    producer.close()
    producer.close()
    with pytest.raises(SinkUnavailable, match="closed"):
        producer.send(ONE)
    assert "produce" not in library.told


def transactional(*libraries):
    clock = ManualClock()
    return ConfluentTransactional(Factory(*libraries), 1.0, 5.0, clock), clock


def test_the_order_is_messages_acknowledgements_offsets_commit():
    library = Library()
    transactional(library)[0].transact([ONE], {Part("t", 0): 1}, object())

    assert library.told == [
        "init_transactions", "begin_transaction", "produce", "poll", "flush", "send_offsets_to_transaction",
        "commit_transaction",
    ]  # fmt: skip


@pytest.mark.parametrize("lost", ["silent", "refused"])
def test_nothing_is_committed_unless_every_message_is_acknowledged(lost):
    first, second = Library(), Library()
    producer, _ = transactional(first, second)
    first.silent = lost == "silent"
    first.errors = [ck.KafkaError(ck.KafkaError._MSG_TIMED_OUT)]

    with pytest.raises(SinkUnavailable):
        producer.transact([ONE, ONE], {Part("t", 0): 1}, object())
    assert "commit_transaction" not in first.told
    assert "send_offsets_to_transaction" not in first.told
    assert second.told == ["init_transactions"]  # at once: it aborts what the first has left


@pytest.mark.parametrize(
    ("step", "code", "ours"),
    [
        ("send_offsets_to_transaction", "ILLEGAL_GENERATION", Rebalanced),
        ("send_offsets_to_transaction", "FENCED_INSTANCE_ID", Fenced),
        ("commit_transaction", "_TIMED_OUT", SinkUnavailable),
        ("begin_transaction", "_STATE", SinkUnavailable),
        ("produce", "MSG_SIZE_TOO_LARGE", MessageTooLarge),
    ],
)
def test_each_failure_of_a_transaction_throws_its_producer_away(step, code, ours):
    first, second = Library(**{step: exception(code)}), Library()
    producer, _ = transactional(first, second)

    with pytest.raises(ours):
        producer.transact([ONE], {Part("t", 0): 1}, object())
    assert "purge" in first.told
    first.told.clear()
    if ours is not Fenced:
        producer.transact([ONE], {}, None)
        assert "commit_transaction" in second.told
    assert not first.told


def test_a_fenced_producer_does_not_come_back_to_fence_the_other():
    first, second = Library(flush=exception("_FENCED", fatal=True)), Library()
    producer, _ = transactional(first, second)

    for _ in range(2):
        with pytest.raises(Fenced):
            producer.transact([ONE], {}, None)
    assert second.told == []


def test_a_transaction_that_the_broker_gave_up_is_no_fencing():
    first, second = Library(commit_transaction=exception("_FENCED", fatal=True)), Library()
    producer, clock = transactional(first, second)

    class Slow(list):
        def __iter__(self):
            clock.sleep(6.0)
            return super().__iter__()

    with pytest.raises(SinkUnavailable, match=r"took 6\.0 s"):
        producer.transact(Slow([ONE]), {}, None)
    producer.transact([ONE], {}, None)
    assert "commit_transaction" in second.told


def test_a_producer_that_cannot_be_made_anew_is_made_by_the_next_transaction():
    first = Library(commit_transaction=exception("_TIMED_OUT"))
    producer, _ = transactional(first)
    with pytest.raises(SinkUnavailable, match="_TIMED_OUT"):
        producer.transact([ONE], {}, None)
    with pytest.raises(SinkUnavailable, match="no broker"):
        producer.transact([ONE], {}, None)
    later = Library()
    producer._make.libraries.append(later)
    producer.transact([ONE], {}, None)

    assert later.told[0] == "init_transactions"
    assert later.told[-1] == "commit_transaction"
