from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web.filled import fill
from web_client import site

from streamclust.core.types import DAY_NS, NS
from streamclust.store.results import DATABASE, Results, upgrade
from streamclust.web import queries
from streamclust.web.queries import HOUR_NS, Place, Tally, Wanted

HOP = 20_480_000_000


@pytest.fixture(scope="module", params=["as it came", "relabelled"])
def made(request, tmp_path_factory):
    state = tmp_path_factory.mktemp("queries") / "state"
    return fill(state, 900, streams=4, kept=24, relabelled=0 if request.param == "as it came" else 60)


@pytest.fixture
def reading(made):
    with site(made.state).results() as reader:
        yield reader


@pytest.fixture
def everything(reading):
    """Every event with its newest label, newest first; found without an index."""
    return sorted(reading.recent(10_000), key=lambda e: (e.start_ns, e.window_id), reverse=True)


def fits(wanted, event):
    return (
        (wanted.stream is None or event.stream == wanted.stream)
        and (wanted.clusters is None or event.cluster in wanted.clusters)
        and (wanted.from_ns is None or event.start_ns >= wanted.from_ns)
        and (wanted.to_ns is None or event.start_ns < wanted.to_ns)
        and (wanted.novel is None or event.is_novel == wanted.novel)
        and (wanted.flag is None or wanted.flag in event.flags)
    )


def all_wanted(made, middle_ns):
    streams, clusters = (None, made.streams[1]), (None, made.of_kind[:1], made.of_kind[3:], ("C99",))
    spans = ((None, None), (middle_ns, None), (None, middle_ns), (middle_ns, middle_ns + HOUR_NS))
    rare = ((None, None), (True, None), (False, None), (None, "clipped"), (True, "clipped"))
    for stream, of, (start, end), (novel, flag), oldest in product(streams, clusters, spans, rare, (False, True)):
        yield Wanted(stream, of, start, end, novel, flag, oldest_first=oldest)


