"""What people know of clusters outlives models, and every step can be taken back."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamclust.core.errors import SinkUnavailable, StateError, UsageError
from streamclust.core.lineage import Lineage
from streamclust.store.identities import IDENTITIES, Identities, open_readonly


def became(kind, identity, parents=(), *, at_ns=10, model=1):
    return Lineage(at_ns, kind, identity, tuple(parents), None, model - 1 or None, model)


BORN = [became("birth", f"C{n}") for n in (1, 2, 3, 10)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / IDENTITIES


@pytest.fixture
def identities(path):
    with closing(Identities(path)) as opened:
        opened.record(BORN)
        yield opened


def test_recorded_clusters_are_there_in_the_order_of_their_numbers(identities):
    assert list(identities.identities()) == ["C1", "C2", "C3", "C10"]
    one = identities.identities()["C1"]
    assert (one.born_ns, one.born_model, one.retired_ns, one.name, one.mute) == (10, 1, None, None, False)
    assert identities.lineage() == BORN
    assert identities.lineage(since=3) == BORN[3:]


def test_the_same_records_again_change_nothing(identities):
    retired = [became("keep", "C1", model=2, at_ns=20), became("retire", "C2", model=2, at_ns=20)]
    assert identities.record(retired) == 2

    assert identities.record([became("return", "C2", model=3, at_ns=30)]) == 1
    assert identities.record(retired) == 0, "a record that comes late again must not retire it once more"

    assert identities.identities()["C2"].retired_ns is None
    assert len(identities.lineage()) == len(BORN) + 3


def test_a_retired_cluster_keeps_what_is_known_of_it_and_may_return(identities):
    identities.name("C2", "rockfall", "anna", 15)
    identities.record([became("retire", "C2", model=2, at_ns=20)])
    assert identities.identities()["C2"].retired_ns == 20
    assert identities.names() == {"C2": "rockfall"}

    identities.record([became("return", "C2", model=3, at_ns=30)])

    assert identities.identities()["C2"].retired_ns is None
    assert identities.identities()["C2"].born_ns == 10


def test_everything_survives_reopening(path):
    with closing(Identities(path)) as first:
        first.record(BORN)
        action = first.name("C1", " rockfall ", "anna", 5)
        first.merge("C2", "C1", "anna", 6)
    with closing(Identities(path)) as second:
        assert second.names() == {"C1": "rockfall", "C2": "rockfall"}
        assert second.merged() == {"C2": "C1"}
        assert second.journal()[-1] == action
        assert action[:7] == (1, 5, "anna", "name", "C1", None, "rockfall")


def test_numbers_are_never_given_again(path):
    with closing(Identities(path)) as identities:
        assert identities.last() == 0
        identities.record(BORN)
        assert identities.last() == 10
        identities.reserve(12)
        identities.reserve(4)
        assert identities.last() == 12
        with pytest.raises(sqlite3.IntegrityError, match="never used again"):
            identities._con.execute("DELETE FROM identities WHERE id = 'C1'")
        with pytest.raises(sqlite3.IntegrityError, match="never used again"):
            identities._con.execute("UPDATE marks SET value = 3")
    with closing(Identities(path)) as again:
        assert again.last() == 12


@pytest.mark.parametrize("table", ["lineage", "journal"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET at_ns = 0"])
def test_lineage_and_journal_are_append_only(identities, table, change):
    identities.name("C1", "rockfall", "anna", 5)
    with pytest.raises(sqlite3.IntegrityError, match="append only"):
        identities._con.execute(change.format(table))


def test_each_field_is_set_and_taken_away(identities):
    identities.note("C1", "near the\nglacier", "anna", 1)
    identities.colour("C1", "#FF8800", "anna", 2)
    identities.mute("C1", on=True, who="anna", at_ns=3)
    identities.alarm("C1", on=True, who="anna", at_ns=4)
    one = identities.identities()["C1"]
    assert one[5:9] == ("near the\nglacier", "#ff8800", True, True)

    identities.note("C1", None, "anna", 5)
    identities.mute("C1", on=False, who="anna", at_ns=6)

    assert identities.identities()["C1"][5:9] == (None, "#ff8800", False, True)
    assert [action.field for action in identities.journal(limit=2)] == ["mute", "note"]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda i: i.name("C99", "x", "anna", 1), "no cluster 'C99'; there are C1, C2, C3, C10"),
        (lambda i: i.name("C1", " ", "anna", 1), "name: must be a text that can be seen"),
        (lambda i: i.name("C1", "x" * 65, "anna", 1), "at most 64 characters"),
        (lambda i: i.name("C1", "a\x1b[1m", "anna", 1), "no control characters"),
        (lambda i: i.name("C1", "a", "", 1), "who: must"),
        (lambda i: i.colour("C1", "red", "anna", 1), "#rrggbb"),
        (lambda i: i.colour("C1", "#ff0000\n", "anna", 1), "#rrggbb"),
        (lambda i: i.merge("C1", "C99", "anna", 1), "no cluster 'C99'"),
        (lambda i: i.merge("C1", "C1", "anna", 1), "cannot be merged into C1"),
        (lambda i: i.split("C1", 1, "anna", 1), "2 to 8 parts"),
        (lambda i: i.split("C99", 2, "anna", 1), "no cluster 'C99'"),
        (lambda i: i.change("C1", {"split": 2, "merged_into": "C2"}, "anna", 1), "C1: cannot be split while"),
        (lambda i: i.undo("anna", 1), "nothing to undo"),
        (lambda i: i.history("C99"), "no cluster 'C99'"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_no_trace(identities, act, message):
    with pytest.raises(UsageError, match=message.replace("[", "\\[")):
        act(identities)
    assert identities.journal() == []
    assert not identities._con.in_transaction


def test_merges_are_shown_as_one_and_go_in_no_circle(identities):
    identities.name("C3", "rockfall", "anna", 1)
    identities.merge("C1", "C2", "anna", 2)
    identities.merge("C2", "C3", "anna", 3)

    assert identities.names() == dict.fromkeys(("C1", "C2", "C3"), "rockfall")
    with pytest.raises(UsageError, match="C3: cannot be merged into C1"):
        identities.merge("C3", "C1", "anna", 4)
    identities.merge("C2", None, "anna", 5)
    assert identities.merged() == {"C1": "C2"}
    assert identities.names() == {"C3": "rockfall"}


def test_an_undo_that_would_make_a_circle_is_refused(identities):
    identities.merge("C1", "C2", "anna", 1)
    identities.undo("anna", 2)
    identities.merge("C2", "C1", "anna", 3)

    with pytest.raises(UsageError, match="cannot be merged"):
        identities.undo("anna", 4, entry=2)
    assert identities.merged() == {"C2": "C1"}


def test_a_new_part_of_a_merged_cluster_is_held_in_it(identities):
    identities.merge("C1", "C2", "anna", 1)
    split = became("split", "C11", ["C1"], model=2, at_ns=20)

    identities.record([split], {"C11": "C1"})
    identities.name("C2", "rockfall", "anna", 2)

    assert identities.names() == dict.fromkeys(("C1", "C2", "C11"), "rockfall")
    identities.undo("anna", 3)
    identities.undo("anna", 4)
    assert identities.merged() == {"C11": "C1"}


def test_records_that_make_no_sense_take_nothing(identities):
    with pytest.raises(StateError, match="must be C1"):
        identities.record([became("birth", "C20", model=2), became("birth", "rockfall", model=2)])
    with pytest.raises(StateError, match="must be known"):
        identities.record([became("birth", "C20", model=2)], {"C20": "C99"})

    assert "C20" not in identities.identities(), "nor is it remembered from the transaction that failed"
    assert identities.last() == 10
    assert identities.lineage() == BORN


def test_a_history_has_what_became_of_a_cluster_and_what_people_did(identities):
    split = became("split", "C11", ["C1"], model=2, at_ns=20)
    identities.record([split, became("keep", "C2", model=2, at_ns=20)])
    named = identities.name("C1", "C2", "anna", 1)
    merged = identities.merge("C3", "C1", "anna", 2)
    undone = identities.undo("anna", 3)

    assert identities.history("C1") == ([BORN[0], split], [named, merged, undone])
    assert identities.history("C2") == ([BORN[1], became("keep", "C2", model=2, at_ns=20)], [])
    assert identities.history("C3") == ([BORN[2]], [merged, undone])


def test_a_reader_beside_the_writer_sees_changes_and_reads_only_then(path, identities):
    with closing(open_readonly(path)) as reader:
        before = reader.names()
        assert reader.names() is before
        identities.name("C1", "rockfall", "anna", 1)
        after = reader.names()
        assert after == {"C1": "rockfall"}
        assert reader.names() is after
        with pytest.raises(TypeError):
            after["C1"] = "x"
        with closing(Identities(path)) as other:
            other.undo("bob", 2)
        assert identities.names() == reader.names() == {}


def test_a_writer_that_waits_too_long_says_so_and_takes_nothing(path, identities):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        identities._con.execute("PRAGMA busy_timeout = 1")
        with pytest.raises(SinkUnavailable, match="locked"):
            identities.name("C1", "rockfall", "anna", 1)
    assert identities.names() == {}
    assert identities.name("C1", "rockfall", "anna", 1).entry == 1


def test_merges_that_go_in_a_circle_in_the_file_are_reported(identities):
    identities._con.execute("UPDATE identities SET merged_into = 'C1' WHERE id = 'C1'")
    with pytest.raises(StateError, match="make no sense"):
        identities.names()


ID = st.sampled_from(["C1", "C2", "C3"])
STEP = st.one_of(
    st.tuples(st.just("name"), ID, st.sampled_from(["a", "b", None])),
    st.tuples(st.just("mute"), ID, st.booleans()),
    st.tuples(st.just("merge"), ID, st.sampled_from(["C1", "C2", "C3", None])),
    st.tuples(st.just("split"), ID, st.sampled_from([2, 3, None])),
    st.tuples(st.just("undo"), st.one_of(st.none(), st.integers(1, 12)), st.none()),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, min_size=1, max_size=10))
def test_undo_restores_exactly_and_the_journal_only_grows(tmp_path_factory, steps):
    with closing(Identities(tmp_path_factory.mktemp("undo") / IDENTITIES)) as identities:
        identities._con.execute("PRAGMA synchronous = OFF")
        identities.record(BORN)
        states, past = {0: dict(identities.identities())}, []
        for at, (kind, one, other) in enumerate(steps):
            state = dict(identities.identities())
            try:
                done = (
                    identities.undo("anna", at, one)
                    if kind == "undo"
                    else getattr(identities, kind)(one, other, "anna", at)
                )
            except UsageError:
                assert identities.identities() == state
                continue
            now = identities.identities()
            assert getattr(now[done.identity], done.field) == done.after
            assert {x: i for x, i in now.items() if x != done.identity} == {
                x: i for x, i in state.items() if x != done.identity
            }
            journal = identities.journal(1000)[::-1]
            assert journal[:-1] == past
            assert journal[-1] == done
            if done.undoes is not None:
                assert getattr(states[done.undoes - 1][done.identity], done.field) == done.after
            past, states[done.entry] = journal, dict(now)
        if all(kind != "merge" for kind, *_ in steps):  # one that takes a merge back may have to wait for another
            with pytest.raises(UsageError, match="nothing to undo"):
                for _ in range(20):
                    identities.undo("anna", 99)
            assert identities.identities() == states[0]


def test_several_fields_are_changed_in_one_step_or_not_at_all(identities):
    values = {"name": " rockfall ", "colour": "#AABBCC", "mute": False, "merged_into": "C2"}

    done = identities.change("C1", values, "ada", 5)

    one = identities.identities()["C1"]
    assert (one.name, one.colour, one.mute, one.merged_into) == ("rockfall", "#aabbcc", False, "C2")
    assert [action.field for action in done] == ["name", "colour", "merged_into"]  # mute was off
    assert identities.change("C1", values, "ada", 6) == []
    for wrong in ({"note": "x", "merged_into": "C1"}, {"note": "x", "merged_into": "C99"}, {"note": "x", "name": ""}):
        with pytest.raises(UsageError):
            identities.change("C2", wrong, "ada", 7)
    assert identities.identities()["C2"].note is None
    assert len(identities.journal()) == 3


def test_the_journal_is_read_by_parts(identities):
    for n in range(5):
        identities.name("C1", f"name {n}", "ada", n)

    assert [action.entry for action in identities.journal(2)] == [5, 4]
    assert [action.entry for action in identities.journal(2, 4)] == [3, 2]
    assert identities.journal(2, 1) == []


def test_a_split_is_asked_for_tried_and_fulfilled_once(identities):
    wish = identities.split("C1", 2, "anna", 15)
    assert wish[:7] == (1, 15, "anna", "split", "C1", None, 2)
    assert (identities.splits(), identities.untried()) == ({"C1": 2}, [wish])

    identities.not_split({"C1": 2}, {"C1": "it is too small"})
    assert identities.identities()["C1"].split_why == "it is too small"
    assert (identities.splits(), identities.untried()) == ({"C1": 2}, [])
    parts = [became("keep", "C1", model=2, at_ns=20), became("split", "C11", ["C1"], model=2, at_ns=20)]
    for _ in range(2):
        identities.record(parts, {}, {"C1": ("C1", "C11"), "C2": ("C2", "C12")})
    one = identities.identities()["C1"]
    assert (one.split, one.split_why, identities.splits()) == (None, None, {})
    assert [(a.at_ns, a.who, a.field, a.before, a.after) for a in identities.journal()] == [
        (20, "retrain", "split_done", 2, "C1, C11"),
        (15, "anna", "split", None, 2),
    ]
    identities.split("C1", 3, "bob", 25)
    identities.record(parts, {}, {"C1": ("C1", "C11")})
    assert identities.splits() == {"C1": 3}, "records that come late again fulfil no later wish"


def test_a_wish_is_forgotten_with_the_reason_when_it_is_taken_back_or_changed(identities):
    identities.split("C1", 2, "anna", 1)
    identities.not_split({"C1": 2}, {"C1": "it is too small"})
    identities.split("C1", 3, "anna", 2)
    assert identities.identities()["C1"].split_why is None
    identities.not_split({"C1": 2}, {"C1": "said of another wish"})
    assert identities.identities()["C1"].split_why is None
    identities.undo("bob", 3)
    identities.undo("bob", 4)
    assert identities.splits() == {}
    with pytest.raises(UsageError, match="nothing to undo"):
        identities.undo("bob", 5)


def test_what_is_merged_is_not_split_and_what_is_to_be_split_is_not_merged(identities):
    identities.merge("C1", "C2", "anna", 1)
    for cluster, what in (("C1", "merged into C2"), ("C2", "C1 merged into it")):
        with pytest.raises(UsageError, match=f"{cluster}: cannot be split while it is or has {what}"):
            identities.split(cluster, 2, "anna", 2)
    identities.split("C3", 2, "anna", 3)
    for cluster, into in (("C3", "C2"), ("C10", "C3")):
        with pytest.raises(UsageError, match="C3: cannot be merged while it is to be split"):
            identities.merge(cluster, into, "anna", 4)
    identities.record([became("retire", "C10", model=2, at_ns=20)])
    with pytest.raises(UsageError, match="retired"):
        identities.split("C10", 2, "anna", 5)


def test_an_undo_brings_no_split_of_what_was_merged_since(identities):
    identities.split("C1", 2, "anna", 1)
    identities.undo("anna", 2)
    identities.merge("C1", "C2", "anna", 3)
    with pytest.raises(UsageError, match="cannot be split while"):
        identities.undo("anna", 4, entry=2)
    assert identities.splits() == {}
