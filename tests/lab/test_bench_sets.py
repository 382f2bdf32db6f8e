"""Labelled sets: series, images and digits; sources beside the classes; small parts always the same."""

from __future__ import annotations

import numpy as np
import pytest
from lab_sets import file, tones

from streamclust.core.errors import UsageError
from streamclust.lab import bench_sets


def test_a_folder_has_its_files_and_the_digits_and_no_folder_the_digits_alone(tmp_path):
    file(tmp_path / "b.npz")
    file(tmp_path / "a.npz")

    assert bench_sets.names(tmp_path) == ("a", "b", "digits")
    assert bench_sets.names(None) == ("digits",)


def test_a_folder_without_windows_is_named(tmp_path):
    with pytest.raises(UsageError, match="directory of labelled windows"):
        bench_sets.names(tmp_path)


def test_series_keep_samples_classes_and_sources_in_step_when_a_window_is_dead(tmp_path):
    x, y = tones()
    x[4] = 0
    station = np.array([f"s{number}" for number in range(len(y))])
    file(tmp_path / "a.npz", x=x, station=station)

    found = bench_sets.read("a", tmp_path)

    left = np.delete(np.arange(len(y)), 4)
    assert found.data is not None
    assert len(found.data.logp) == len(left)
    assert np.array_equal(found.rows, x[left])
    assert np.array_equal(found.y, y[left])
    assert found.sources["station"].tolist() == station[left].tolist()
    assert found.classes == 3


def test_a_part_of_a_set_is_the_same_in_every_run(tmp_path):
    file(tmp_path / "a.npz")

    first, second = (bench_sets.read("a", tmp_path, 50) for _ in range(2))

    assert len(first.y) == 50
    assert np.array_equal(first.rows, second.rows)


def test_images_are_pixels_from_0_to_1_and_no_series(tmp_path):
    x = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
    np.savez(tmp_path / "i.npz", x=x, y=np.array([0, 1, 0, 1, 1]), fs=0.0)

    found = bench_sets.read("i", tmp_path)

    assert found.data is None
    assert found.rows.shape == (5, 16)
    assert (found.rows.min(), found.rows.max()) == (0, 1)


def test_windows_without_labels_and_files_with_objects_are_refused(tmp_path):
    x, _ = tones()
    np.savez(tmp_path / "u.npz", x=x, fs=100.0)
    np.savez(tmp_path / "o.npz", x=x, fs=100.0, y=np.array([None] * len(x)))

    with pytest.raises(UsageError, match="must hold y"):
        bench_sets.read("u", tmp_path)
    with pytest.raises(UsageError, match="plain arrays"):
        bench_sets.read("o", tmp_path)


def test_the_digits_need_no_folder():
    pytest.importorskip("sklearn")

    found = bench_sets.read("digits", None, 100)

    assert found.rows.shape == (100, 64)
    assert found.classes == 10
