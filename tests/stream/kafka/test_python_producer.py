from __future__ import annotations

import pytest
from kafka_clients import part, unique

from streamclust.core.errors import Rebalanced, SinkUnavailable
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.ports import Outgoing
from streamclust.stream.kafka.python_producer import producer_configs


def test_none_is_no_compression_and_delivery_outlasts_a_request():
    spec = KafkaSpec(request_timeout=4)
    found = producer_configs(spec, "none")

    assert found["compression_type"] is None
    assert producer_configs(spec, "zstd")["compression_type"] == "zstd"
    assert found["delivery_timeout_ms"] >= found["request_timeout_ms"] + found["linger_ms"]


@pytest.mark.parametrize("client_name", ["kafka-python"], indirect=True)
class TestOnABroker:
    def test_after_a_failed_flush_nothing_of_the_old_producer_is_left(self, rig):
        topic = rig.topic()
        producer = rig.producer()
        old = producer._kafka
        producer.send(Outgoing(topic, b"old"))
        with pytest.raises(SinkUnavailable):
            producer.flush(-1.0)  # too late before it begins
        assert not old._sender.is_alive()
        producer.send(Outgoing(topic, b"new"))
        producer.flush(5)

        assert rig.values(topic)[-1] == b"new"
        assert producer._kafka is not old

    def test_a_commit_that_was_cut_off_is_told_again_once_it_is_decided(self, rig, monkeypatch):
        out = rig.topic()
        producer = rig.transactional(unique("id"))
        made = producer._made

        def unreachable():
            raise SinkUnavailable("no broker")

        monkeypatch.setattr(producer, "_made", unreachable)
        monkeypatch.setattr(
            "kafka.producer.transaction_manager.TransactionalRequestResult.wait", lambda *_, **__: False
        )
        with pytest.raises(SinkUnavailable, match="longer"):
            producer.transact([Outgoing(out, b"x")], {}, None)
        with pytest.raises(SinkUnavailable, match="no broker"):
            producer.transact([Outgoing(out, b"y")], {}, None)
        monkeypatch.undo()
        monkeypatch.setattr(producer, "_made", made)
        with pytest.raises(SinkUnavailable, match="decided only now"):
            producer.transact([Outgoing(out, b"y")], {}, None)
        producer.transact([Outgoing(out, b"z")], {}, None)

        assert b"y" not in rig.values(out)
        assert rig.values(out)[-1] == b"z"

    def test_offsets_without_a_membership_are_not_committed(self, rig):
        topic = rig.topic()
        consumer = rig.consumer(topic, group=unique())
        with pytest.raises(Rebalanced):
            consumer.group()
        with pytest.raises(Rebalanced):
            rig.transactional(unique("id")).transact([], {part(topic): 1}, consumer._kafka.group_metadata())
