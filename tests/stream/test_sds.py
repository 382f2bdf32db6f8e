"""Tests of `stream.sds`: a span of an archive, and what is appended to it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from source_files import T0, MemoryStore, after, day_file, drain, records, records_of, rejects_of

from streamclust.core.clock import ManualClock
from streamclust.core.errors import ConfigError, Reason, SourceUnavailable
from streamclust.core.specs import SdsSource
from streamclust.core.types import NS, Polled
from streamclust.stream.cursor import end_ns
from streamclust.stream.sds import SdsArchive

DAY_NS = 86_400 * NS


def source(
    root: Path, store: MemoryStore | None = None, clock: ManualClock | None = None, **settings: Any
) -> SdsArchive:
    spec = SdsSource(type="sds", root=str(root), **settings)
    return SdsArchive(spec, store or MemoryStore(), clock or ManualClock(T0 + DAY_NS))


def once(root: Path, **settings: Any) -> list[Polled]:
    return drain(source(root, follow=False, **settings))


def settle(following: SdsArchive) -> list[Polled]:
    """Poll until two whole looks at the archive gave nothing."""
    out: list[Polled] = []
    quiet = 0
    while quiet < 2:
        out.append(following.poll(100, 1.5))
        quiet = 0 if out[-1].records or out[-1].rejects or out[-1].next_offsets else quiet + 1
        assert len(out) < 1000
    return out


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Two days of two stations, a few minutes each."""
    for seed, (station, days) in enumerate([("RJOB", 0), ("RJOB", 1), ("RTBE", 0), ("RTBE", 1)]):
        write(day_file(tmp_path, days, station), records(120, seed, start_ns=T0 + days * DAY_NS, station=station))
    return tmp_path


