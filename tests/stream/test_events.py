"""Events of a batch: each window's own, whether it has a cluster or not."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from streamclust.core.specs import ProfileSpec
from streamclust.core.types import Flag, Window
from streamclust.model.score import Scorer
from streamclust.signal.batch import transform
from streamclust.stream.events import scored, unscored
from streamclust.train.fit import FitOptions, TrainingData, fit

PROFILE = ProfileSpec(
    name="test", window_seconds=1.28, hop_seconds=0.64, stft={"nfft": 32, "hop": 8}, encoder="none", embed="both"
)


def window(number: int, hz: float = 0.0) -> Window:
    rng = np.random.default_rng(number)
    samples = 4 * np.sin(2 * np.pi * hz * np.arange(128) / 100) + rng.normal(size=128)
    start_ns = number * PROFILE.window_ns
    return Window(
        f"w{number}", "s", start_ns, start_ns + PROFILE.window_ns, Fraction(100), samples[None], 0, 0.25,
        Flag.NONE, {},
    )  # fmt: skip


@pytest.fixture(scope="module")
def scorer():
    batch = transform([window(i, (5.0, 25.0)[i % 2]) for i in range(80)], PROFILE)
    times = np.arange(80, dtype=np.int64)
    data = TrainingData(PROFILE, batch.logp, ["s"] * 80, times, times + 1, batch.peak, batch.rms, batch.wave)
    return Scorer(fit(data, FitOptions(clusters=2, method="kmeans")).bundle, PROFILE, 0.995)


def test_each_window_gets_the_event_that_is_its_own(scorer):
    dead = window(102)._replace(samples=np.zeros((1, 128)))
    batch = transform([window(100, 5.0), dead, window(101, 25.0)], PROFILE)

    first, none, last = scored(batch, scorer, 7, 5)

    assert [event.window_id for event in (first, none, last)] == ["w100", "w102", "w101"]
    assert {first.cluster, last.cluster} == {"C1", "C2"}
    assert first.model == last.model == 7
    assert sum(first.memberships.values()) == pytest.approx(1, abs=1e-5)
    assert max(first.memberships, key=first.memberships.__getitem__) == first.cluster
    assert (none.model, none.cluster, none.memberships, none.flags) == (None, None, {}, ("dead",))
    assert (first.gap_fraction, first.processed_at_ns, first.profile) == (0.25, 5, "test/1")


def test_a_batch_of_nothing_usable_has_events_all_the_same(scorer):
    batch = transform([window(1)._replace(samples=np.full((1, 128), np.nan))], PROFILE)

    (event,) = scored(batch, scorer, 7, 5)

    assert (event.cluster, event.peak, event.rms, event.flags) == (None, None, None, ("invalid",))
    assert unscored(batch, 0, PROFILE, 5) == event
