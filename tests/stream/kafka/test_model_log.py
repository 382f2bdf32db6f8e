"""What counts in the models topic: all readers agree, nothing in it makes them stop."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamclust.core.errors import CorruptModel, ModelError, ProfileMismatch
from streamclust.store.activations import Activation
from streamclust.stream.kafka import model_log
from streamclust.stream.kafka.model_log import PART_BYTES, Keyed, ModelLog, announced, packed, unpacked

FILES = {"model.json": b"{}", "model.safetensors": b"w" * (PART_BYTES + 7)}


def accept(_files):
    """Take any model."""


def first(seq=1, version=1, start=0):
    return Activation(seq, version, start, 0, "first fit")


def message(seq=1, version=1, author="a", files=FILES, profile="p"):
    """Return the parts of a model and its activation."""
    sha, parts = packed(files, version, author)
    return sha, parts, announced(first(seq, version), sha, profile)


def read(log, *messages):
    return [accepted for m in messages if (accepted := log.read(*m)) is not None]


def test_a_model_counts_with_its_activation_and_comes_back_whole():
    log = ModelLog("p", accept)
    sha, parts, activation = message()
    assert len(parts) == 2
    assert all(len(part.value) <= PART_BYTES for part in parts)

    assert read(log, *parts) == []
    assert read(log, activation) == [(first(), FILES)]
    assert log.activations == (first(),)
    assert log.models == {1: sha}
    assert not log.refused
    assert log.next_seq == 2


def test_the_first_in_the_log_wins_and_the_other_is_to_be_removed():
    log = ModelLog("p", accept)
    _, a, one = message(author="a")
    _, b, two = message(author="b", files={"model.json": b"other"})
    assert read(log, *a, *b, two, one)[0].files == {"model.json": b"other"}

    assert log.removals() == [Keyed(one.key, None), *(Keyed(part.key, None) for part in a)]
    read(log, *log.removals())
    assert log.lost == []
    assert log.removals() == []
    assert log._bytes == 0


def test_the_same_content_of_two_authors_has_no_key_in_common():
    assert not {part.key for part in message(author="a")[1]} & {part.key for part in message(author="b")[1]}


def test_a_message_that_came_twice_counts_once():
    log = ModelLog("p", accept)
    _, parts, activation = message()
    assert len(read(log, *parts, *parts, activation, activation)) == 1
    assert log.lost == []


def test_an_older_version_is_activated_again_without_its_parts():
    log = ModelLog("p", accept)
    sha, parts, activation = message()
    read(log, *parts, activation)
    again = announced(first(2, 1, 50), sha, "p")
    assert read(log, again) == [(first(2, 1, 50), None)]


def test_a_log_whose_beginning_was_removed_begins_where_it_does():
    log = ModelLog("p", accept)
    _, parts, activation = message(seq=5, version=3)
    assert [a.activation.seq for a in read(log, *parts, activation)] == [5]


@pytest.mark.parametrize(
    ("kind", "messages"),
    [
        ("key", [Keyed(b"what", b"x")]),
        ("key", [Keyed(None, b"x")]),
        ("key", [Keyed(b"\xff\xfe", b"x")]),
        ("key", [Keyed(b"model/0/" + b"0" * 64 + b"/1-1", b"x")]),
        ("size", [Keyed(b"model/1/" + b"0" * 64 + b"/1-1", b"x" * (PART_BYTES + 1))]),
        ("size", [Keyed(b"model/1/" + b"0" * 64 + b"/1-9999", b"x")]),
        ("size", [Keyed(b"model/1/" + b"0" * 64 + b"/2-1", b"x")]),
        ("activation", [Keyed(b"activation/1/" + b"0" * 64, b"{}")]),
        ("activation", [Keyed(b"activation/1/" + hashlib.sha256(b"[[").hexdigest().encode(), b"[[")]),
        ("activation", [Keyed(b"activation/1/" + hashlib.sha256(b"{}").hexdigest().encode(), b"{}")]),
        ("model", [message()[2]]),
        ("model", [message()[1][0], message()[2]]),
        ("model", [*message()[1], Keyed(message()[1][0].key, b"other"), message()[2]]),
        ("profile", [*message(profile="q")[1], message(profile="q")[2]]),
        ("model", [*message()[1], message()[2], *message(2, 1, "b")[1], message(2, 1, "b")[2]]),
    ],
)
def test_what_cannot_be_used_is_counted_and_told(kind, messages):
    log = ModelLog("p", accept)
    before = len(read(log, *messages))

    assert before <= 1
    assert log.refused == {kind: 1}
    assert len(log.reasons()) == 1
    assert log.reasons() == ()
    _, parts, activation = message(log.next_seq, 9, "good")
    assert len(read(log, *parts, activation)) == 1, "a good one counts afterwards"


@pytest.mark.parametrize(("error", "kind"), [(CorruptModel("no"), "model"), (ProfileMismatch("no"), "profile")])
def test_a_model_that_cannot_be_used_does_not_count_and_its_number_stays_free(error, kind):
    def check(files):
        if files == FILES:
            raise error

    log = ModelLog("p", check)
    _, parts, activation = message()
    _, others, other = message(author="b", files={"model.json": b"good"})
    assert [a.files for a in read(log, *parts, activation, *others, other)] == [{"model.json": b"good"}]
    assert log.refused == {kind: 1}
    assert log._bytes == 0


def published(log, version, author, topic):
    """Send and read an activation of a version, with its parts unless they are there."""
    sha = log.models.get(version)
    files = {"model.json": str(version).encode(), "big": bytes(model_log.PART_BYTES)}
    if sha is None:
        sha, parts = packed(files, version, author)
        topic += parts
        read(log, *parts)
    sent = announced(first(log.next_seq, version, 10 * log.next_seq), sha, "p")
    topic.append(sent)
    assert len(read(log, sent)) == 1


def compacted(topic, known, cleaned):
    """Return what a compaction leaves: the last messages of keys among the first `known` are known, the first `cleaned` are through."""
    last = {message.key: offset for offset, message in topic if offset < known}
    return [(at, m) for at, m in topic if at >= cleaned or last.get(m.key, at) == at]


def test_older_models_are_removed_from_the_topic_and_come_anew_when_they_are_wanted_again(monkeypatch):
    monkeypatch.setattr(model_log, "KEPT", 3)
    log, topic = ModelLog("p", accept), []
    for version in (1, 2, 3, 4):
        published(log, version, "a", topic)
    assert [entry.version for entry in log.activations] == [2, 3, 4]
    assert [m.key for m in log.removals()] == [topic[2].key, topic[0].key, topic[1].key]

    held = [m for m in topic if m.key not in {gone.key for gone in log.removals()}]
    read(log, *log.removals())
    assert log.removals() == []
    published(log, 1, "b", held)
    late = ModelLog("p", accept)
    assert read(late, *held)[-1] == (first(5, 1, 50), {"model.json": b"1", "big": bytes(PART_BYTES)})
    assert not late.refused


def test_who_was_away_for_long_forgets_what_all_others_have_forgotten(monkeypatch):
    monkeypatch.setattr(model_log, "KEPT", 3)
    log, slow, topic = ModelLog("p", accept), ModelLog("p", accept), []
    for author, version in enumerate([1, 2, 3, 4, 1, 5]):
        published(log, version, str(author), topic)
        if version == 2:
            read(slow, *topic)
            behind = len(topic)
    gone = {message.key for message in log.removals()}
    read(slow, *(message for message in topic[behind:] if message.key not in gone))

    assert [entry.version for entry in slow.activations] == [4, 1, 5]
    assert slow.models == log.models
    assert not slow.refused


@settings(max_examples=300)
@given(st.data())
def test_all_readers_agree_however_far_a_compaction_has_come(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_log, "KEPT", 3)
        patch.setattr(model_log, "PART_BYTES", 8)
        log, sent = ModelLog("p", accept), []
        for at in range(data.draw(st.integers(1, 14))):
            published(log, data.draw(st.integers(1, 7)), str(at), sent)
            gone = log.removals()
            gone = gone[: data.draw(st.integers(0, len(gone)))]  # who sends them may break off
            sent += gone
            read(log, *gone)
        topic = list(enumerate(sent))
        slow, behind = ModelLog("p", accept), data.draw(st.integers(0, len(topic)))
        stored = read(slow, *sent[:behind])
        for _ in range(2):
            known = data.draw(st.integers(0, len(topic)))
            topic = compacted(topic, known, data.draw(st.integers(0, known)))
        stored += read(slow, *(message for offset, message in topic if offset >= behind))

        assert slow.activations == log.activations
        assert slow.models == log.models
        files = {one.activation.version: one.files for one in stored if one.files is not None}
        for version in log.models:
            assert files[version]["model.json"] == str(version).encode()
        more = []
        published(slow, data.draw(st.integers(1, 7)), "slow", more)
        more += slow.removals()
        read(slow, *more)
        read(log, *more)
        late = ModelLog("p", accept)
        read(late, *(message for _, message in compacted([*topic, *enumerate(more, len(sent))], 10**6, 10**6)))
        assert late.activations == slow.activations == log.activations
        assert late.models == slow.models == log.models


def test_models_for_another_profile_are_not_removed():
    log = ModelLog("p", accept)
    _, parts, activation = message()
    _, others, other = message(author="b", profile="q")
    read(log, *parts, activation, *others, other)
    assert log.lost == []


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(model_log, "WAITING_BYTES", 4 * PART_BYTES)
    log = ModelLog("p", accept)
    for author in range(20):
        read(log, *message(author=str(author))[1])
    assert log._bytes <= 4 * PART_BYTES
    assert log._bytes == sum(len(part.value) for parts in log._waiting.values() for part in parts.values())
    for number in range(100):
        log.read(str(number).encode(), b"")
    assert log.refused["key"] == 100
    assert len(log.reasons()) == model_log.TOLD


def test_a_model_that_is_too_large_is_not_sent(monkeypatch):
    monkeypatch.setattr(model_log, "MODEL_BYTES", 100)
    with pytest.raises(ModelError, match="100 bytes at most"):
        packed(FILES, 1, "a")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"[]",
        b"7",
        b"{}",
        b"[" * 100_000,
        json.dumps({"format": 2, "version": 1, "files": {"a": 1}}).encode(),
        json.dumps({"format": 1, "version": 2, "files": {"a": 1}}).encode(),
        json.dumps({"format": 1, "version": 1, "files": {"a": 2}}).encode(),
        json.dumps({"format": 1, "version": 1, "files": {"a": -1, "b": 2}}).encode(),
        json.dumps({"format": 1, "version": 1, "files": ["a"]}).encode(),
        json.dumps({"format": 1, "version": 1, "files": {}}).encode(),
    ],
)
def test_content_that_is_no_model_is_corrupt(head):
    with pytest.raises(CorruptModel):
        unpacked(head + b"\nx", 1)


@given(st.lists(st.tuples(st.binary(max_size=90) | st.none(), st.binary(max_size=90) | st.none()), max_size=10))
def test_nothing_in_the_topic_raises(messages):
    log = ModelLog("p", accept)
    assert read(log, *(Keyed(key or b"", value) for key, value in messages)) == []
