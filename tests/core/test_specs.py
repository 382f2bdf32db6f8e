"""Settings that must fit one another."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamclust.core.specs import Config, WindowsSpec


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ({"a": ["x", "y"], "b": ["z", "x"]}, "lists 'x' in group 'a' and again in 'b'"),
        ({"a": ["FDSN:BW_RJOB__E_H_Z"], "b": ["BW.RJOB..EHZ"]}, "lists 'BW.RJOB..EHZ' in group 'a' and again in 'b'"),
        ({"a": ["BW.RJOB.--.EHZ", "BW.RJOB..EHZ"]}, "lists 'BW.RJOB..EHZ' in group 'a' and again in 'a'"),
        ({"": ["x"], "b": ["x"]}, "lists 'x' in group '' and again in 'b'"),
    ],
)
def test_a_stream_has_one_place_however_it_is_written(groups, told):
    with pytest.raises(ValidationError, match="one place each") as error:
        WindowsSpec(group_by=groups)

    assert told in str(error.value)


def test_groups_without_common_streams_are_accepted():
    groups = {"a": ["x", "BW.RJOB..EHZ"], "b": ["y", "BW.RJOB..EHN"]}

    assert WindowsSpec(group_by=groups).group_by == groups


@pytest.mark.parametrize("groups", [{}, {"a": []}, {"a": ["x"], "b": ["y", "z"]}])
def test_groups_have_one_size(groups):
    with pytest.raises(ValidationError, match="equally many streams"):
        WindowsSpec(group_by=groups)


def test_what_is_no_stream_id_is_named_with_its_group():
    with pytest.raises(ValidationError, match=r"windows\.group_by\.a lists 'two words': not a stream id"):
        WindowsSpec(group_by={"a": ["two words"]})


def test_one_sink_commits_the_position_and_only_where_there_is_one():
    exact = {"type": "kafka", "delivery": "exactly_once"}
    with pytest.raises(ValidationError, match="at most one"):
        Config.model_validate({"source": {"type": "kafka", "topics": ["a"]}, "sinks": [exact, exact]})
    with pytest.raises(ValidationError, match=r"needs source\.type kafka"):
        Config.model_validate({"source": {"type": "files", "paths": ["a"]}, "sinks": [exact]})
    assert Config.model_validate({"source": {"type": "kafka", "topics": ["a"]}, "sinks": [exact]})
