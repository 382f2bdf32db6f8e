"""The model of a window is the one in force at its start; the first is fitted once, published before it is used."""

from __future__ import annotations

import shutil

import pytest
from small_models import OTHER, PROFILE, SPEC, batch, model

from streamclust.core.errors import FitFailed, ModelError, ProfileMismatch, SinkUnavailable
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import Flag
from streamclust.store.models import ModelStore
from streamclust.stream.live import PENDING_MAX, READY, WINDOWS_A_CLUSTER, Live
from streamclust.stream.models import DirectoryModels
from streamclust.train.first import first_fit


def live(tmp_path, profile: ProfileSpec = PROFILE) -> Live:
    return Live(DirectoryModels(ModelStore(tmp_path / "models")), first_fit, profile, SPEC)


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
        live(tmp_path, OTHER)


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
    found = Live(DirectoryModels(ModelStore(tmp_path / "models")), first_fit, PROFILE, spec).assign(batch(60), 0)

    assert {e.cluster for e in found} == {"C1", "C2"}


def test_windows_that_make_no_clusters_get_their_events_without_and_the_next_ones_are_tried(tmp_path):
    def failing(batch, profile, spec):
        raise FitFailed("collapse")

    first = Live(DirectoryModels(ModelStore(tmp_path / "models")), failing, PROFILE, SPEC)
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

    first = Live(DirectoryModels(ModelStore(tmp_path / "models")), failing, PROFILE, SPEC)
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


def stored(tmp_path, *activations: tuple[int, int]) -> ModelStore:
    """Models 1, 2, ... and their activations (version, active_from_ns)."""
    store = ModelStore(tmp_path / "models")
    for version in sorted({version for version, _ in activations}):
        store.store(version, model(version))
    for version, start in activations:
        store.activate(version, active_from_ns=start)
    return store


def used(live: Live, some) -> list[int | None]:
    return [event.model for event in live.assign(some, 0)]


def test_a_batch_across_a_switch_is_split_and_keeps_its_order(tmp_path):
    stored(tmp_path, (1, 0), (2, 10))
    one = live(tmp_path)
    events = one.assign(batch(20), 0)

    assert [event.window_id for event in events] == [f"w{n}" for n in range(20)]
    assert [event.model for event in events] == [1] * 10 + [2] * 10
    alone = [event for n in range(20) for event in live(tmp_path).assign(batch(1, n), 0)]
    assert [(e.model, e.cluster) for e in alone] == [(e.model, e.cluster) for e in events]
    for event, other in zip(events, alone, strict=True):
        assert event.memberships == pytest.approx(other.memberships, abs=1e-5)
    assert one.version == 2


def test_a_replay_after_a_switch_and_a_rollback_stamps_what_was_stamped_live(tmp_path):
    store = stored(tmp_path, (1, 0))
    first = live(tmp_path)
    seen = used(first, batch(10))
    store.store(2, model(2))
    store.activate(2, active_from_ns=15, by="retrain")
    assert first.refresh(1.0)
    seen += used(first, batch(10, 10))
    store.activate(1, active_from_ns=20, by="rollback")
    assert first.refresh(2.0)
    seen += used(first, batch(5, 20))

    assert seen == [1] * 15 + [2] * 5 + [1] * 5
    assert used(live(tmp_path), batch(25)) == seen


def test_a_model_is_as_old_as_its_first_use_also_after_a_rollback(tmp_path):
    store = stored(tmp_path, (1, 0), (2, 10))
    assert live(tmp_path).since_ns is None  # nobody knows
    store.store(3, model(3))
    for version, at_ns in ((3, 7000), (2, 8000), (3, 9000)):
        store.activate(version, active_from_ns=20, by="retrain", at_ns=at_ns)
    assert (live(tmp_path).version, live(tmp_path).since_ns) == (3, 7000)


