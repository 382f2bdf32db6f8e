"""The ledger: what was given out is known to whoever takes over, and no more than is needed."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
from broker_faults import delete_topic

from streamclust.core.clock import SystemClock
from streamclust.core.errors import SourceUnavailable
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.core.types import Event
from streamclust.stream.kafka.clients import CLIENTS
from streamclust.stream.kafka.ledger import Ledger
from streamclust.stream.kafka.ports import Part

P, Q = Part("in", 0), Part("in", 1)


def event(window_id: str, **needs: int) -> Event:
    labels = {"p": P.label, "q": Q.label}
    where = {labels[name]: offset for name, offset in needs.items()}
    return Event(
        window_id,
        "s",
        0,
        1,
        1.0,
        "x/1",
        1,
        "C1",
        None,
        {},
        0.0,
        is_novel=False,
        peak=1.0,
        rms=1.0,
        gap_fraction=0.0,
        needs=where,
    )


@pytest.fixture(params=sorted(CLIENTS))
def ledgers(request, kafka, unique):
    """Make ledgers of one topic, one for each owner, as one after the other has the partitions."""
    spec = KafkaSpec.model_validate({"bootstrap": kafka.bootstrap.split(","), "topics": {"ledger": unique}})
    client = CLIENTS[request.param](spec)
    producers = []

    def make(group: str = "g", patience: float = 5.0) -> Ledger:
        return Ledger(client, spec, group, SystemClock(), patience)

    def commit(ledger: Ledger, events, positions) -> None:
        entries, state = ledger.entries(events, positions)
        producer = client.producer()
        for entry in entries:
            producer.send(entry)
        producer.flush(10)
        producer.close()
        ledger.done(state)

    make.commit = commit
    make.client = client
    yield make
    for producer in producers:
        producer.close()


def test_the_next_owner_knows_the_position_and_what_would_be_given_out_again(ledgers):
    first = ledgers()
    assert first.positions([P, Q]) == {P: None, Q: None}
    ledgers.commit(first, [event("a", p=3), event("b", p=7), event("c", q=1)], {P.label: 5, Q.label: 1})

    second = ledgers()
    assert second.positions([P]) == {P: 5}

    again = [event("a", p=3), event("b", p=7), event("d", p=9)]
    assert [e.window_id for e in second.new(again)] == ["a", "d"], "a lies before the position: it cannot come again"


def test_what_the_position_has_passed_is_dropped_so_that_records_stay_small(ledgers):
    owner = ledgers()
    owner.positions([P])
    ledgers.commit(owner, [event(f"w{n}", p=n) for n in range(100)], {P.label: 0})
    ledgers.commit(owner, [], {P.label: 98})

    entries, _ = owner.entries([event("new", p=120)], {P.label: 119})

    assert len(entries) == 1
    assert len(entries[0].value) < 100
    assert b"new" in entries[0].value


def test_nothing_new_writes_nothing(ledgers):
    owner = ledgers()
    owner.positions([P])
    ledgers.commit(owner, [event("a", p=3)], {P.label: 1})

    assert owner.entries([], {}) == ([], owner.entries([], {})[1])
    assert owner.entries([], {P.label: 1})[0] == []


def test_a_topic_that_was_made_anew_is_another_one_of_which_nothing_was_read(ledgers, kafka):
    part = Part(kafka.new_topic(1), 0)
    first = ledgers()
    first.positions([part])
    given = event("a")._replace(needs={part.label: 3})
    ledgers.commit(first, [given], {part.label: 2})
    assert ledgers().positions([part]) == {part: 2}

    delete_topic(kafka.bootstrap, part.topic)
    kafka.new_topic(1, name=part.topic)

    later = ledgers()
    assert later.positions([part]) == {part: None}
    assert later.new([given]) == [given]


def test_groups_that_share_a_topic_know_nothing_of_each_other(ledgers):
    one = ledgers("one")
    one.positions([P])
    ledgers.commit(one, [event("a", p=3)], {P.label: 2})

    other = ledgers("other")

    assert other.positions([P]) == {P: None}
    assert len(other.new([event("a", p=3)])) == 1


def test_an_open_transaction_of_the_last_owner_is_waited_for_or_told(ledgers, kafka, unique):
    from kafka import KafkaProducer

    owner = ledgers()
    owner.positions([P])
    entries, _ = owner.entries([event("a", p=3)], {P.label: 2})
    zombie = KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"zombie-{unique}")
    zombie.init_transactions()
    zombie.begin_transaction()
    zombie.send(entries[0].topic, entries[0].value, entries[0].key, partition=0).get(10)

    with pytest.raises(SourceUnavailable, match="still open"):
        ledgers(patience=1.5).positions([P])

    def finish() -> None:
        time.sleep(1.0)
        zombie.commit_transaction()

    finishing = threading.Thread(target=finish)
    finishing.start()
    try:
        assert ledgers(patience=15.0).positions([P]) == {P: 2}, "decided while we waited, and seen"
    finally:
        finishing.join()
        zombie.close()


def test_a_record_of_very_many_windows_is_taken(ledgers):
    owner = ledgers()
    owner.positions([P])
    many = [event(uuid.uuid4().hex[:24], p=5) for _ in range(80_000)]

    ledgers.commit(owner, many, {P.label: 1})

    later = ledgers()
    assert later.positions([P]) == {P: 1}
    assert later.new([many[0], many[-1], event("new", p=5)]) == [event("new", p=5)]


def test_a_record_that_is_none_stops_the_reading_instead_of_being_taken_for_nothing(ledgers):
    owner = ledgers()
    owner.positions([P])
    entries, _ = owner.entries([event("a", p=3)], {P.label: 2})
    producer = ledgers.client.producer()
    producer.send(entries[0]._replace(value=b"\xc1 junk"))
    producer.flush(10)
    producer.close()

    with pytest.raises(SourceUnavailable, match="a record that is none"):
        ledgers().positions([P])