def test_a_page_has_what_was_asked_for_whatever_that_is(made, reading, everything):
    middle = everything[len(everything) // 2].start_ns

    for wanted in all_wanted(made, middle):
        expected = [event for event in everything if fits(wanted, event)]
        expected = expected[::-1] if wanted.oldest_first else expected
        assert queries.page(reading, wanted, 5000) == expected, wanted


@pytest.mark.parametrize("oldest", [False, True])
@pytest.mark.parametrize("novel", [None, True])
def test_pages_together_have_everything_once(made, reading, everything, oldest, novel):
    wanted, after, found = Wanted(novel=novel, oldest_first=oldest), None, []
    while part := queries.page(reading, wanted, 7, after):
        found += part
        after = queries.place(part[-1])

    expected = [event for event in everything if fits(wanted, event)]
    assert found == (expected[::-1] if oldest else expected)


def test_an_export_goes_through_all_pages(made, everything, monkeypatch):
    monkeypatch.setattr(queries, "CHUNK", 100)

    parts = list(queries.chunks(site(made.state).results, Wanted()))

    assert [event for part in parts for event in part] == everything
    assert {len(part) for part in parts[:-1]} == {100}


def test_clusters_are_counted_by_their_newest_labels(reading, everything):
    newest = everything[0].start_ns
    expected = {}
    for event in everything:
        age = newest - event.start_ns
        one = Tally(1, int(age < DAY_NS), int(age < HOUR_NS), int(event.is_novel), event.start_ns, event.start_ns)
        expected[event.cluster] = expected.get(event.cluster, Tally()) + one

    found = queries.tallies(reading, newest)

    assert found == expected
    assert queries.tallies(reading, newest, ("C1", "C99")) == {"C1": expected["C1"]}


def test_a_cluster_that_lost_all_of_its_windows_is_not_counted(made, reading, everything):
    changed = queries.changed(reading)

    assert all(one.was != one.cluster or one.was_novel != one.novel for one in changed)
    assert set(queries.tallies(reading, everything[0].start_ns)) <= {event.cluster for event in everything} | {None}


@pytest.mark.parametrize("bins", [1, 7, 100])
@pytest.mark.parametrize("of", [None, 2])
def test_windows_are_counted_in_the_part_of_time_where_they_start(made, reading, everything, bins, of):
    stream = None if of is None else made.streams[of]
    within = queries.bins(everything[-1].start_ns + 30 * HOP, everything[0].start_ns, bins, HOP)
    inside = [
        ((event.start_ns - within.from_ns) // within.width_ns, event)
        for event in everything
        if within.from_ns <= event.start_ns < within.to_ns and stream in (None, event.stream)
    ]

    found = queries.occurrence(reading, within, stream)

    def binned(chosen):
        counts = Counter(at for at, _ in chosen)
        return [counts[at] for at in range(within.size)]

    assert found.total == binned(inside)
    assert found.novel == binned((at, event) for at, event in inside if event.is_novel)
    for cluster in made.clusters:
        none = [0] * within.size
        assert found.clusters.get(cluster, none) == binned((at, e) for at, e in inside if e.cluster == cluster)
    if stream is None:
        two = made.of_kind[:2]
        assert queries.counts(reading, two, within) == binned((at, e) for at, e in inside if e.cluster in two)


@given(
    st.integers(-(2**62), 2**62), st.integers(1, 10**18), st.integers(1, 400), st.sampled_from([1, 3, HOP, 3600 * NS])
)
def test_bins_cover_the_span_and_are_no_more_than_wanted(start, length, most, hop):
    found = queries.bins(start, start + length, most, hop)

    assert found.from_ns <= start < found.from_ns + found.width_ns
    assert found.to_ns - found.width_ns < start + length <= found.to_ns
    assert 1 <= found.size <= most
    assert found.width_ns >= 50 * hop or found.width_ns % hop == 0


def test_the_most_novel_come_first(reading, everything):
    since = everything[-200].start_ns
    novel = [event for event in everything if event.is_novel and event.start_ns >= since]

    found = queries.most_novel(reading, since, 5)

    assert found == sorted(novel, key=lambda e: (-e.novelty, -e.start_ns, e.window_id))[:5]


def test_of_equally_novel_windows_the_least_certain_come_first_and_then_the_newest(tmp_path):
    state = fill(tmp_path / "state", 40, kept=0).state
    with closing(Results(state / DATABASE)) as results:
        (some,) = results.recent(1)
        sure = {"a": 0.9, "b": 0.4, "c": 0.4, "d": 0.99}
        at = {"a": 1, "b": 2, "c": 3, "d": 4}
        results.commit(
            [
                some._replace(
                    window_id=name,
                    start_ns=some.start_ns + at[name],
                    memberships={"C1": share, "C2": 1 - share},
                    novelty=0.9999 if name == "d" else 1.0,
                    is_novel=True,
                )
                for name, share in sure.items()
            ],
            *((), {}, 1),
        )
    with site(state).results() as reading:
        found = queries.most_novel(reading, some.start_ns + 1, 10)

    assert [each.window_id for each in found] == ["c", "b", "a", "d"]


def test_a_strip_has_the_last_windows_of_a_stream_oldest_first(made, reading, everything):
    own = [event for event in everything if event.stream == made.streams[1]]

    found = queries.strip(reading, made.streams[1], 10 * HOP, 5000)

    assert [(row.window_id, row.cluster) for row in found] == [(e.window_id, e.cluster) for e in own[:11][::-1]]
    assert len(queries.strip(reading, made.streams[1], 10 * HOP, 3)) == 3
    assert queries.strip(reading, "nobody", HOP, 10) == []


def test_one_window_is_found_with_its_newest_label(reading, everything):
    assert queries.event(reading, everything[3].window_id) == everything[3]
    assert queries.event(reading, "nope") is None


def test_the_newest_windows_of_a_cluster_are_sampled(made, reading, everything):
    own = [event for event in everything if event.cluster in made.of_kind[:2]]

    found = queries.sample(reading, made.of_kind[:2], 50)

    assert [row.window_id for row in found] == [event.window_id for event in own[:50]]
    assert json.loads(found[0].memberships) == dict(own[0].memberships)


def test_no_page_sorts_or_reads_more_than_an_index_gives(made, reading, everything):
    """The plan, not the clock: what holds here holds for a million rows."""

    class Explained:
        relabelled = "assignments"

        def rows(self, sql, *values):
            plan = [row[3] for row in reading.rows(f"EXPLAIN QUERY PLAN {sql}", *values)]
            plans.extend(plan)
            return []

    for wanted in all_wanted(made, everything[9].start_ns):
        plans: list[str] = []
        queries.page(Explained(), wanted, 10, Place(everything[5].start_ns, "f"))
        assert not [step for step in plans if step.startswith("SCAN assignments") and "INDEX" not in step]
        assert not [step for step in plans if "TEMP B-TREE FOR ORDER BY" in step]
        assert any("start_ns" in step for step in plans)
        if wanted.flag or wanted.novel:
            assert any("assignments_flagged" in step or "assignments_novel" in step for step in plans)


def test_a_database_that_an_older_daemon_still_writes_is_read_too(made, tmp_path):
    shutil.copytree(made.state, tmp_path / "state")
    with site(made.state).results() as reader:
        expected = queries.page(reader, Wanted(novel=True), 10)
    con = sqlite3.connect(tmp_path / "state" / "streamclust.sqlite")
    con.executescript(
        "DROP INDEX assignments_novel; DROP INDEX assignments_flagged; DROP INDEX assignments_by_stream;"
        "CREATE INDEX assignments_stream ON assignments (stream, start_ns); PRAGMA user_version = 2"
    )
    con.close()

    with site(tmp_path / "state").results() as reader:
        assert queries.page(reader, Wanted(novel=True), 10) == expected

    upgrade(tmp_path / "state" / "streamclust.sqlite")
    with site(tmp_path / "state").results() as reader:
        names = {row[0] for row in reader.rows("SELECT name FROM sqlite_schema WHERE type = 'index'")}
        assert {"assignments_novel", "assignments_flagged", "assignments_by_stream"} <= names
        assert "assignments_stream" not in names
        assert queries.page(reader, Wanted(novel=True), 10) == expected
