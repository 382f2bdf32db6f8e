"""Which actions can be taken back, and which texts may be kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.core.errors import UsageError
from streamclust.core.journal import (
    LONGEST_NAME,
    LONGEST_NOTE,
    MOST_PARTS,
    SPLIT_DONE,
    Action,
    line,
    note,
    parts,
    to_undo,
)


def did(entry, before, after, *, field="name", identity="C1", undoes=None):
    return Action(entry, entry, "anna", field, identity, before, after, undoes)


A, B = did(1, None, "a"), did(2, "a", "b")


def test_the_last_action_that_holds_is_taken_back_first():
    assert to_undo([A, B]) == B
    assert to_undo([A, B, did(3, "b", "a", undoes=2)]) == A


def test_an_action_under_another_one_cannot_be_taken_back_alone():
    with pytest.raises(UsageError, match="undo action 2 first"):
        to_undo([A, B], 1)
    other = did(2, None, "b", field="note")
    assert to_undo([A, other], 1) == A


def test_an_action_that_has_the_value_it_had_before_is_still_not_on_top():
    with pytest.raises(UsageError, match="undo action 3 first"):
        to_undo([A, B, did(3, "b", "a")], 1)


def test_nothing_is_taken_back_twice():
    journal = [A, did(2, "a", None, undoes=1)]

    with pytest.raises(UsageError, match="action 1 is undone already"):
        to_undo(journal, 1)
    with pytest.raises(UsageError, match="nothing to undo"):
        to_undo(journal)
    with pytest.raises(UsageError, match="no action 9"):
        to_undo(journal, 9)


def test_an_undo_can_be_undone_and_the_action_holds_again():
    undone, redone = did(2, "a", None, undoes=1), did(3, None, "a", undoes=2)

    assert to_undo([A, undone], 2) == undone
    assert to_undo([A, undone, redone]) == A
    assert to_undo([A, undone, redone], 3) == A, "what was done again is taken back as the action itself"
    with pytest.raises(UsageError, match="done again"):
        to_undo([A, undone, redone], 2)


def test_an_undo_cannot_be_undone_over_a_later_action():
    with pytest.raises(UsageError, match="changed since; undo action 3 first"):
        to_undo([A, did(2, "a", None, undoes=1), did(3, None, "c")], 2)


@pytest.mark.parametrize(
    "text",
    ["", "   ", "\u200b", "a\nb", "a\x00", "a\x1b[31m", "\u202egnp", "x" * (LONGEST_NAME + 1), "\ud800", "\u2028"],
)
def test_a_name_that_cannot_be_shown_is_refused(text):
    with pytest.raises(UsageError, match="name: must"):
        line("name", text)


def test_a_note_may_have_lines_but_not_without_end():
    assert note(" one\n\ttwo\n") == "one\n\ttwo"
    with pytest.raises(UsageError, match=f"at most {LONGEST_NOTE} characters"):
        note("x" * (LONGEST_NOTE + 1))
    with pytest.raises(UsageError, match="control"):
        note("a\x07")


@given(st.text(max_size=200))
def test_a_kept_name_is_kept_as_it_is_when_it_is_given_again(text):
    try:
        kept = line("name", text)
    except UsageError:
        return
    assert line("name", kept) == kept
    assert 0 < len(kept) <= LONGEST_NAME
    assert kept.isprintable() or not any(ord(c) < 32 for c in kept)


def test_names_that_look_the_same_are_the_same():
    assert line("name", "e\u0301boulement") == "\u00e9boulement"


def test_a_wish_for_a_split_can_be_taken_back_until_a_training_has_done_it():
    wish, undone = did(2, None, 2, field="split"), did(3, 2, None, field="split", undoes=2)
    again, done = did(4, None, 3, field="split"), did(5, 3, "C1, C9", field=SPLIT_DONE)
    assert to_undo([A, wish]) == wish
    journal = [A, wish, undone, again, done]
    assert to_undo(journal) == A, "what is done is not asked for again"
    for entry in (2, 3, 4, 5):
        with pytest.raises(UsageError, match=r"C1 was split into C1, C9, which cannot be undone; merge the parts"):
            to_undo(journal, entry)
    once_more = did(6, None, 2, field="split")
    assert to_undo([*journal, once_more]) == once_more
    assert to_undo([*journal, did(6, None, 2, field="split", identity="C9")], 6).identity == "C9"


@pytest.mark.parametrize("count", [-1, 0, 1, 9, 10**9])
def test_a_cluster_is_split_in_two_to_eight_parts(count):
    assert parts(2) == 2
    assert parts(MOST_PARTS) == 8
    with pytest.raises(UsageError, match="split: must be 2 to 8 parts"):
        parts(count)
