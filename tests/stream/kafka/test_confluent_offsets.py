from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace

import pytest

from streamclust.core.errors import Rebalanced, SourceUnavailable
from streamclust.stream.kafka.confluent_errors import error_of, library_errors, translated
from streamclust.stream.kafka.confluent_offsets import BEGINNING, END, Offsets, position_of
from streamclust.stream.kafka.ports import Bounds, Part

ck = pytest.importorskip("confluent_kafka")
P, Q = Part("t", 0), Part("gone", 0)


@contextlib.contextmanager
def asking(doing):
    try:
        yield
    except library_errors() as error:
        raise translated(error_of(error), doing, SourceUnavailable) from error


def answer(part, offset, code=None):
    error = ck.KafkaError(getattr(ck.KafkaError, code)) if code else None
    return SimpleNamespace(topic=part.topic, partition=part.number, offset=offset, error=error)


class Library:
    """Answers with `ends`; partitions that are not among them are unknown to it, all together by an exception."""

    def __init__(self, ends, topics=None):
        self.ends, self.topics = ends, topics
        self.calls = []

    def offsets_for_times(self, positions, timeout):
        self.calls.append(timeout)
        parts = [Part(p.topic, p.partition) for p in positions]
        if not any(part in self.ends for part in parts):
            raise ck.KafkaException(ck.KafkaError(ck.KafkaError._UNKNOWN_PARTITION))
        return [
            answer(part, self.ends[part][p.offset]) if part in self.ends else answer(part, END, "_UNKNOWN_TOPIC")
            for part, p in zip(parts, positions, strict=True)
        ]

    def list_topics(self, topic, timeout):
        if self.topics is None:
            raise ck.KafkaException(ck.KafkaError(ck.KafkaError._TRANSPORT))
        numbers = self.topics.get(topic)
        error = None if numbers is not None else ck.KafkaError(ck.KafkaError.UNKNOWN_TOPIC_OR_PART)
        return SimpleNamespace(topics={topic: SimpleNamespace(error=error, partitions=numbers or {})})

    def committed(self, positions, timeout):
        return [answer(P, 7), answer(Part("t", 1), -1001)]

    def commit(self, offsets, asynchronous):
        self.calls.append(offsets)
        return [answer(P, 9, "ILLEGAL_GENERATION")]


def test_what_does_not_exist_is_left_out():
    offsets = Offsets(Library({P: {BEGINNING: 3, END: 9}}, {"t": {0: None}}), asking, 1.0)

    assert offsets.bounds([P, Q]) == {P: Bounds(3, 9)}
    assert offsets.bounds([Q]) == {}
    assert offsets.bounds([]) == {}


@pytest.mark.parametrize("topics", [None, {"gone": {0: None}}])
def test_what_is_only_unknown_for_now_is_no_empty_answer(topics):
    with pytest.raises(SourceUnavailable):
        Offsets(Library({}, topics), asking, 1.0).bounds([Q])


def test_a_time_after_the_last_message_gives_the_end():
    offsets = Offsets(Library({P: {END: 9, 1000: 4, 2000: -1}}), asking, 1.0)

    assert offsets.at([P], 1000) == {P: 4}
    assert offsets.at([P], 2000) == {P: 9}


def test_what_was_never_committed_is_none():
    assert Offsets(Library({}), asking, 1.0).committed([P, Part("t", 1)]) == {P: 7, Part("t", 1): None}


def test_a_commit_that_fails_for_a_partition_fails():
    with pytest.raises(Rebalanced, match="t/0"):
        Offsets(Library({}), asking, 1.0).commit({P: 9})


def test_a_commit_is_not_begun_when_the_coordinator_does_not_answer():
    library = Library({})

    def silent(*_):
        raise ck.KafkaException(ck.KafkaError(ck.KafkaError._TIMED_OUT))

    library.committed = silent
    with pytest.raises(SourceUnavailable):
        Offsets(library, asking, 1.0).commit({P: 9})
    assert library.calls == []


def test_a_commit_that_is_never_answered_is_left_behind_and_no_other_overtakes_it():
    library, answered, begun = Library({}), threading.Event(), []

    def commit(offsets, **_):
        begun.append(offsets)
        answered.wait(30)
        return offsets

    library.commit = commit
    library.committed = lambda positions, _timeout: positions
    offsets = Offsets(library, asking, 0.1)
    for _ in range(2):
        with pytest.raises(SourceUnavailable):
            offsets.commit({P: 9})
    assert len(begun) == 1
    assert not offsets.settled(0.0)

    answered.set()
    assert offsets.settled(10.0)
    offsets.commit({P: 9})
    assert len(begun) == 2


def test_a_position_names_partition_and_offset():
    assert (position_of(P, 5).topic, position_of(P, 5).partition, position_of(P, 5).offset) == ("t", 0, 5)
