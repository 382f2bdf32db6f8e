"""What is known of trainings after a restart."""

from __future__ import annotations

import json

import pytest

from streamclust.store.trainings import HOUR, MEMORY, Memory, after, remember, remembered

NOW = 1_700_000_000 * 10**9
S = 10**9


def test_failures_wait_for_1_2_4_and_4_hours_and_anything_that_ends_well_begins_anew():
    memory, waits = Memory(), []
    for _ in range(4):
        memory = after(memory, "failed", 60.0, NOW)
        waits.append(memory.wait(NOW) / HOUR)
    assert waits == [1, 2, 4, 4]
    assert memory.failures == 4
    for kind in ("promoted", "refused", "skipped"):
        assert after(memory, kind, 60.0, NOW)[0] == 0
        assert after(memory, kind, 60.0, NOW).wait(NOW + 20 * S) == 40.0


def test_a_look_that_found_nothing_to_do_is_no_training():
    trained = after(Memory(), "refused", 60.0, NOW, 500)
    assert after(trained, "skipped", 60.0, NOW + 90 * S) == Memory(0, NOW, 500, NOW + 90 * S, 60.0)


def test_a_clock_that_was_set_back_does_not_make_the_pause_longer():
    memory = after(Memory(), "promoted", 60.0, NOW)
    assert memory.wait(NOW - 10**6 * S) == 60.0
    assert memory.wait(NOW + 60 * S) == 0.0


def test_it_outlives_the_process(tmp_path):
    memory = after(Memory(), "failed", 60.0, NOW)
    remember(tmp_path, memory)
    assert remembered(tmp_path) == memory


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"{}", b'{"failures": -1, "last_ns": 0, "taken": 0, "paused_ns": 0, "seconds": 0}',
                json.dumps({**Memory()._asdict(), "seconds": float("inf")}).encode(), b"[" * 100_000]
)  # fmt: skip
def test_one_that_makes_no_sense_is_none(tmp_path, content):
    (tmp_path / MEMORY).write_bytes(content)
    assert remembered(tmp_path) == Memory()
