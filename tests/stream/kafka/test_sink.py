"""The sink `kafka`: what arrives on the topics of a real broker, and what is held when it does not."""

from __future__ import annotations

import hashlib
import json

import pytest
from broker_faults import read
from fake_disks import events, validate

from streamclust.core.errors import NotAllowed, Reason, SinkUnavailable
from streamclust.core.kafka_specs import KafkaSink as Spec
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.core.types import Reject
from streamclust.stream.kafka.clients import CLIENTS
from streamclust.stream.kafka.ports import Outgoing
from streamclust.stream.kafka.sink import KafkaSink


class Watched:
    """A real client whose producers note what is on its way, and fail when they are told to."""

    def __init__(self, client) -> None:
        self._client = client
        self.outstanding = self.most = self.flushes = 0
        self.failures = 0

    def admin(self):
        return self._client.admin()

    def producer(self, compression="lz4"):
        self._producer = self._client.producer(compression)
        return self

    def send(self, message: Outgoing) -> None:
        self.outstanding += len(message.value or b"")
        self.most = max(self.most, self.outstanding)
        self._producer.send(message)

    def flush(self, timeout: float) -> None:
        self._producer.flush(timeout)
        self.outstanding = 0
        self.flushes += 1
        if self.failures:
            self.failures -= 1
            raise SinkUnavailable("the acknowledgements were lost")

    def close(self) -> None:
        self._producer.close()


@pytest.fixture(params=sorted(CLIENTS))
def bench(request, kafka, unique):
    """Sinks with topics of their own."""
    made: list[KafkaSink] = []

    class Bench:
        def __init__(self) -> None:
            self.names = {which: f"{unique}.{which}" for which in ("assignments", "clusters", "quarantine")}
            self.client = None

        def sink(self, *, topics=None, **settings) -> KafkaSink:
            spec = KafkaSpec.model_validate(
                {
                    "bootstrap": [kafka.bootstrap],
                    "topics": {**self.names, "partitions": 2, **(topics or {})},
                    "request_timeout": 5,
                }
            )
            self.client = Watched(CLIENTS[request.param](spec))
            made.append(KafkaSink(Spec.model_validate({"type": "kafka", **settings}), spec, self.client))
            return made[-1]

        def read(self, which: str) -> list:
            return read(kafka.bootstrap, self.names[which])

    yield Bench()
    for sink in made:
        sink.close()


def reject(offset: int, payload: bytes, reason: Reason = Reason.TOO_LARGE) -> Reject:
    return Reject("waves/3", offset, reason, "why", "FDSN:XX_A__H_H_Z", payload)


def test_events_arrive_as_their_json_under_the_key_of_their_stream(bench):
    sink, sent = bench.sink(), events(0, 20)
    sink.write(sent, [])
    sink.flush({})

    messages = bench.read("assignments")
    got = {json.loads(m.value)["window_id"]: m for m in messages}
    assert len(messages) == len(sent)
    for one in sent:
        message = got[one.window_id]
        assert message.key == one.stream.encode()
        assert json.loads(message.value) == json.loads(json.dumps(one.as_dict()))
        assert dict(message.headers) == {"window_id": one.window_id.encode()}
        validate(json.loads(message.value))
    for stream in {one.stream for one in sent}:
        assert len({m.partition for m in messages if m.key == stream.encode()}) == 1, "a stream is in one partition"


def test_the_key_may_be_the_window_so_that_compaction_keeps_each_once(bench):
    sink, sent = bench.sink(key="window_id"), events(0, 5)
    sink.write(sent, [])
    sink.flush({})

    assert {m.key for m in bench.read("assignments")} == {one.window_id.encode() for one in sent}


def test_nothing_is_sent_before_the_flush_and_nothing_again_after_it(bench):
    sink, sent = bench.sink(), events(0, 3)
    sink.write(sent, [])
    assert bench.client.most == 0
    sink.flush({})
    sink.flush({})

    assert len(bench.read("assignments")) == 3


