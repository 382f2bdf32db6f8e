"""Windows from arrays: every sample where it was, and each bad file by a message."""

from __future__ import annotations

import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamclust.core.auto_profile import auto_profile
from streamclust.core.errors import UsageError
from streamclust.core.specs import ProfileSpec
from streamclust.lab import arrays
from streamclust.signal.batch import transform

X = np.random.default_rng(0).normal(size=(6, 2, 64)).astype(np.float32)


def save(path: Path, **fields: object) -> Path:
    np.savez(path, **{"x": X, "fs": np.float64(100.0), **fields})  # type: ignore[arg-type] — any value is an array's
    return path


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def compressed(path: Path) -> bytes:
    np.savez_compressed(path, x=X, fs=np.float64(100.0))
    return path.read_bytes()


def test_a_file_gives_windows_labels_and_stations(tmp_path):
    path = save(
        tmp_path / "Set (1).npz",
        y=np.array([0, 2, 2, 1, 0, 1]), label_names=np.array(["noise", "P", "S"]), station=np.array(list("aabbcc")),
    )  # fmt: skip

    found = arrays.read(path)

    np.testing.assert_array_equal(found.x, X)
    assert found.label == "Set_1_"
    assert [found.label_names[i] for i in found.y] == ["noise", "S", "S", "P", "noise", "P"]
    assert found.groups == tuple("aabbcc")


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f2", "f4", "f8", "?"])
def test_every_real_type_is_taken(tmp_path, dtype):
    x = (X > 0).astype(dtype)

    np.testing.assert_array_equal(arrays.read(save(tmp_path / "a.npz", x=x)).x, x.astype(np.float64))


def test_integers_with_a_scale_come_in_their_unit(tmp_path):
    scale = np.arange(1, 7, dtype=np.float32)

    found = arrays.read(save(tmp_path / "a.npz", x=np.ones((6, 1, 64), np.int16), scale=scale))

    np.testing.assert_array_equal(found.x[:, 0, 0], scale)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"x": np.array([object()] * 3)}, "plain arrays .got objects, which are never read"),
        ({"x": np.zeros((0, 64))}, "at least one window"),
        ({"x": np.zeros(64)}, r"must be \(N, samples\)"),
        ({"x": np.zeros((2, 2, 2, 64))}, r"must be \(N, samples\)"),
        ({"x": np.zeros((2, 64), complex)}, "integers or floats .got complex"),
        ({"x": np.array([["a"]])}, "integers or floats"),
        ({"fs": np.float64(0)}, "fs must be a rate in Hz > 0"),
        ({"fs": np.float64(np.nan)}, "fs must be a rate in Hz > 0"),
        ({"fs": np.zeros(2)}, "fs must be one number"),
        ({"fs": np.array("fast")}, "fs must be one number"),
        ({"y": np.zeros(5, int)}, "y must be 6 labels"),
        ({"y": np.full(6, np.nan)}, "y must be 6 labels"),
    ],
)
def test_each_bad_array_is_refused_with_a_reason(tmp_path, fields, says):
    with pytest.raises(UsageError, match=says):
        arrays.read(save(tmp_path / "a.npz", **fields))


def test_a_file_without_windows_or_that_is_no_archive_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", data=X)
    (tmp_path / "b.npz").write_bytes(b"not a zip")
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")

    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", header("(1000000000000000, 64)"))
    with zipfile.ZipFile(tmp_path / "e.npz", "w") as archive:
        archive.writestr("x.npy", header("((6, 64)"))
    whole = bytearray(compressed(tmp_path / "f.npz"))
    whole[60:80] = bytes(20)
    (tmp_path / "f.npz").write_bytes(whole)

    for name in ("d", "e", "f"):
        with pytest.raises(UsageError, match="npz of plain arrays"):
            arrays.read(tmp_path / f"{name}.npz")
    with pytest.raises(UsageError, match="must hold x"):
        arrays.read(tmp_path / "a.npz")
    with pytest.raises(UsageError, match="npz"):
        arrays.is_windows(tmp_path / "b.npz")
    with pytest.raises(UsageError, match="npz"):
        arrays.read(tmp_path / "c.npz")


def test_a_window_of_the_array_is_the_window_that_is_embedded():
    data = arrays.Arrays("a", X, 100.0)
    profile, _ = auto_profile(100.0, 64, 2)

    batch = transform(list(arrays.windows(data, profile)), profile)

    expected = X - X.mean(axis=2, keepdims=True)
    assert batch.wave is not None
    np.testing.assert_allclose(batch.wave, expected, atol=1e-6)
    assert batch.logp.shape == (6, 2, 9, 13)


def test_windows_have_ids_of_their_own_and_times_that_do_not_overlap():
    profile, _ = auto_profile(100.0, 64, 2)

    found = list(arrays.windows(arrays.Arrays("a", X, 100.0), profile))

    assert len({window.window_id for window in found}) == 6
    assert all(a.end_ns <= b.start_ns for a, b in pairwise(found))


def test_windows_of_a_faster_rate_are_resampled_to_the_profile():
    time = np.arange(512) / 200
    data = arrays.Arrays("a", np.sin(2 * np.pi * 5 * time)[None, None].astype(np.float32), 200.0)
    profile = ProfileSpec(name="half", window_seconds=2.56, hop_seconds=1.28, taper_fraction=0.0, embed="both")

    wave = transform(list(arrays.windows(data, profile)), profile).wave

    assert wave is not None
    assert wave.shape == (1, 1, 256)
    np.testing.assert_allclose(wave[0, 0, 20:-20], np.sin(2 * np.pi * 5 * time[::2])[20:-20], atol=0.1)


@pytest.mark.parametrize(
    ("rate", "samples", "says"),
    [(50.0, 64, "too slow for profile"), (100.0, 100, "must have 256 samples"), (100.0, 6000, "must have 256 samples")],
)
def test_windows_that_do_not_fit_the_profile_are_refused(rate, samples, says):
    profile = ProfileSpec(name="other", window_seconds=2.56, hop_seconds=1.28)

    with pytest.raises(UsageError, match=says):
        list(arrays.windows(arrays.Arrays("a", np.ones((1, 1, samples), np.float32), rate), profile))


def test_several_files_are_joined_when_their_windows_are_alike(tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    parts = [
        arrays.read(save(path, y=np.array(labels)))
        for path, labels in zip(paths, (list("xyxyxy"), list("yzyzyz")), strict=True)
    ]

    both = arrays.joined(parts, paths)

    assert both.x.shape == (12, 2, 64)
    assert "".join(both.label_names[i] for i in both.y) == "xyxyxyyzyzyz"
    assert set(both.groups) == {"a", "b"}
    with pytest.raises(UsageError, match=r"b.npz: must have windows of 2 x 64 samples at 100 Hz, as .*a.npz has"):
        arrays.joined([parts[0], arrays.read(save(paths[1], fs=np.float64(50), y=np.zeros(6)))], paths)


def test_the_level_follows_the_unit():
    noise = np.random.default_rng(1).normal(size=(100, 1, 200))

    low, high = arrays.level_db(noise * 1e-6, 100.0), arrays.level_db(noise, 100.0)

    assert high == pytest.approx(-10 * np.log10(50), abs=0.5)
    assert low == pytest.approx(high - 120, abs=1e-6)
    assert arrays.level_db(np.zeros((3, 1, 50)), 100.0) is None