def test_more_models_than_are_kept_ready_are_loaded_again(tmp_path):
    stored(tmp_path, *((version, 5 * version) for version in range(1, READY + 3)))
    one = live(tmp_path)
    expected = [min(max(n // 5, 1), READY + 2) for n in range(40)]

    assert used(one, batch(40)) == expected
    assert used(one, batch(40)) == expected
    assert len(one._ready) == READY


def test_a_damaged_model_is_told_once_and_the_one_before_stands_in(tmp_path):
    store = stored(tmp_path, (1, 0), (2, 10), (3, 20))
    one = live(tmp_path)
    shutil.rmtree(store.directory / "3")
    again = live(tmp_path)

    assert used(again, batch(30)) == [1] * 10 + [2] * 20
    assert used(again, batch(30)) == [1] * 10 + [2] * 20
    (reason,) = again.refusals()
    assert reason.startswith("model 3 is refused")
    assert again.refusals() == ()
    assert again.version == 2
    assert used(one, batch(30)) == [1] * 10 + [2] * 10 + [3] * 10, "what is loaded goes on"


@pytest.mark.parametrize("foreign", [model(2, channels=3), model(2, profile=OTHER)], ids=["channels", "profile"])
def test_a_model_that_does_not_fit_is_refused_while_running_and_the_old_one_stays(tmp_path, foreign):
    store = stored(tmp_path, (1, 0))
    one = Live(DirectoryModels(store), first_fit, PROFILE, SPEC, channels=1)
    store.store(2, foreign)
    store.activate(2, active_from_ns=10)

    assert one.refresh(1.0)
    assert used(one, batch(20)) == [1] * 20
    assert "model 2 is refused" in one.refusals()[0]
    assert one.version == 1


def test_a_start_with_no_model_that_fits_is_refused(tmp_path):
    store = ModelStore(tmp_path / "models")
    store.activate(store.publish(model(1, channels=3)))
    with pytest.raises(ModelError, match="windows of 1 channels"):
        Live(DirectoryModels(store), first_fit, PROFILE, SPEC, channels=1)


def test_windows_that_wait_are_assigned_when_a_model_appears(tmp_path):
    one = live(tmp_path)
    assert one.assign(batch(12), 0) == []
    assert not one.refresh(1.0)
    assert one.released(0) == []
    stored(tmp_path, (1, 0), (2, 6))

    assert one.refresh(2.0)
    assert [event.model for event in one.released(0)] == [1] * 6 + [2] * 6
    assert one.pending == 0
    assert one.released(0) == []
    assert ModelStore(tmp_path / "models").versions() == [1, 2]


def test_windows_that_wait_can_be_forgotten(tmp_path):
    one = live(tmp_path)
    one.assign(batch(19), 0)
    one.forget()

    assert one.pending == 0
    assert list(one.needs()) == []
    assert one.assign(batch(19), 0) == [], "they count anew"


def test_a_model_that_cannot_be_published_now_costs_no_window_and_is_fitted_once(tmp_path, monkeypatch):
    fits, store = [], ModelStore(tmp_path / "models")
    activate, broken = store.activate, [True]

    def counting(*args):
        fits.append(1)
        return first_fit(*args)

    def failing(*args, **kwargs):
        if broken:
            raise SinkUnavailable("full")
        return activate(*args, **kwargs)

    monkeypatch.setattr(store, "activate", failing)
    one = Live(DirectoryModels(store), counting, PROFILE, SPEC)
    assert one.assign(batch(25), 0) == []
    assert one.assign(batch(25, 25), 0) == []
    assert one.finish(0) == []
    assert one.pending == 50
    for _ in range(3):
        with pytest.raises(SinkUnavailable):
            one.publish()
    assert one.released(0) == []
    broken.clear()
    one.publish()

    assert [event.model for event in one.released(0)] == [1] * 50
    assert fits == [1]
    assert store.versions() == [1]


def test_the_model_is_durable_before_there_is_an_event_of_it(tmp_path):
    one = live(tmp_path)
    events = one.assign(batch(20), 0)

    assert ModelStore(tmp_path / "models").current() == events[0].model == 1


def test_another_ones_first_model_is_used_when_it_came_first(tmp_path):
    one, other = live(tmp_path), live(tmp_path)
    one.assign(batch(20), 0)
    events = other.assign(batch(20, 100), 0)

    assert {event.model for event in events} == {1}
    assert ModelStore(tmp_path / "models").versions() == [1]
    assert [e.cluster for e in events] == [e.cluster for e in one.assign(batch(20, 100), 0)]


def test_the_table_says_what_is_known_of_the_clusters_of_the_newest_model(tmp_path):
    assert live(tmp_path).table() == []
    stored(tmp_path, (1, 0), (2, 10))
    rows = live(tmp_path).table()

    assert [row["cluster"] for row in rows] == ["C1", "C2"]
    assert {row["model"] for row in rows} == {2}
    assert {row["profile"] for row in rows} == {"test/1"}


def test_windows_that_waited_for_the_first_model_say_so_and_later_ones_do_not(tmp_path):
    first = live(tmp_path)
    waited = first.assign(batch(24), 0)
    after = first.assign(batch(4, 24), 0)

    assert len(waited) > 15
    assert {e.late for e in waited if int(e.window_id[1:]) < SPEC.min_windows} == {True}
    assert [e.late for e in after] == [False] * 4
    assert waited[0].as_dict()["late"] is True
    assert "late" not in after[0].as_dict()


def test_events_carry_the_names_that_people_gave_and_no_window_waits_for_a_name(tmp_path):
    names = {"C1": "rockfall"}
    broken = False

    def called():
        if broken:
            raise SinkUnavailable("locked")
        return names

    first = Live(DirectoryModels(ModelStore(tmp_path / "models")), first_fit, PROFILE, SPEC, names=called)
    events = first.assign(batch(24), 0)
    assert {e.cluster: e.name for e in events} == {"C1": "rockfall", "C2": None}

    broken = True
    assert {e.cluster: e.name for e in first.assign(batch(4, 24), 0)} == {"C1": "rockfall", "C2": None}
