from __future__ import annotations

import pytest

from streamclust.core.errors import Fenced, MessageTooLarge, NotAllowed, Rebalanced, SinkUnavailable, SourceUnavailable
from streamclust.stream.kafka.confluent_errors import Causes, error_of, library_errors, translated

ck = pytest.importorskip("confluent_kafka")
KafkaError, KafkaException = ck.KafkaError, ck.KafkaException


@pytest.mark.parametrize(
    ("code", "ours"),
    [
        ("ILLEGAL_GENERATION", Rebalanced),
        ("UNKNOWN_MEMBER_ID", Rebalanced),
        ("_FENCED", Fenced),
        ("FENCED_INSTANCE_ID", Fenced),
        ("TOPIC_AUTHORIZATION_FAILED", NotAllowed),
        ("MSG_SIZE_TOO_LARGE", MessageTooLarge),
        ("_TRANSPORT", SourceUnavailable),
        ("NOT_ENOUGH_REPLICAS", SourceUnavailable),
    ],
)
def test_each_error_of_the_library_has_one_reaction(code, ours):
    found = translated(KafkaError(getattr(KafkaError, code)), "reading", SourceUnavailable)

    assert type(found) is ours
    assert "reading" in str(found)
    assert code in str(found)


def test_the_text_names_what_the_library_said_beside():
    causes = Causes()
    causes.error(KafkaError(KafkaError._SSL, "certificate verify failed"))
    causes.error(KafkaError(KafkaError._SSL, "certificate verify failed"))
    causes.error(KafkaError(KafkaError._ALL_BROKERS_DOWN, "2/2 brokers are down"))
    found = translated(KafkaError(KafkaError._TRANSPORT), "connecting", SinkUnavailable, causes)

    assert str(found).endswith("(certificate verify failed)")
    assert causes.hopeless
    assert causes.all_down
    causes.forget()
    assert (causes.text(), causes.hopeless, causes.all_down) == ("", False, False)


def test_a_fatal_error_is_found_behind_a_callback_that_it_disturbed():
    fatal = KafkaError(KafkaError._FENCED, "fenced", fatal=True)
    disturbed = SystemError("returned a result with an exception set")
    disturbed.__cause__ = KafkaException(fatal)

    assert isinstance(disturbed, library_errors())
    assert error_of(disturbed) is fatal
    assert error_of(KafkaException(fatal)) is fatal


def test_another_system_error_is_not_swallowed():
    with pytest.raises(SystemError, match="memory"):
        error_of(SystemError("memory"))
