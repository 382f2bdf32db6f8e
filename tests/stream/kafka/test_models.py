"""Models that travel on a topic of the real broker: races, restarts, absent brokers, bad messages."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest
from kafka_broker import free_port
from small_models import OTHER, PROFILE, SPEC, batch, model

from streamclust.core.clock import SystemClock
from streamclust.core.errors import ModelError, NotAllowed, SinkUnavailable, SourceUnavailable, StateError
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.store.activations import Activation
from streamclust.store.models import ModelStore
from streamclust.stream.kafka import model_log
from streamclust.stream.kafka.clients import CLIENTS
from streamclust.stream.kafka.model_log import announced, blank, packed
from streamclust.stream.kafka.models import TopicModels, Wish, publish_version
from streamclust.stream.kafka.ports import ConsumerOptions, Outgoing, Part
from streamclust.stream.live import Live
from streamclust.stream.models import DirectoryModels
from streamclust.train.first import first_fit


class Site:
    """Workers of one topic."""

    def __init__(self, tmp_path, bootstrap, topic, stack):
        self.path = tmp_path
        self.topic = topic
        self.spec = KafkaSpec(bootstrap=[bootstrap], topics={"models": topic}, request_timeout=5)
        self.client = CLIENTS["kafka-python"](self.spec)
        self._stack = stack

    def store(self, name):
        return ModelStore(self.path / name)

    def worker(self, name, profile=PROFILE, bootstrap=None):
        spec = self.spec if bootstrap is None else self.spec.model_copy(update={"bootstrap": [bootstrap]})
        spec = spec if bootstrap is None else spec.model_copy(update={"request_timeout": 1.0})
        client = CLIENTS["kafka-python"](spec)
        made = TopicModels(self.store(name), client, spec, SystemClock(), profile, 1)
        self._stack.callback(made.close)
        return made

    def live(self, models, fit=first_fit):
        return Live(models, fit, PROFILE, SPEC, channels=1)

    def send(self, *messages):
        producer = self.client.producer()
        try:
            for key, value in messages:
                producer.send(Outgoing(self.topic, value, key, partition=0))
            producer.flush(10.0)
        finally:
            producer.close()

    def messages(self):
        """Return all messages in the topic."""
        part = Part(self.topic, 0)
        consumer = self.client.consumer(ConsumerOptions(topics=(self.topic,)))
        try:
            end, at, found = consumer.bounds([part])[part].high, 0, []
            consumer.seek(part, 0)
            while at < end:
                for message in consumer.poll(100, 0.2).messages:
                    found.append(message)
                    at = message.offset + 1
        finally:
            consumer.close()
        return found

    def held(self):
        """Return the keys in the topic that have a value."""
        found = {message.key: message.value for message in self.messages()}
        return {key for key, value in found.items() if value is not None}


@pytest.fixture
def site(tmp_path, kafka):
    with ExitStack() as stack:
        yield Site(tmp_path, kafka.bootstrap, kafka.new_topic(cleanup_policy="compact"), stack)


def versions(models):
    return [entry.version for entry in models.activations()]


def look(models, now):
    """Refresh until something has changed; what comes takes its time."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        now += 2.0
        if models.refresh(now):
            return True
    return False


def test_two_workers_that_send_their_first_models_at_the_same_time_use_the_same_one(site, monkeypatch):
    one, other = site.worker("a"), site.worker("b")
    send = TopicModels._send

    def late(self, messages):
        """Let the other one send everything before our activation."""
        if self is one and messages[0].key.startswith(b"activation"):
            monkeypatch.setattr(TopicModels, "_send", send)
            other.offer(model(2), 0)
        send(self, messages)

    monkeypatch.setattr(TopicModels, "_send", late)
    taken = one.offer(model(1), 0)

    assert taken == other.activations()[0]
    assert dict(one.load(1)) == dict(other.load(1)) == model(2)
    assert dict(site.store("a").load(1)) == model(2)
    keys = site.held()
    assert sum(key.startswith(b"activation") for key in keys) == 1, "the one that came second is removed"
    assert len({key.split(b"/")[2] for key in keys if key.startswith(b"model")}) == 1


def test_windows_that_waited_get_the_model_that_won(site):
    first = site.live(site.worker("a"))
    first.refresh(0.0)
    second = site.live(site.worker("b"))
    second.refresh(0.0)
    mine = first.assign(batch(20), 0)
    others = second.assign(batch(20, 500), 0)

    assert {event.model for event in mine + others} == {1}
    assert [e.cluster for e in others] == [e.cluster for e in first.assign(batch(20, 500), 0)]


def test_windows_that_wait_are_assigned_when_a_model_comes(site):
    one = site.live(site.worker("a"))
    one.refresh(0.0)
    assert one.assign(batch(10), 0) == []
    site.worker("b").offer(model(1), 0)

    assert look(one, 10.0)
    assert [event.model for event in one.released(0)] == [1] * 10