def write(path: Path, parts: list[bytes]) -> None:
    path.write_bytes(b"".join(parts))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_an_archive_that_is_not_followed_is_read_to_its_end_by_time(root: Path) -> None:
    found = records_of(once(root))
    assert len(found) == 4 * len(records(120, start_ns=T0))
    assert {r.start_ns // DAY_NS - T0 // DAY_NS for r in found[: len(found) // 2]} == {0}
    assert found[0].partition == "2024/BW/RJOB/EHZ.D/BW.RJOB..EHZ.D.2024.002"


@pytest.mark.parametrize(
    ("patterns", "stations"),
    [
        (["BW.RJ*..EH?"], {"RJOB"}),
        (["*.RTBE.*.*", "XX.*.*.*"], {"RTBE"}),
        (["*.*.*.*"], {"RJOB", "RTBE"}),
        (["*.*.00.*"], set()),
    ],
)
def test_only_streams_of_the_patterns_are_read(root: Path, patterns: list[str], stations: set[str]) -> None:
    assert {r.stream.split("_")[1] for r in records_of(once(root, streams=patterns))} == stations


def test_only_records_of_the_span_are_read(root: Path) -> None:
    begin, end = T0 + 40 * NS, T0 + 80 * NS
    found = records_of(once(root, start="2024-01-02T00:00:40Z", end="2024-01-02T00:01:20"))
    assert found
    assert all(r.start_ns < end and end_ns(r) > begin for r in found)
    everything = [r for r in records_of(once(root)) if r.start_ns < end and end_ns(r) > begin]
    assert len(found) == len(everything)


def test_a_time_with_an_offset_is_that_time_in_utc(root: Path) -> None:
    assert len(records_of(once(root, start="2024-01-03T01:00:00+01:00"))) == 2 * len(records(120))


def test_other_names_in_the_archive_are_passed_over(root: Path) -> None:
    folder = day_file(root).parent
    for name in ("BW.RJOB..EHZ.D.2024.400", "BW.RJOB..EHZ.D.0000.001", "readme.txt", "BW.RJOB..EHZ.D.2024.002.tmp"):
        (folder / name).write_bytes(b"x" * 600)
    (root / "notes").mkdir()
    assert not rejects_of(once(root))


@pytest.mark.parametrize("settings", [{"start": "yesterday"}, {"end": "2024-13-01"}, {"end": "now"}, {"start": "NaT"}])
def test_a_time_that_cannot_be_read_is_a_wrong_setting(root: Path, settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"source\.(start|end) must be an ISO 8601"):
        source(root, **settings)


def test_a_root_that_is_no_directory_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.root"):
        source(tmp_path / "nothing")


def test_appended_records_and_new_days_are_found(root: Path) -> None:
    following = source(root)
    settle(following)
    more = records(60, 9, start_ns=T0 + DAY_NS + 120 * NS)
    append(day_file(root, 1), b"".join(more))
    write(day_file(root, 2), records(30, 10, start_ns=T0 + 2 * DAY_NS))
    write(day_file(root, 1, "NEW"), records(30, 11, start_ns=T0 + DAY_NS, station="NEW"))
    found = records_of(settle(following))
    assert len(found) == len(more) + len(records(30, 10)) + len(records(30, 11))
    assert {r.stream.split("_")[1] for r in found} == {"RJOB", "NEW"}


def test_a_torn_record_is_read_only_when_it_is_whole(root: Path) -> None:
    following = source(root)
    settle(following)
    one, two = records(60, 9, start_ns=T0 + DAY_NS + 120 * NS)[:2]
    path = day_file(root, 1)
    append(path, one + two[:200])
    first = settle(following)
    append(path, two[200:])
    second = settle(following)
    assert [len(records_of(p)) for p in (first, second)] == [1, 1]
    assert rejects_of(first + second) == []


def test_a_torn_end_is_rejected_when_the_archive_is_not_followed(root: Path) -> None:
    append(day_file(root), records(60)[0][:200])
    assert [r.reason for r in rejects_of(once(root))] == [Reason.TOO_SHORT]


def test_a_file_that_became_shorter_is_read_again_from_its_beginning(root: Path) -> None:
    following = source(root)
    settle(following)
    anew = records(40, 33, start_ns=T0 + DAY_NS)
    write(day_file(root, 1), anew)
    found = records_of(settle(following))
    assert [r.offset for r in found] == [512 * i for i in range(len(anew))]


def test_a_file_that_became_shorter_while_it_was_paced_is_read_again_and_once(root: Path) -> None:
    shutil.rmtree(root / "2024" / "BW" / "RTBE")
    day_file(root, 1).unlink()
    clock = ManualClock(T0 + DAY_NS)
    following = source(root, clock=clock, speed=1.0)
    for _ in range(40):
        following.poll(100, 1.5)
    anew = records(20, 33, start_ns=T0)
    write(day_file(root), anew)
    found = []
    for _ in range(200):
        found += following.poll(100, 1.5).records
    assert [r.offset for r in found] == [512 * i for i in range(len(anew))]


def test_a_file_that_became_shorter_while_nobody_looked_is_read_again(root: Path) -> None:
    store = MemoryStore()
    store.save_positions(after(settle(source(root, store))))
    anew = records(40, 33, start_ns=T0 + DAY_NS)
    write(day_file(root, 1), anew)
    assert len(records_of(drain(source(root, store, follow=False)))) == len(anew)
    assert len(records_of(settle(source(root, store)))) == len(anew)


def test_a_start_of_now_leaves_out_what_is_there_and_takes_what_comes(root: Path) -> None:
    following = source(root, start="now", clock=ManualClock(T0 + DAY_NS + 120 * NS))
    assert records_of(settle(following)) == []
    append(day_file(root, 1), b"".join(records(30, 9, start_ns=T0 + DAY_NS + 120 * NS)))
    write(day_file(root, 2), records(30, 10, start_ns=T0 + 2 * DAY_NS))
    assert len(records_of(settle(following))) == len(records(30, 9)) + len(records(30, 10))


def test_a_restart_with_a_start_of_now_reads_the_days_that_came_in_between(root: Path) -> None:
    clock = ManualClock(T0 + DAY_NS + 120 * NS)
    store = MemoryStore()
    first = source(root, store, clock, start="now")
    settle(first)
    append(day_file(root, 1), b"".join(records(30, 9, start_ns=T0 + DAY_NS + 120 * NS)))
    store.save_positions(after(settle(first)))
    append(day_file(root, 1), b"".join(records(30, 10, start_ns=T0 + DAY_NS + 150 * NS)))
    for days in (2, 3, 4):
        write(day_file(root, days), records(30, days, start_ns=T0 + days * DAY_NS))
    clock.sleep(5 * 86_400)
    expected = len(records(30, 10)) + sum(len(records(30, days)) for days in (2, 3, 4))
    found = records_of(settle(source(root, store, clock, start="now")))
    assert len(found) == expected
    assert {r.stream for r in found} == {"FDSN:BW_RJOB__E_H_Z"}


def test_following_ends_when_the_span_is_over(root: Path) -> None:
    clock = ManualClock(T0 + DAY_NS)
    following = source(root, clock=clock, end="2024-01-04T00:00:00Z")
    assert not any(p.ended for p in settle(following))
    clock.sleep(2 * 86_400)
    assert following.poll(10, 1.0).ended


def test_a_poll_that_finds_nothing_waits_its_timeout_and_looks_no_oftener_than_it_should(root: Path) -> None:
    clock = ManualClock(T0 + DAY_NS)
    following = source(root, clock=clock, poll_interval=60.0)
    while following.poll(1000, 0.0).next_offsets:
        pass
    append(day_file(root, 1), b"".join(records(30, 9, start_ns=T0 + DAY_NS + 120 * NS)))
    before = clock.monotonic()
    assert not following.poll(10, 5.0).records
    assert clock.monotonic() - before == pytest.approx(5.0)
    assert following.poll(10, 60.0).next_offsets


def test_a_speed_paces_the_replay(root: Path) -> None:
    clock = ManualClock(T0 + DAY_NS)
    began = clock.monotonic()
    drain(source(root, clock=clock, follow=False, end="2024-01-03T00:00:00Z", speed=10.0))
    assert clock.monotonic() - began == pytest.approx(12.0, abs=0.3)


def test_an_archive_that_goes_away_is_unavailable_and_is_read_on_when_it_is_back(root: Path) -> None:
    following = source(root)
    settle(following)
    away = root.with_name("away")
    root.rename(away)
    with pytest.raises(SourceUnavailable):
        settle(following)
    away.rename(root)
    append(day_file(root, 1), b"".join(records(30, 9, start_ns=T0 + DAY_NS + 120 * NS)))
    assert len(records_of(settle(following))) == len(records(30, 9))