def test_what_is_on_its_way_is_bounded_by_bytes(bench):
    sink = bench.sink(max_outstanding_bytes=65536)
    sink.write([], [reject(n, bytes(10_000)) for n in range(40)])
    sink.flush({})

    assert bench.client.most <= 65536 + 10_000
    assert bench.client.flushes >= 400_000 // 80_000
    assert len(bench.read("quarantine")) == 40


def test_after_a_failed_flush_all_is_sent_again(bench):
    sink, sent = bench.sink(), events(0, 4)
    sink.write(sent, [reject(1, b"bad")])
    bench.client.failures = 1

    with pytest.raises(SinkUnavailable):
        sink.flush({})
    sink.flush({})

    ids = [json.loads(m.value)["window_id"] for m in bench.read("assignments")]
    assert sorted(ids) == sorted(2 * [one.window_id for one in sent]), "those that did arrive are there twice, alike"
    assert len(bench.read("quarantine")) == 2


def test_rejects_arrive_untouched_with_their_reason_and_place(bench):
    sink = bench.sink()
    payload = bytes(range(256)) * 1000
    sink.write([], [reject(7, payload, Reason.CRC_MISMATCH), reject(8, b"", Reason.LOST_OFFSETS)])
    sink.flush({})

    by_offset = {dict(m.headers)["offset"]: m for m in bench.read("quarantine")}
    assert by_offset[b"7"].value == payload
    assert dict(by_offset[b"7"].headers) == {
        "reason": b"crc_mismatch",
        "detail": b"why",
        "partition": b"waves/3",
        "offset": b"7",
        "stream": b"FDSN:XX_A__H_H_Z",
    }
    assert (by_offset[b"8"].value, dict(by_offset[b"8"].headers)["reason"]) == (b"", b"lost_offsets")


@pytest.mark.parametrize(("limit", "kept"), [(1 << 20, 64 << 10), (20_000, 1 << 10)])
def test_a_payload_that_the_quarantine_topic_does_not_take_is_cut_and_says_so(bench, kafka, limit, kept):
    kafka.new_topic(1, name=bench.names["quarantine"], max_message_bytes=limit)
    sink, sent = bench.sink(), events(0, 3)
    # what cannot be compressed away
    large = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(60_000))
    sink.write(sent, [reject(1, b"small"), reject(2, large)])
    sink.flush({})

    by_offset = {dict(m.headers)["offset"]: m for m in bench.read("quarantine")}
    assert (by_offset[b"1"].value, "truncated" in dict(by_offset[b"1"].headers)) == (b"small", False)
    assert by_offset[b"2"].value == large[:kept]
    assert dict(by_offset[b"2"].headers)["truncated"] == str(len(large)).encode()
    assert {json.loads(m.value)["window_id"] for m in bench.read("assignments")} == {e.window_id for e in sent}


def test_the_cluster_table_is_announced_under_the_key_of_each_cluster(bench):
    sink = bench.sink()
    sink.announce(17, [{"cluster": "C1", "name": None}, {"cluster": "C7", "name": "rockfall"}])
    sink.flush({})

    got = {m.key: json.loads(m.value) for m in bench.read("clusters")}
    assert got == {
        b"C1": {"schema": 1, "cluster": "C1", "name": None, "model": 17},
        b"C7": {"schema": 1, "cluster": "C7", "name": "rockfall", "model": 17},
    }


def test_topics_that_are_missing_and_may_not_be_made_are_named_with_the_command(bench):
    sink = bench.sink(topics={"create": False})
    sink.write(events(0, 1), [])

    with pytest.raises(NotAllowed, match=f"--create --topic {bench.names['assignments']} --partitions 2"):
        sink.flush({})


def test_closing_twice_is_fine(bench):
    sink = bench.sink()
    sink.write(events(0, 1), [])
    sink.flush({})
    sink.close()
    sink.close()
