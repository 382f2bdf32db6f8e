"""The first model: fitted once, published before it is used, and kept over restarts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from streamclust.core.errors import FitFailed, ProfileMismatch
from streamclust.core.specs import ModelSpec, ProfileSpec
from streamclust.core.types import Flag, Window
from streamclust.signal.batch import Batch, transform
from streamclust.store.models import ModelStore
from streamclust.stream.live import PENDING_MAX, WINDOWS_A_CLUSTER, Live
from streamclust.train.first import first_fit

PROFILE = ProfileSpec(name="test", window_seconds=2.56, hop_seconds=1.28)
SPEC = ModelSpec(min_windows=20, clusters=2, dimensions=3)


def batch(count: int, first: int = 0, flags: Flag = Flag.NONE) -> Batch:
    windows = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        time = np.arange(256) / 100
        signal = rng.normal(0, 100, 256) + 2000 * np.sin(2 * np.pi * (5 if number % 2 else 30) * time)
        samples = signal.astype(np.int32)[None]
        windows.append(
            Window(f"w{number}", "s", number, number + 1, Fraction(100), samples, 0, 0.0, flags, {"p": number})
        )
    return transform(windows, PROFILE)


def live(tmp_path, profile: ProfileSpec = PROFILE) -> Live:
    return Live(ModelStore(tmp_path / "models"), first_fit, profile, SPEC)


def test_windows_wait_until_there_are_enough_and_then_all_get_their_cluster(tmp_path):
    first = live(tmp_path)

    assert first.assign(batch(12), 0) == []
    assert first.pending == 12
    assert [need["p"] for need in first.needs()] == list(range(12))
    events = first.assign(batch(12, 12), 0)

    assert [e.window_id for e in events] == [f"w{n}" for n in range(24)]
    assert all(e.model == 1 and e.cluster for e in events)
    assert first.pending == 0
    assert len({e.cluster for e in events if int(e.window_id[1:]) % 2}) == 1
    assert {e.cluster for e in events} == {"C1", "C2"}


def test_the_fit_does_not_depend_on_how_windows_were_batched(tmp_path):
    whole = live(tmp_path / "a").assign(batch(30), 0)
    one = live(tmp_path / "b")
    parts = [e for n in range(30) for e in one.assign(batch(1, n), 0)]

    assert [(e.window_id, e.cluster) for e in whole] == [(e.window_id, e.cluster) for e in parts]


def test_a_restart_uses_the_published_model(tmp_path):
    first = live(tmp_path)
    before = first.assign(batch(30), 0)
    first.publish()
    again = live(tmp_path)

    assert again.version == 1
    after = again.assign(batch(30), 0)
    assert [(e.window_id, e.cluster, e.model) for e in before] == [(e.window_id, e.cluster, e.model) for e in after]


def test_a_model_of_another_profile_is_refused(tmp_path):
    first = live(tmp_path)
    first.assign(batch(30), 0)
    first.publish()

    with pytest.raises(ProfileMismatch):
        live(tmp_path, ProfileSpec(name="test", window_seconds=2.56, hop_seconds=1.0))


def test_unusable_windows_do_not_wait(tmp_path):
    (event,) = live(tmp_path).assign(batch(1, flags=Flag.DEAD), 0)

    assert event.flags == ("dead",)
    assert event.cluster is None


def test_windows_that_may_not_be_trained_on_wait_but_not_for_ever(tmp_path):
    first = live(tmp_path)
    events = [e for n in range(PENDING_MAX * SPEC.min_windows) for e in first.assign(batch(1, n, Flag.CLIPPED), 0)]

    assert len(events) == PENDING_MAX * SPEC.min_windows
    assert all(e.cluster is None for e in events), "nothing could be fitted"
    assert first.pending == 0
    assert first.reasons() == ("160 windows get no cluster: none of them may be trained on",)


def test_a_bounded_source_that_ends_early_is_fitted_with_what_there_is(tmp_path):
    enough = WINDOWS_A_CLUSTER * 2
    first, second = live(tmp_path / "a"), live(tmp_path / "b")

    assert first.assign(batch(enough + 4), 0) == []
    assert {e.cluster for e in first.finish(0)} == {"C1", "C2"}
    assert second.assign(batch(enough - 1), 0) == []
    assert [e.cluster for e in second.finish(0)] == [None] * (enough - 1)
    assert first.reasons() == ()
    assert "at least 8 windows that may be trained on (got 7)" in second.reasons()[0]
    assert second.finish(0) == []
    assert second.reasons() == ()


def test_a_number_of_clusters_that_nobody_gave_is_found(tmp_path):
    spec = SPEC.model_copy(update={"clusters": "auto", "min_windows": 60})
    found = Live(ModelStore(tmp_path / "models"), first_fit, PROFILE, spec).assign(batch(60), 0)

    assert {e.cluster for e in found} == {"C1", "C2"}


def test_windows_that_make_no_clusters_get_their_events_without_and_the_next_ones_are_tried(tmp_path):
    def failing(batch, profile, spec):
        raise FitFailed("collapse")

    first = Live(ModelStore(tmp_path / "models"), failing, PROFILE, SPEC)
    events = first.assign(batch(30), 0)

    assert [e.cluster for e in events] == [None] * SPEC.min_windows
    assert first.pending == 30 - SPEC.min_windows
    assert first.reasons() == ("20 windows get no cluster: collapse",)
    assert first.reasons() == (), "each is told once"
    first._fit = first_fit
    again = first.assign(batch(30, 30), 0)
    assert len(again) == 40
    assert all(e.cluster for e in again)
    assert first.reasons() == ()


def test_each_fit_that_fails_has_its_reason_and_takes_as_many_windows(tmp_path):
    sizes = []

    def failing(batch, profile, spec):
        sizes.append(len(batch.windows))
        raise FitFailed(f"collapse {len(sizes)}")

    first = Live(ModelStore(tmp_path / "models"), failing, PROFILE, SPEC)
    events = first.assign(batch(50), 0)

    assert sizes == [20, 20]
    assert [(e.window_id, e.cluster, e.model) for e in events] == [(f"w{n}", None, None) for n in range(40)]
    assert [reason.partition(": ")[2] for reason in first.reasons()] == ["collapse 1", "collapse 2"]
    assert first.pending == 10


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_replay_in_other_batches_gives_the_same_clusters_and_memberships_within_1e_5(tmp_path, size):
    first = live(tmp_path)
    first.assign(batch(40), 0)
    first.publish()
    whole = live(tmp_path).assign(batch(100), 0)
    again = live(tmp_path)
    parts = [e for n in range(0, 100, size) for e in again.assign(batch(min(size, 100 - n), n), 0)]

    assert [(e.window_id, e.cluster, e.is_novel) for e in parts] == [
        (e.window_id, e.cluster, e.is_novel) for e in whole
    ]
    for one, other in zip(parts, whole, strict=True):
        assert one.memberships == pytest.approx(other.memberships, abs=1e-5)
        assert one.novelty == pytest.approx(other.novelty, abs=1e-4)
