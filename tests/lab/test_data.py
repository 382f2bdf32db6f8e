"""Data sets from files, archives and arrays; and every way in which data can be unusable."""

from __future__ import annotations

import numpy as np
import pytest
from corpus import pack, walk
from source_files import T0, MemoryStore, day_file, mseed, records

from streamclust.core.clock import ManualClock
from streamclust.core.errors import UsageError
from streamclust.core.specs import FilesSource, ProfileSpec, WindowsSpec
from streamclust.lab.data import Reading, load, open_data
from streamclust.signal.batch import transform
from streamclust.signal.windows import Windows
from streamclust.stream.archive import ArchiveSource

SHORT = ProfileSpec(name="short", window_seconds=2.56, hop_seconds=1.28)
RNG = np.random.default_rng(0)


def npz(path, x, fs=100.0, **fields):
    np.savez(path, x=x, fs=np.float64(fs), **fields)
    return path


def test_a_recording_gives_the_windows_of_the_daemon(tmp_path):
    path = mseed(tmp_path / "a.mseed", 60)

    data = load([path], SHORT)

    source = ArchiveSource(FilesSource(type="files", paths=[str(path)]), MemoryStore(), ManualClock())
    assembler = Windows(SHORT, WindowsSpec())
    windows = assembler.push(source.poll(10_000, 0.0).records, T0 + 10**15, 0.0)[0] + assembler.finish()
    assert data.window_ids == tuple(window.window_id for window in windows)
    np.testing.assert_array_equal(data.logp, transform(windows, SHORT).logp)
    assert set(data.streams) == {"FDSN:BW_RJOB__E_H_Z"}


def test_files_globs_directories_and_archives_give_the_same(tmp_path):
    path = mseed(tmp_path / "data" / "a.mseed", 60)
    day = day_file(tmp_path / "sds")
    day.write_bytes(path.read_bytes())

    sets = [load([p], SHORT) for p in (path, f"{tmp_path}/data/*.mseed", path.parent, tmp_path / "sds")]

    assert len(sets[0]) > 30
    for other in sets[1:]:
        assert other.window_ids == sets[0].window_ids
        np.testing.assert_array_equal(other.logp, sets[0].logp)


def test_without_a_profile_one_is_chosen_and_told(tmp_path):
    data = load([mseed(tmp_path / "a.mseed", 120)])

    assert data.profile.name == "seismic"
    assert "100 Hz" in data.chosen


def test_no_window_spans_a_gap_and_the_gap_is_told(tmp_path):
    first, second = records(30), records(30, 1, start_ns=T0 + 40 * 10**9)
    (tmp_path / "a.mseed").write_bytes(b"".join([*first, *second]))

    data = load([tmp_path / "a.mseed"], SHORT)

    gap = T0 + 30 * 10**9, T0 + 40 * 10**9
    assert not ((data.start_ns < gap[1]) & (data.end_ns > gap[0] + 10**7)).any()
    assert data.notes == ("1 gap: no window spans it",)


def test_labelled_windows_keep_their_order_and_labels(tmp_path):
    x = RNG.normal(size=(300, 128)).astype(np.float32)
    y = RNG.integers(0, 3, 300)

    data = load([npz(tmp_path / "w.npz", x, y=y)])

    assert data.logp.shape == (300, 1, 17, 13)
    assert data.wave is not None
    np.testing.assert_allclose(data.wave[:, 0], x - x.mean(axis=1, keepdims=True), atol=1e-5)
    assert data.label_names == ("0", "1", "2")
    np.testing.assert_array_equal(data.y, y)


def test_constant_and_nan_windows_are_left_out_and_counted(tmp_path):
    x = RNG.normal(size=(10, 64))
    x[1], x[2], x[5, 3] = 0.0, 7.0, np.nan

    data = load([npz(tmp_path / "w.npz", x)])

    assert data.dropped == {"dead": 1, "constant": 1, "invalid": 1}
    assert data.notes == ("3 of 10 windows are not learnt from: 1 constant, 1 dead, 1 invalid",)
    training = data.training()
    assert training.logp.shape[0] == 7
    assert np.isfinite(training.logp).all()
    np.testing.assert_array_equal(training.start_ns, data.start_ns[[0, 3, 4, 6, 7, 8, 9]])


def test_a_set_of_nothing_but_constants_has_nothing_to_learn_from(tmp_path):
    with pytest.raises(UsageError, match=r"a window to learn from .got 5 windows: 5 dead"):
        load([npz(tmp_path / "w.npz", np.zeros((5, 64)))]).training()


def test_one_window_is_a_data_set(tmp_path):
    assert len(load([npz(tmp_path / "w.npz", RNG.normal(size=(1, 64)))])) == 1


