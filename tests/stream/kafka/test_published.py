from __future__ import annotations

import json

import pytest

from streamclust.core.errors import StateError, StateLocked, StateVersion
from streamclust.stream.kafka.published import PublishState, Remembered

SAVED = Remembered("me", {"/a:b.mseed": 512}, {"t/0": 7}, {"/a:b.mseed:1024": "0f"}, clean=True)


def test_what_is_saved_is_loaded_by_the_next_process(tmp_path):
    state = PublishState(tmp_path, "t")
    assert state.load() is None
    state.save(SAVED)
    state.close()
    state.close()

    again = PublishState(tmp_path, "t")
    assert again.load() == SAVED
    again.close()


def test_two_publishers_of_a_topic_do_not_share_a_state_but_two_topics_do(tmp_path):
    state, other = PublishState(tmp_path, "t"), PublishState(tmp_path, "u")
    with pytest.raises(StateLocked, match="another publisher"):
        PublishState(tmp_path, "t")
    state.close()
    other.close()

    PublishState(tmp_path, "t").close()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{", StateError),
        ("[]", StateError),
        ('{"format": 1}', StateError),
        ('{"format": 1, "publisher": "me", "positions": {"a": "b"}}', StateError),
        ('{"format": 1, "publisher": "me", "what": 1}', StateError),
        (json.dumps({"format": 2}), StateVersion),
    ],
)
def test_a_damaged_or_newer_state_is_refused_and_left_alone(tmp_path, text, kind):
    state = PublishState(tmp_path, "t")
    state.path.write_text(text)

    with pytest.raises(kind, match=r"state\.json"):
        state.load()
    state.close()
    assert state.path.read_text() == text
