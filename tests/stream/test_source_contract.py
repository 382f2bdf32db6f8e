from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from corpus import pack

from streamclust.core.clock import ManualClock
from streamclust.core.specs import FilesSource, SdsSource
from streamclust.core.types import NS, Polled, Positions
from streamclust.stream.archive import ArchiveSource
from streamclust.stream.ports import Source
from streamclust.stream.sds import SdsArchive
from streamclust.wiring import SOURCES

DAY_NS = 1_704_067_200 * NS  # 2024-01-01
CHANNELS = ("EHZ", "EHN", "EHE")


class Store:
    def __init__(self, positions: Positions | None = None) -> None:
        self.saved = dict(positions or {})

    def positions(self) -> Positions:
        return self.saved

    def save_positions(self, positions: Positions) -> None:
        self.saved.update(positions)


def fill(root: Path) -> None:
    """Three channels of 120 s at 100 Hz in an SDS tree, which the files source reads as a directory."""
    for i, channel in enumerate(CHANNELS):
        folder = root / f"2024/BW/RJOB/{channel}.D"
        folder.mkdir(parents=True)
        samples = np.random.default_rng(i).integers(-5000, 5000, 12000).astype(np.int32)
        records = pack(samples, "int32", starttime=DAY_NS, sourceid=f"FDSN:BW_RJOB__{'_'.join(channel)}")
        (folder / f"BW.RJOB..{channel}.D.2024.001").write_bytes(b"".join(records))


def files(root: Path, store: Store) -> Source:
    return ArchiveSource(FilesSource(type="files", paths=[str(root)]), store, ManualClock())


def sds(root: Path, store: Store) -> Source:
    return SdsArchive(SdsSource(type="sds", root=str(root), follow=False), store, ManualClock())


MAKE: Mapping[str, Callable[[Path, Store], Source]] = {"files": files, "sds": sds}


@pytest.fixture(params=sorted(MAKE))
def make(request, tmp_path):
    fill(tmp_path)
    return lambda store: MAKE[request.param](tmp_path, store)


def drain(source: Source, max_records: int = 7) -> list[Polled]:
    polls = [source.poll(max_records, 0.0)]
    while not polls[-1].ended:
        polls.append(source.poll(max_records, 0.0))
        assert len(polls) < 10_000
    return polls


def keys(polls: list[Polled]) -> list[tuple[str, int, str, int, bytes]]:
    return [(r.partition, r.offset, r.stream, r.start_ns, r.samples.tobytes()) for p in polls for r in p.records]


def test_the_suite_covers_every_source_that_can_be_configured():
    assert set(MAKE) == {"files", "sds"} == set(SOURCES)


def test_every_sample_comes_once_and_each_stream_in_order(make):
    records = [r for poll in drain(make(Store())) for r in poll.records]

    assert sum(len(r.samples) for r in records) == 3 * 12000
    for stream in {r.stream for r in records}:
        starts = [r.start_ns for r in records if r.stream == stream]
        assert starts == sorted(set(starts))


def test_a_poll_gives_at_most_what_was_asked_for(make):
    assert max(len(poll.records) for poll in drain(make(Store()), 5)) == 5


def test_the_order_does_not_depend_on_the_size_of_the_polls(make):
    assert keys(drain(make(Store()), 1)) == keys(drain(make(Store()), 1000))


def test_streams_advance_together(make):
    newest: dict[str, int] = {}
    for record in (r for poll in drain(make(Store())) for r in poll.records):
        newest[record.stream] = record.start_ns
        if len(newest) == len(CHANNELS):
            assert max(newest.values()) - min(newest.values()) <= 25 * NS


def test_next_offsets_name_every_partition_that_gave_records(make):
    for poll in drain(make(Store())):
        assert {r.partition for r in poll.records} <= set(poll.next_offsets)
        for record in poll.records:
            assert poll.next_offsets[record.partition] > record.offset


@pytest.mark.parametrize("turns", [1, 3, 11])
def test_a_restart_gives_exactly_the_records_that_were_not_committed(make, turns):
    everything = set(keys(drain(make(Store()))))
    store = Store()
    source = make(store)
    first = [source.poll(7, 0.0) for _ in range(turns)]
    for poll in first:
        source.commit(poll.next_offsets)
    source.close()

    rest = keys(drain(make(store)))

    assert set(rest) == everything - set(keys(first))
    assert len(rest) == len(set(rest))


def test_what_was_not_committed_comes_again(make):
    store = Store()
    before = keys([make(store).poll(7, 0.0)])

    assert store.saved == {}
    assert keys([make(store).poll(7, 0.0)]) == before


def test_an_exhausted_source_stays_ended(make):
    source = make(Store())
    drain(source)

    again = source.poll(7, 0.0)

    assert (again.ended, again.records) == (True, [])


def test_a_source_may_be_closed_twice(make):
    source = make(Store())
    source.close()
    source.close()
