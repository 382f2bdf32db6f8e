from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from corpus import pack

from streamclust.core.clock import ManualClock
from streamclust.core.errors import ConfigError, Reason
from streamclust.core.specs import FilesSource
from streamclust.core.types import NS
from streamclust.stream.archive import ArchiveSource

START_NS = 1_704_067_200 * NS


class Store:
    def __init__(self, saved=None):
        self.saved = dict(saved or {})

    def positions(self):
        return self.saved

    def save_positions(self, positions):
        self.saved.update(positions)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def packed(start_ns=START_NS, seconds=10):
    return b"".join(pack(np.arange(seconds * 100, dtype=np.int32), "int32", starttime=start_ns))


def source(*paths, store=None, clock=None, **settings):
    spec = FilesSource(type="files", paths=[str(p) for p in paths], **settings)
    return ArchiveSource(spec, store or Store(), clock or ManualClock())


def drain(reader):
    records, rejects = [], []
    for _ in range(1000):
        poll = reader.poll(50, 0.0)
        records += poll.records
        rejects += poll.rejects
        if poll.ended:
            return records, rejects
    raise AssertionError("it never ended")


def test_a_path_that_matches_nothing_is_a_wrong_setting(tmp_path):
    with pytest.raises(ConfigError, match=r"source\.paths\[1\]"):
        source(tmp_path.parent, tmp_path / "*.mseed")


def test_a_format_that_is_not_read_is_a_wrong_setting(tmp_path):
    (tmp_path / "a").write_bytes(packed())
    with pytest.raises(ConfigError, match=r"source\.format"):
        source(tmp_path / "a", format="PICKLE")


def test_files_named_twice_are_read_once(tmp_path):
    (tmp_path / "a.mseed").write_bytes(packed())

    records, _ = drain(source(tmp_path / "*.mseed", tmp_path))

    assert sum(len(r.samples) for r in records) == 1000


def test_files_come_in_the_order_of_time_not_of_names(tmp_path):
    (tmp_path / "a.mseed").write_bytes(packed(START_NS + 3600 * NS))
    (tmp_path / "b.mseed").write_bytes(packed())

    records, _ = drain(source(tmp_path))

    assert [Path(p).name for p in dict.fromkeys(r.partition for r in records)] == ["b.mseed", "a.mseed"]


@pytest.mark.parametrize("name", ["evil.pkl", "evil.sac", "evil.npz", "evil"])
def test_a_pickle_is_never_executed_and_the_other_files_are_read(tmp_path, name):
    data, made = tmp_path / "data", tmp_path / "executed"
    data.mkdir()
    (data / name).write_bytes(pickle.dumps(Bomb(made)))
    (data / "good.mseed").write_bytes(packed())

    records, rejects = drain(source(data))

    assert not made.exists()
    assert [r.reason for r in rejects] == [Reason.UNREADABLE_FILE]
    assert name in rejects[0].detail
    assert sum(len(r.samples) for r in records) == 1000


def test_a_torn_last_record_is_rejected(tmp_path):
    (tmp_path / "a.mseed").write_bytes(packed()[:-100])

    records, rejects = drain(source(tmp_path))

    assert records
    assert [r.reason for r in rejects] == [Reason.TOO_SHORT]


def test_a_named_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.mseed")

    assert [r.reason for r in drain(source(tmp_path))[1]] == [Reason.UNREADABLE_FILE]


def test_records_come_when_they_are_due(tmp_path):
    (tmp_path / "a.mseed").write_bytes(packed(seconds=20))
    clock = ManualClock()
    reader = source(tmp_path, clock=clock, speed=2.0)
    got = 0
    for _ in range(1000):
        poll = reader.poll(50, 1.0)
        got += sum(len(r.samples) for r in poll.records)
        assert got / 100 / 2 <= clock.monotonic() + 1e-6
        if poll.ended:
            break

    assert got == 2000
    assert 10.0 <= clock.monotonic() <= 10.5


@pytest.mark.parametrize(("folder", "name"), [("sac", "LMOW.BHE.SAC"), ("wav", "3cssan.near.8.1.RNON.wav")])
def test_a_piecewise_restart_of_another_format_gives_the_rest(tmp_path, folder, name):
    import obspy

    shutil.copy(Path(obspy.__file__).parent / "io" / folder / "tests/data" / name, tmp_path)
    everything, _ = drain(source(tmp_path))
    store = Store({everything[0].partition: 1})

    rest, _ = drain(source(tmp_path, store=store))

    assert [(r.offset, r.start_ns) for r in rest] == [(r.offset, r.start_ns) for r in everything[1:]]


def channels_one_after_another(path, channels=3, seconds=120):
    """Write a file as obspy's Stream.write does: all of one channel, then all of the next."""
    parts = [
        pack(np.arange(seconds * 100, dtype=np.int32), "steim2", starttime=START_NS, sourceid=f"FDSN:XX_A__H_H_{name}")
        for name in "ZNE"[:channels]
    ]
    path.write_bytes(b"".join(record for part in parts for record in part))
    return [len(part) for part in parts]


def test_channels_that_follow_one_another_in_a_file_are_read_side_by_side(tmp_path):
    counts = channels_one_after_another(tmp_path / "three.mseed")

    records, rejects = drain(source(tmp_path / "three.mseed"))

    assert rejects == []
    assert len(records) == sum(counts)
    reached = {}
    for record in records:
        reached[record.stream] = record.start_ns
        if len(reached) == 3:
            assert max(reached.values()) - min(reached.values()) <= 40 * NS
    assert len({r.partition for r in records}) == 3


@pytest.mark.parametrize("taken", [1, 7, 20])
def test_a_restart_reads_each_section_of_a_file_on_from_its_own_position(tmp_path, taken):
    counts = channels_one_after_another(tmp_path / "three.mseed")
    store = Store()
    first = source(tmp_path / "three.mseed", store=store)
    polled = first.poll(taken, 0.0)
    first.commit(polled.next_offsets)

    rest, _ = drain(source(tmp_path / "three.mseed", store=store))

    keys = [(r.stream, r.start_ns) for r in polled.records + rest]
    assert len(keys) == len(set(keys)) == sum(counts)


def test_files_that_were_read_are_not_kept_in_memory(tmp_path):
    for i in range(5):
        np.savez(tmp_path / f"{i}.npz", x=np.ones((1, 5000), np.float32), fs=100.0, kind="ECG")
    reader = source(tmp_path)
    drain(reader)

    assert not reader._merge.retired


def test_recordings_with_the_same_name_are_not_one_stream(tmp_path):
    for folder in ("monday", "tuesday"):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "rec.npz", x=np.ones((1, 500), np.float32), fs=100.0, kind="ECG")

    records, _ = drain(source(tmp_path))

    assert len({r.stream for r in records}) == 2


def test_a_file_that_is_shorter_than_its_position_is_read_from_its_beginning(tmp_path):
    (tmp_path / "a.mseed").write_bytes(packed())
    store = Store({str(tmp_path / "a.mseed"): 1 << 20})

    assert drain(source(tmp_path, store=store))[0]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(tmp_path):
    (tmp_path / "a[1].mseed").write_bytes(packed())

    assert drain(source(tmp_path / "a[1].mseed"))[0]