def test_streams_that_are_too_slow_are_named_and_the_others_kept(tmp_path):
    mseed(tmp_path / "fast.mseed", 60)
    slow = pack(walk(1200, "steim2", RNG), "steim2", sourceid="FDSN:BW_SLOW__B_H_Z", starttime=T0, samprate=20.0)
    (tmp_path / "slow.mseed").write_bytes(b"".join(slow))

    data = load([tmp_path], SHORT)

    assert set(data.streams) == {"FDSN:BW_RJOB__E_H_Z"}
    assert len(data.rejects) == 1
    assert data.rejects[0].startswith("FDSN:BW_SLOW__B_H_Z: rate too low, 20 Hz; profile short/1 needs 100 Hz or more")


def test_faster_streams_are_resampled_beside_the_others(tmp_path):
    mseed(tmp_path / "a.mseed", 60)
    fast = pack(walk(12_000, "steim2", RNG), "steim2", sourceid="FDSN:BW_FAST__E_H_Z", starttime=T0, samprate=200.0)
    (tmp_path / "b.mseed").write_bytes(b"".join(fast))

    data = load([tmp_path], SHORT)

    assert {(s, r) for s, r in zip(data.streams, data.rate_hz, strict=True)} == {
        ("FDSN:BW_FAST__E_H_Z", 200.0),
        ("FDSN:BW_RJOB__E_H_Z", 100.0),
    }


def test_a_recording_shorter_than_a_window_says_how_long_it_must_be(tmp_path):
    with pytest.raises(UsageError, match=r"a window of profile seismic/1 takes 40.96 s .* \(got at most 20 s\)"):
        load([mseed(tmp_path / "a.mseed", 20)])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.mseed", b"\0" * 512, "signal"),
        ("a.mseed", b"", "signal"),
        ("a.pkl", b"cos\nsystem\n", "never read"),
        ("a.txt", b"hello", "not a known format"),
    ],
)
def test_files_without_signal_say_why(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UsageError, match=says):
        load([tmp_path / name])


def test_paths_that_name_nothing_are_wrong_usage(tmp_path):
    for paths in ([tmp_path / "none"], [f"{tmp_path}/*.mseed"], []):
        with pytest.raises(UsageError, match="DATA: must name"):
            load(paths)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="DATA: must hold files"):
        load([tmp_path / "empty"])


def test_windows_and_recordings_are_not_mixed(tmp_path):
    windows = npz(tmp_path / "w.npz", RNG.normal(size=(4, 64)))

    with pytest.raises(UsageError, match="windows alone or recordings alone"):
        load([windows, mseed(tmp_path / "a.mseed", 20)])


def test_a_continuous_npz_is_a_recording_of_its_kind(tmp_path):
    path = npz(tmp_path / "e.npz", RNG.normal(size=(2, 2500)), 125.0, kind=np.array("EEG"), unit=np.array("uV"))

    data = load([path])

    assert data.profile.name == "eeg"
    assert set(data.streams) == {"e/0", "e/1"}


def test_beyond_the_memory_allowed_every_second_window_is_left_out_and_told(tmp_path):
    path = mseed(tmp_path / "a.mseed", 1200)
    whole = load([path], SHORT)

    some = load([path], SHORT, Reading(most_bytes=whole.logp.nbytes // 3))

    assert some.window_ids == whole.window_ids[::4]
    assert some.notes[0].startswith(f"only every 4th window was kept: {len(whole)} need more")


def test_of_windows_in_arrays_none_is_left_out(tmp_path):
    data = load([npz(tmp_path / "w.npz", RNG.normal(size=(600, 64)))], None, Reading(most_bytes=1))

    assert len(data) == 600
    assert data.notes == ()


def test_an_object_array_is_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('executed')",))

    np.savez(tmp_path / "w.npz", x=np.array([Bomb()], dtype=object), fs=1.0)

    with pytest.raises(UsageError, match="objects, which are never read"):
        load([tmp_path / "w.npz"])


def test_a_kind_that_is_an_object_says_nothing(tmp_path):
    mseed(tmp_path / "b.mseed", 60)
    npz(tmp_path / "a.npz", RNG.normal(size=(1, 2500)), 100.0, kind=np.array([{}], dtype=object))

    assert open_data([tmp_path]).profile.name == "seismic"


def test_batches_come_with_progress_and_can_be_read_without_being_kept(tmp_path):
    opened = open_data([npz(tmp_path / "w.npz", RNG.normal(size=(600, 64)))])
    seen: list[float] = []

    sizes = [len(batch.windows) for batch in opened.batches(lambda _, share: seen.append(share))]

    assert sizes == [256, 256, 88]
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_components_of_a_station_are_one_window(tmp_path):
    for at, channel in enumerate("ZNE"):
        samples = walk(6000, "steim2", np.random.default_rng(at))
        path = tmp_path / f"{channel}.mseed"
        path.write_bytes(b"".join(pack(samples, "steim2", sourceid=f"FDSN:BW_RJOB__E_H_{channel}", starttime=T0)))

    data = load([tmp_path], SHORT, Reading(WindowsSpec(group_by="station")))

    assert data.logp.shape[1] == 3
    assert set(data.streams) == {"FDSN:BW_RJOB__E_H"}
