"""The promises of the port Source, kept by every source that can be configured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_files import (
    T0,
    MemoryStore,
    after,
    by_partition,
    day_file,
    drain,
    key,
    mseed,
    records,
    records_of,
    rejects_of,
)  # fmt: skip

from streamclust.core.clock import ManualClock
from streamclust.core.specs import FilesSource, SdsSource
from streamclust.core.types import NS
from streamclust.stream.ports import Source
from streamclust.wiring import SOURCES

JUNK = b"\x07" * 700


def _files(folder: Path) -> FilesSource:
    for i in range(3):
        mseed(folder / f"{i}.mseed", 200, i, start_ns=T0 + i * 50 * NS, station=f"S{i}")
    (folder / "junk.mseed").write_bytes(b"".join(records(60)[:5]) + JUNK + b"".join(records(60)[5:]))
    return FilesSource(type="files", paths=[str(folder)])


def _sds(folder: Path) -> SdsSource:
    for i, (days, station) in enumerate([(0, "A"), (1, "A"), (0, "B")]):
        data = records(200, i, start_ns=T0 + days * 86_400 * NS, station=station)
        day_file(folder, days, station).write_bytes(b"".join(data))
    day_file(folder, 0, "J").write_bytes(b"".join(records(60)[:5]) + JUNK + b"".join(records(60)[5:]))
    return SdsSource(type="sds", root=str(folder), follow=False)


MAKERS: Mapping[str, Callable[[Path], Any]] = MappingProxyType({"files": _files, "sds": _sds})
"""`source.type` -> settings of a bounded source with data, some of which is junk."""

Open = Callable[..., Source]


@pytest.fixture(scope="module", params=sorted(MAKERS))
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Open the source again and again on the same data; the store is given."""
    spec = MAKERS[request.param](tmp_path_factory.mktemp(request.param))

    def make(store: MemoryStore | None = None, clock: ManualClock | None = None) -> Source:
        parts: Any = SimpleNamespace(results=store or MemoryStore(), clock=clock or ManualClock())
        return SOURCES[spec.type](spec, parts)

    return make


def test_every_source_that_can_be_configured_is_tested_here_or_against_a_broker() -> None:
    assert MAKERS.keys() | {"kafka"} == SOURCES.keys()  # kafka never ends: tests/stream/kafka/test_source.py


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(polls=st.integers(0, 40), max_records=st.integers(1, 40))
def test_a_restart_from_any_committed_position_gives_exactly_the_remaining_records(
    opened: Open, polls: int, max_records: int
) -> None:
    store = MemoryStore()
    source = opened(store)
    before = [source.poll(max_records, 0.0) for _ in range(polls)]
    source.commit(after(before))
    source.close()
    rest = records_of(drain(opened(store), max_records))
    whole = by_partition(records_of(drain(opened())))
    first, second = by_partition(records_of(before)), by_partition(rest)
    assert {p: first.get(p, []) + second.get(p, []) for p in whole} == whole


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_each_records_offset_gives_it_again(opened: Open, share: float) -> None:
    everything = records_of(drain(opened()))
    one = everything[round(share * (len(everything) - 1))]
    again = records_of(drain(opened(MemoryStore({one.partition: one.offset}))))
    assert key(next(r for r in again if r.partition == one.partition)) == key(one)


def test_the_order_is_the_same_for_every_size_of_poll(opened: Open) -> None:
    whole = list(map(key, records_of(drain(opened(), 100_000))))
    for max_records in (1, 3, 50):
        assert list(map(key, records_of(drain(opened(), max_records)))) == whole


def test_a_poll_gives_no_more_than_was_asked_and_names_the_partition_of_each_record(opened: Open) -> None:
    for polled in drain(opened(), 7):
        assert len(polled.records) <= 7
        assert {r.partition for r in polled.records} <= polled.next_offsets.keys()
        assert all(r.offset < polled.next_offsets[r.partition] for r in polled.records)


def test_records_of_a_stream_come_in_the_order_of_their_offsets(opened: Open) -> None:
    for found in by_partition(records_of(drain(opened(), 5))).values():
        offsets = [one[4] for one in found]
        assert offsets == sorted(set(offsets))


def test_junk_is_rejected_once_with_its_bytes_and_place_and_never_raises(opened: Open) -> None:
    (reject,) = rejects_of(drain(opened(), 5))
    assert (reject.payload, reject.offset) == (JUNK, 5 * 512)


def test_nothing_is_committed_but_by_commit(opened: Open) -> None:
    store = MemoryStore()
    source = opened(store)
    records_of(drain(source))
    source.close()
    assert store.kept == {}


def test_a_commit_keeps_the_positions_of_other_partitions(opened: Open) -> None:
    store = MemoryStore({"another": 5})
    source = opened(store)
    source.commit({"this": 7})
    source.commit({"this": 8})
    assert store.kept == {"another": 5, "this": 8}


def test_an_ended_source_stays_ended_and_a_close_may_come_twice(opened: Open) -> None:
    clock = ManualClock()
    source = opened(None, clock)
    drain(source)
    before = clock.monotonic()
    polled = source.poll(10, 30.0)
    assert (polled.records, polled.ended, clock.monotonic()) == ([], True, before)
    source.close()
    source.close()


def test_a_restart_at_the_end_gives_nothing(opened: Open) -> None:
    store = MemoryStore()
    source = opened(store)
    source.commit(after(drain(source)))
    again = drain(opened(store))
    assert (records_of(again), rejects_of(again)) == ([], [])
