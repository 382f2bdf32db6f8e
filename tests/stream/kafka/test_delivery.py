from __future__ import annotations

from streamclust.stream.kafka.delivery import MAX_NOTES, Tally


def test_a_note_is_kept_once_and_not_without_end():
    tally = Tally()
    for n in range(3 * MAX_NOTES):
        tally.note(f"note {n}")
        tally.note("note 0")

    assert tally.notes == [f"note {n}" for n in range(MAX_NOTES)]