def test_all_workers_switch_at_an_event_time_and_a_replay_stamps_the_same(site):
    one, other = site.worker("a"), site.worker("b")
    first = site.live(one)
    first.refresh(0.0)
    other.offer(model(1), 0)
    look(first, 10.0)
    stamps = [event.model for event in first.assign(batch(10), 0)]
    site.store("b").store(2, model(2))
    publish_version(site.store("b"), other, Wish(2, 15, 0, "person"))
    look(first, 200.0)
    stamps += [event.model for event in first.assign(batch(10, 10), 0)]
    replay = site.live(site.worker("late"))
    replay.refresh(0.0)

    assert stamps == [1] * 15 + [2] * 5
    assert [event.model for event in replay.assign(batch(20), 0)] == stamps


def test_bad_and_foreign_messages_are_refused_and_the_old_model_stays(site):
    one = site.worker("a")
    one.offer(model(1), 0)
    entry = one.activations()[0]._replace(seq=2, version=2)
    sha, parts = packed({"model.json": b"{}"}, 2, "x")
    strange, more = packed(model(3, profile=OTHER), 3, "x")
    site.send((b"garbage", b"\x00"), (b"model/2/short", b"x"), *parts)
    site.send(
        announced(entry, sha, PROFILE.digest), *more, announced(entry._replace(version=3), strange, PROFILE.digest)
    )
    site.send(announced(entry, "0" * 64, OTHER.digest))
    one._start()

    assert versions(one) == [1]
    assert one.refused == {"key": 2, "model": 1, "profile": 2}
    assert len(one.reasons()) == 5
    late = site.worker("late")
    late.refresh(0.0)
    assert versions(late) == [1]
    assert late.activate(model(2), Wish(2, 100, 0, "person")).seq == 2


def test_workers_of_two_profiles_do_not_disturb_each_other(site):
    one, other = site.worker("a"), site.worker("b", OTHER)
    one.offer(model(1), 0)
    other.offer(model(1, profile=OTHER), 0)
    again, another = site.worker("c"), site.worker("d", OTHER)
    again.refresh(0.0)
    another.refresh(0.0)

    assert dict(again.load(1)) == model(1)
    assert dict(another.load(1)) == model(1, profile=OTHER)


def test_a_worker_starts_with_what_it_knows_while_the_broker_is_away(site):
    one = site.worker("a")
    one.offer(model(1), 0)
    one.close()
    away = f"127.0.0.1:{free_port()}"
    again = site.worker("a", bootstrap=away)

    assert not again.refresh(0.0)
    assert versions(again) == [1]
    assert "goes on with model 1" in again.reasons()[0]
    assert not again.refresh(1.0), "it does not ask again at once"
    fresh = site.worker("fresh", bootstrap=away)
    with pytest.raises(SourceUnavailable):
        fresh.refresh(0.0)
    with pytest.raises((SourceUnavailable, SinkUnavailable)):
        fresh.offer(model(2), 0)


def test_a_topic_that_is_not_there_and_may_not_be_made_is_told(site):
    topics = site.spec.topics.model_copy(update={"models": "nobody.made.this", "create": False})
    site.spec = site.spec.model_copy(update={"topics": topics})
    with pytest.raises(NotAllowed, match=r"nobody\.made\.this"):
        site.worker("a").refresh(0.0)


def test_an_offer_that_broke_off_goes_on_with_the_same_keys(site, monkeypatch):
    one, failures = site.worker("a"), [b"model", b"activation"]
    send = TopicModels._send

    def failing(self, messages):
        send(self, messages)
        if failures and messages[0].key.startswith(failures[0]):
            del failures[0]
            raise SinkUnavailable("nobody knows")

    monkeypatch.setattr(TopicModels, "_send", failing)
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            one.offer(model(1), 0)
    assert one.offer(model(1), 0).version == 1
    assert sum(key.startswith(b"activation") for key in site.held()) == 1
    assert one._read.lost == []
    assert len({key.split(b"/")[2] for key in site.held() if key.startswith(b"model")}) == 1


def test_models_from_before_the_topic_are_shared(site):
    store = site.store("a")
    for version in (1, 2):
        store.store(version, model(version))
        store.activate(version, active_from_ns=100 * version, by="retrain", at_ns=version)
    before = store.activations()
    one, late = site.worker("a"), site.worker("late")
    one.refresh(0.0)
    late.refresh(0.0)

    assert tuple(one.activations()) == tuple(late.activations()) == before
    assert dict(late.load(2)) == model(2)
    assert site.store("late").activations() == before
    assert list(DirectoryModels(site.store("late")).activations()) == list(before)


def test_sharing_that_broke_off_goes_on(site, monkeypatch):
    store = site.store("a")
    for version in (1, 2):
        store.store(version, model(version))
    store.rewrite([Activation(seq, seq - 6, 100 * seq, 0, "retrain") for seq in (7, 8)])
    before = store.activations()
    send, count = TopicModels._send, []

    def failing(self, messages):
        count.append(1)
        if len(count) == 3:
            raise SinkUnavailable("gone")
        send(self, messages)

    monkeypatch.setattr(TopicModels, "_send", failing)
    one = site.worker("a")
    with pytest.raises(SinkUnavailable):
        one.refresh(0.0)
    one.refresh(100.0)

    assert tuple(one.activations()) == store.activations() == before
    assert not [reason for reason in one.reasons() if "otherwise" in reason]


