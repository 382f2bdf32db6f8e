from __future__ import annotations

import gc
import logging
import weakref
from contextlib import suppress

import pytest
from kafka import errors
from kafka.admin import KafkaAdminClient
from kafka_broker import HOST, free_port

from streamclust.core.errors import Fenced, MessageTooLarge, NotAllowed, Rebalanced, SinkUnavailable, SourceUnavailable
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.python_connection import connected, meaning, milliseconds, settings, speaking


@pytest.mark.parametrize(
    ("error", "mine"),
    [
        (errors.FencedInstanceIdError(), Fenced),
        (errors.CommitFailedError(), Rebalanced),
        (errors.RebalanceInProgressError(), Rebalanced),
        (errors.UnknownMemberIdError(), Rebalanced),
        (errors.MessageSizeTooLargeError(), MessageTooLarge),
        (errors.TopicAuthorizationFailedError({"t"}), NotAllowed),
        (errors.InvalidReplicationFactorError(), NotAllowed),
        (errors.KafkaTimeoutError(), SourceUnavailable),
        (errors.NotLeaderForPartitionError(), SourceUnavailable),
        (OSError("no route"), SourceUnavailable),
    ],
)
def test_each_error_of_the_library_means_one_of_ours(error, mine):
    assert type(meaning(error, SourceUnavailable)) is mine


def test_what_was_being_done_is_said_of_errors_that_may_pass():
    with pytest.raises(SinkUnavailable, match="commit: KafkaTimeoutError"), speaking(SinkUnavailable, "commit"):
        raise errors.KafkaTimeoutError


def test_security_is_handed_on():
    security = {
        "protocol": "sasl_ssl",
        "mechanism": "SCRAM-SHA-512",
        "username": "me",
        "password": "p",
        "check_hostname": False,
    }
    found = settings(KafkaSpec(security=security, request_timeout=3))

    assert found["security_protocol"] == "SASL_SSL"
    assert (found["sasl_mechanism"], found["sasl_plain_username"], found["sasl_plain_password"]) == (
        "SCRAM-SHA-512",
        "me",
        "p",
    )
    assert not found["ssl_context"].check_hostname
    assert found["request_timeout_ms"] == 3000
    assert found["reconnect_backoff_max_ms"] == 1000


def test_a_certificate_that_is_not_there_is_a_reason_not_to_connect():
    spec = KafkaSpec(security={"protocol": "ssl", "ca_file": "/nowhere/ca.pem"})
    with pytest.raises(SinkUnavailable, match="No such file"):
        connected(lambda net: KafkaAdminClient(**settings(spec), kafka_client=net), spec, SinkUnavailable)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_port_where_nobody_listens_is_the_cause_and_no_thread_or_log_handler_is_left():
    import threading

    spec = KafkaSpec(bootstrap=[f"{HOST}:{free_port()}"], request_timeout=1)
    handlers, threads = list(logging.getLogger("kafka").handlers), threading.active_count()
    with pytest.raises(SinkUnavailable, match="ECONNREFUSED"):
        connected(lambda net: KafkaAdminClient(**settings(spec), kafka_client=net), spec, SinkUnavailable)

    assert logging.getLogger("kafka").handlers == handlers
    assert threading.active_count() == threads
    gc.collect()


def test_times_are_whole_milliseconds_and_never_negative():
    assert [milliseconds(s) for s in (1.2345, 0.0, -3.0)] == [1234, 0, 0]


class Messages:
    """What a turn holds."""


def test_a_wait_in_vain_leaves_nothing_of_the_turn_to_the_collector_of_cycles():
    spec = KafkaSpec(bootstrap=[f"{HOST}:{free_port()}"])
    client = connected(lambda net: net(**settings(spec)), spec, SourceUnavailable)
    client._net.start()

    async def in_vain():
        raise errors.KafkaTimeoutError("nothing came")

    def turn():
        messages = Messages()
        with suppress(errors.KafkaTimeoutError):
            client._net.run(in_vain)
        return weakref.ref(messages)

    gc.disable()
    try:
        assert turn()() is None
    finally:
        gc.enable()
        client.close()
