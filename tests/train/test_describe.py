from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.core.specs import ProfileSpec
from streamclust.core.times import NO_TIME_NS
from streamclust.signal import spectra
from streamclust.train.describe import Assigned, describe, evenly, mean_spectrogram, recorded_hours, timeless, typical

PROFILE = ProfileSpec(window_seconds=10.24, hop_seconds=5.12)
HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True)
class Table:
    profile: ProfileSpec
    logp: Any
    streams: Any
    start_ns: Any
    end_ns: Any
    peak: Any
    rms: Any


def table(x, streams=None):
    """Windows of one hop distance; each stream has its own run."""
    streams = ["A"] * len(x) if streams is None else streams
    starts = np.arange(len(x)) * PROFILE.hop_ns + 1_700_000_000 * 10**9
    logp = spectra.log_power(x, PROFILE)
    return Table(PROFILE, logp, streams, starts, starts + PROFILE.window_ns, abs(x).max((1, 2)), x.std((1, 2)))


def assigned(labels, width, z=None, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    memberships = np.full((len(labels), width), 0.1 / width, np.float32)
    memberships[np.arange(len(labels)), np.maximum(labels, 0)] += rng.uniform(0.5, 0.9, len(labels)).astype(np.float32)
    z = rng.normal(size=(len(labels), 4)) + 10 * labels[:, None] if z is None else z
    return Assigned(labels, memberships, np.asarray(z, np.float32))


@pytest.fixture(scope="module")
def two():
    """30 windows of noise, 20 with 6 Hz."""
    x = np.random.default_rng(0).normal(size=(50, 2, PROFILE.samples)).astype(np.float32)
    x[30:] += (9 * np.sin(2 * np.pi * 6 * np.arange(PROFILE.samples) / 100)).astype(np.float32)
    return table(x, ["A", "B"] * 25), assigned([0] * 30 + [1] * 20, 3)


def test_each_cluster_is_described_with_its_own_numbers(two):
    noise, tremor, empty = describe(*two, names=["C4", "C7", "C9"])

    assert (noise.cluster, noise.count, noise.share, noise.description) == ("C4", 30, 0.6, "background")
    assert (tremor.cluster, tremor.count, tremor.share) == ("C7", 20, 0.4)
    assert tremor.description == "5.1-6.6 Hz, continuous"
    assert tremor.rms == pytest.approx(np.sqrt(1 + 81 / 2), rel=0.05)
    assert tremor.peak > 9
    assert noise.peak < 6
    assert dict(tremor.streams) == {"A": 0.5, "B": 0.5}
    assert 30 <= tremor.medoid < 50
    assert all(30 <= row < 50 for row in tremor.exemplars)
    assert (empty.count, empty.medoid, empty.exemplars, empty.description) == (0, None, (), "empty")


def test_the_json_has_no_nan_even_of_an_empty_cluster_and_of_windows_without_a_number(two):
    windows, found = two
    odd = Table(
        PROFILE,
        np.full_like(windows.logp, np.nan),
        windows.streams,
        windows.start_ns,
        windows.end_ns,
        windows.peak * np.nan,
        windows.rms,
    )

    for info in (*describe(windows, found), *describe(odd, found)):
        text = json.dumps(info.to_json(), allow_nan=False)
        assert json.loads(text)["cluster"] == info.cluster


def test_rows_without_a_cluster_are_in_none(two):
    windows, found = two
    labels = found.labels.copy()
    labels[:10] = -1

    assert [info.count for info in describe(windows, found._replace(labels=labels))] == [20, 20, 0]


def test_windows_an_hour_are_counted_over_recorded_time_only():
    x = np.zeros((4, 1, PROFILE.samples), np.float32)
    windows = table(x)
    late = windows.start_ns + np.array([0, 0, 1, 1]) * 100 * HOUR_NS
    windows = Table(PROFILE, windows.logp, windows.streams, late, late + PROFILE.window_ns, windows.peak, windows.rms)

    info = describe(windows, assigned([0, 1, 0, 1], 2))[0]

    assert info.hourly == pytest.approx(2 / (2 * 1.5 * 10.24 / 3600))  # two runs of one and a half windows


def test_recorded_time_counts_overlaps_once_and_needs_real_times():
    start = np.array([0, 1, 5]) * HOUR_NS
    end = np.array([4, 2, 6]) * HOUR_NS

    assert recorded_hours(["A", "B", "A"], start, end) == pytest.approx(5)
    assert recorded_hours(["A", "A"], np.zeros(2, np.int64), np.full(2, HOUR_NS)) is None
    assert recorded_hours([], np.zeros(0, np.int64), np.zeros(0, np.int64)) is None


def test_windows_laid_out_as_arrays_are_have_no_times_and_recordings_of_any_year_have():
    second = 10**9
    arrays = NO_TIME_NS + np.array([6, 0, 2, 20_000_000]) * second
    touching = NO_TIME_NS + np.arange(4) * second

    assert timeless("AAAA", arrays, arrays + second)
    assert recorded_hours("AAAA", arrays, arrays + second) is None
    assert not timeless("AAAA", touching, touching + second)
    assert not timeless("AAAA", arrays + second // 2, arrays + second)
    assert not timeless("AAAA", arrays + 2 * 365 * 86_400 * second, arrays + 2 * 365 * 86_400 * second + second)
    assert not timeless("", arrays[:0], arrays[:0])


def test_the_medoid_is_in_the_middle_and_no_outlier():
    z = np.array([[0.0], [1], [2], [3], [100]])
    windows = table(np.ones((5, 1, PROFILE.samples), np.float32), list("ABCDE"))

    assert typical(windows, assigned([0] * 5, 1, z), np.arange(5), 0)[0] == 2


def test_exemplars_are_of_many_streams_and_overlap_nowhere():
    streams = ["A"] * 80 + list("BCDEFGHI")
    x = np.random.default_rng(0).normal(size=(88, 1, PROFILE.samples)).astype(np.float32)
    windows = table(x, streams)

    medoid, exemplars = typical(windows, assigned([0] * 88, 1), np.arange(88), 0)

    assert len(exemplars) == 9
    assert len({streams[row] for row in exemplars}) >= 6
    rows = [medoid, *exemplars]
    assert len(set(rows)) == 10
    assert all(abs(a - b) > 1 for a in rows for b in rows if a != b and streams[a] == streams[b] == "A")


def test_exemplars_are_certain_and_doubtful_members():
    x = np.random.default_rng(0).normal(size=(300, 1, PROFILE.samples)).astype(np.float32)
    found = assigned([0] * 300, 1)
    _, exemplars = typical(table(x), found, np.arange(300), 0)

    rank = np.argsort(np.argsort(-found.memberships[:, 0]))[list(exemplars)] // 100
    assert sorted(rank) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_copies_of_one_window_are_shown_once():
    z = np.repeat([[0.0, 0], [0, 9], [9, 0]], 20, axis=0)
    windows = table(np.ones((60, 1, PROFILE.samples), np.float32), [f"S{i}" for i in range(60)])

    medoid, exemplars = typical(windows, assigned([0] * 60, 1, z), np.arange(60), 0)

    assert sorted(row // 20 for row in (medoid, *exemplars)) == [0, 1, 2]


def test_the_mean_spectrogram_leaves_missing_components_out():
    logp = np.array([1.0, 3.0, 5.0, np.nan], np.float32).reshape(2, 2, 1, 1)

    assert mean_spectrogram(logp, np.array([0, 1])).ravel().tolist() == [3.0, 3.0]
    assert np.isnan(mean_spectrogram(logp[:, :, :0], np.array([], np.int64))).all()


@pytest.mark.parametrize(
    "change", [{"labels": np.array([0, 3])}, {"labels": np.array([0])}, {"embeddings": np.zeros((3, 2), np.float32)}]
)
def test_what_does_not_fit_together_is_refused(change):
    windows = table(np.ones((2, 1, PROFILE.samples), np.float32))

    with pytest.raises(ModelError, match="describe"):
        describe(windows, assigned([0, 1], 2)._replace(**change))


def test_noise_and_names_of_a_wrong_length_are_refused():
    windows = table(np.ones((2, 1, PROFILE.samples), np.float32))

    with pytest.raises(ModelError, match="noise"):
        describe(windows, assigned([0, 1], 2), noise_median=np.zeros(3, np.float32))
    with pytest.raises(ModelError, match="names"):
        describe(windows, assigned([0, 1], 2), names=["C1"])


def test_rows_are_thinned_evenly_and_keep_their_ends():
    assert evenly(np.arange(100), 5).tolist() == [0, 25, 50, 74, 99]
    assert evenly(np.arange(3), 5).tolist() == [0, 1, 2]