def test_a_directory_with_another_model_of_that_number_is_refused(site):
    site.worker("a").offer(model(1), 0)
    site.store("b").activate(site.store("b").publish(model(2)), active_from_ns=7)
    with pytest.raises(StateError, match=r"take another state\.dir"):
        site.worker("b").refresh(0.0)


def test_a_disk_that_is_full_delays_a_model_and_loses_none(site, monkeypatch):
    site.worker("a").offer(model(1), 0)
    store, failures = ModelStore.store, [1, 1]

    def failing(self, version, files):
        if failures:
            failures.pop()
            raise SinkUnavailable("full")
        store(self, version, files)

    monkeypatch.setattr(ModelStore, "store", failing)
    late = site.worker("late")
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            late.refresh(0.0)
        assert versions(late) == []
    assert late.refresh(0.0)
    assert versions(late) == [1]


def test_a_topic_and_its_workers_keep_so_many_models_and_those_who_come_late_agree(site, kafka, monkeypatch):
    monkeypatch.setattr(model_log, "KEPT", 3)
    quick = {"segment_ms": 100, "min_cleanable_dirty_ratio": 0.01, "delete_retention_ms": 100}
    site.topic = kafka.new_topic(cleanup_policy="compact", **quick)
    site.spec = site.spec.model_copy(update={"topics": site.spec.topics.model_copy(update={"models": site.topic})})
    one, other = site.worker("a"), site.worker("b")
    one.offer(model(1), 0)
    other.refresh(0.0)
    for version in range(2, 8):
        one.activate(model(version), Wish(version, 100 * version, 0, "retrain"))
    look(other, 10.0)
    back = other.activate(model(2), Wish(2, 900, 0, "person"))
    look(one, 50.0)

    deadline = time.monotonic() + 60
    while len(site.messages()) > 3 * 2 + 3 and time.monotonic() < deadline:
        time.sleep(0.3)
        site.send(blank())  # only what lies behind the newest messages is compacted
    late = site.worker("late")
    late.refresh(0.0)
    assert versions(late) == versions(one) == versions(other) == [6, 7, 2]
    assert late.activations()[-1] == back
    assert len({key.split(b"/")[1] for key in site.held() if key.startswith(b"model")}) == 3
    for name, models in (("a", one), ("b", other), ("late", late)):
        assert {2, 6, 7} <= set(site.store(name).versions()) <= {2, 5, 6, 7}, "the newest three, and those that count"
        assert dict(models.load(2)) == model(2)
        assert not models.refused
        assert not [reason for reason in models.reasons() if "otherwise" in reason]


def test_a_large_model_travels_in_parts_that_any_broker_takes(site):
    big = {**model(1), "notes.bin": bytes(3 << 20)}
    one, late = site.worker("a"), site.worker("late")
    one.offer(big, 0)
    late.refresh(0.0)
    assert dict(late.load(1)) == big


def test_a_topic_with_too_small_messages_says_what_to_set(site, kafka, tmp_path):
    site.topic = kafka.new_topic(cleanup_policy="compact", max_message_bytes=2000)
    site.spec = site.spec.model_copy(update={"topics": site.spec.topics.model_copy(update={"models": site.topic})})
    with pytest.raises(NotAllowed, match=r"max\.message\.bytes"):
        site.worker("a").offer({**model(1), "notes.bin": bytes(range(256)) * 2000}, 0)


def test_a_person_publishes_a_stored_version_and_rolls_it_back(site):
    one = site.worker("a")
    one.offer(model(1), 0)
    store = site.store("a")
    version = store.publish(model(2))
    assert publish_version(store, one, Wish(version, 50, 9, "person", "try")).seq == 2
    back = publish_version(store, one, Wish(1, None, 10, "rollback"))

    assert (back.seq, back.version, back.active_from_ns) == (3, 1, 50)
    assert [entry.seq for entry in store.activations()] == [1, 2, 3]
    with pytest.raises(ModelError):
        publish_version(store, one, Wish(7, 0, 0, "person"))
    store.store(8, model(8, profile=OTHER))
    with pytest.raises(ModelError, match="profile"):
        publish_version(store, one, Wish(8, 0, 0, "person"))


def test_a_connection_that_is_lost_goes_on_behind_what_was_read(site, monkeypatch):
    one = site.worker("a")
    one.offer(model(1), 0)
    one._drop()
    site.worker("b").activate(model(2), Wish(2, 100, 0, "retrain"))
    reads = []
    read = one._read.read
    monkeypatch.setattr(one._read, "read", lambda key, value: reads.append(key) or read(key, value))
    look(one, 10.0)

    assert versions(one) == [1, 2]
    assert not any(key.startswith(b"activation/1/") for key in reads)
