from __future__ import annotations

import pytest
from kafka_clients import unique

from streamclust.core.errors import NotAllowed
from streamclust.stream.kafka.python_client import _exists


def test_a_topic_that_may_not_be_looked_at_is_not_taken_for_missing():
    from kafka import errors

    assert not _exists({"name": "t", "error_code": errors.UnknownTopicOrPartitionError.errno})
    assert _exists({"name": "t", "error_code": 0})
    with pytest.raises(errors.TopicAuthorizationFailedError):
        _exists({"name": "t", "error_code": errors.TopicAuthorizationFailedError.errno})


@pytest.mark.parametrize("client_name", ["kafka-python"], indirect=True)
def test_a_refusal_names_the_topic(rig):
    name = unique("topic")
    with pytest.raises(NotAllowed, match=name):
        rig.admin().create(name, 1, 9, {})
