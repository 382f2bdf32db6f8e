import numpy as np
import pytest

from streamclust.core.errors import UsageError
from streamclust.train import corpus
from streamclust.train.corpus import Corpus, Recording
from streamclust.train.recipe import Augmentation, Drawing, Recordings

SMALL = Drawing(lengths=(64,), group=8, slower=(1,))


def source(glob):
    return Recordings(glob=glob, origin="here", licence="none")


def counting(station, length=1000, start=0):
    return Recording(station, np.arange(start, start + length, dtype=np.float32))


def test_no_sample_is_on_both_sides_of_the_split_and_none_is_lost():
    recordings = [counting(f"S{n}", 1000, 1000 * n) for n in range(20)]
    train, held = corpus.split(recordings, Drawing(held_back=0.2, held_back_stations=0.1))
    sides = [np.concatenate([part for parts in side.stations.values() for part in parts]) for side in (train, held)]

    assert not np.intersect1d(*sides).size
    assert sum(map(len, sides)) == 20_000
    assert len(set(held.stations) - set(train.stations)) == 2


def test_all_channels_of_a_station_are_held_back_together():
    recordings = [counting(f"S{n % 10}") for n in range(30)]
    train, held = corpus.split(recordings, Drawing(held_back_stations=0.3))

    for station in set(held.stations) - set(train.stations):
        assert [len(part) for part in held.stations[station]] == [1000] * 3


def test_the_split_follows_from_names_alone():
    recordings = [counting(f"S{n}") for n in range(20)]

    assert set(corpus.split(recordings, Drawing())[0].stations) == set(
        corpus.split(recordings[::-1], Drawing())[0].stations
    )


def test_a_batch_is_normalised_finite_and_follows_from_the_seed():
    rng = np.random.default_rng(1)
    made = Corpus(
        {"a": [rng.normal(size=4000).astype(np.float32)], "b": [1e6 * rng.normal(size=900).astype(np.float32)]}
    )
    one, same = (corpus.draw(made, SMALL, Augmentation(), 16, np.random.default_rng(3)) for _ in range(2))

    assert one.plain.shape[:3] == (16, 1, 9)
    assert one.waves.shape == (16, 64)
    for x in (one.plain, *one.views, one.waves):
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
    assert abs(float(np.median(one.plain))) < 0.3
    assert np.median(np.sqrt(np.square(one.waves).mean(axis=1))) == pytest.approx(1, abs=0.2)
    assert np.array_equal(one.views[0], same.views[0])
    assert not np.array_equal(*one.views)


def test_many_short_pieces_give_one_window_each():
    pieces = [np.full(200, n, np.float32) + np.resize([0, 1e-3], 200).astype(np.float32) for n in range(30)]
    group = corpus._group(Corpus({"events": pieces}), SMALL, 64, np.random.default_rng(0))

    assert group.shape == (8, 64)


def test_recordings_that_are_too_short_for_the_window_are_told():
    made = Corpus({"a": [np.arange(50, dtype=np.float32)]})

    with pytest.raises(UsageError, match="windows of 64"):
        corpus.draw(made, SMALL, Augmentation(shift_hops=0), 8, np.random.default_rng(0))


def test_npz_of_channels_and_of_pieces_are_read_and_constant_channels_left_out(tmp_path):
    rng = np.random.default_rng(2)
    np.savez(tmp_path / "rec_a.npz", x=np.stack([rng.normal(size=500), np.ones(500)]))
    np.savez(tmp_path / "rec_b.npz", x=rng.integers(-9, 9, (4, 300, 3)).astype(np.int16))
    found = corpus.read(tmp_path, [source("rec_*.npz")])

    assert [(r.station, len(r.samples)) for r in found] == [("rec_a", 500)] + [("rec_b", 300)] * 12


def test_miniseed_is_read_with_its_station(tmp_path):
    obspy = pytest.importorskip("obspy")
    header = {"network": "XX", "station": "ABC", "sampling_rate": 100.0}
    obspy.Trace(np.arange(500, dtype=np.int32) % 17, header).write(str(tmp_path / "a.mseed"), format="MSEED")

    assert [(r.station, len(r.samples)) for r in corpus.read(tmp_path, [source("*.mseed")])] == [("XX.ABC", 500)]


def test_a_glob_without_files_and_a_file_that_is_no_recording_are_told(tmp_path):
    with pytest.raises(UsageError, match=r"\*\.npz"):
        corpus.read(tmp_path, [source("*.npz")])
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(UsageError, match=r"bad\.npz"):
        corpus.read(tmp_path, [source("*.npz")])


def test_an_archive_of_objects_is_never_opened(tmp_path):
    np.savez(tmp_path / "evil.npz", x=np.array([{"a": 1}], dtype=object))

    with pytest.raises(UsageError, match=r"evil\.npz"):
        corpus.read(tmp_path, [source("*.npz")])


def test_recordings_without_any_variation_are_told(tmp_path):
    np.savez(tmp_path / "flat.npz", x=np.zeros((1, 500)))

    with pytest.raises(UsageError, match="vary"):
        corpus.read(tmp_path, [source("*.npz")])
