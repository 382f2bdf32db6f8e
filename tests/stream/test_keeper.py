"""The keeper takes a bounded, well mixed part of the windows, and whatever happens to the buffer, the loop goes on."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kept_windows import DIGEST, PROFILE, batch, events, spec

from streamclust.core.clock import ManualClock
from streamclust.core.errors import DurabilityError, NotAllowed, SinkUnavailable
from streamclust.core.profile_spec import ProfileSpec
from streamclust.core.profiles import PROFILES
from streamclust.core.types import Flag
from streamclust.store.buffer import BUFFER, Buffer, priority
from streamclust.stream.kafka.samples import KafkaKeeper
from streamclust.stream.keeper import EXEMPLARS, RETRY_S, Keeper, Taker, apart, drawn


class Memory:
    """A buffer that holds all, or raises `failure`."""

    def __init__(self):
        self.kept, self.puts, self.closed, self.failure = [], 0, 0, None

    def put(self, kept, /):
        self.puts += 1
        if self.failure is not None:
            raise self.failure
        self.kept += kept
        return len(kept)

    def close(self):
        self.closed += 1


class Rig:
    def __init__(self, profile=PROFILE, *, triggered=False, **changes):
        self.clock, self.memory, self.opened = ManualClock(), Memory(), 0
        self.keeper = Keeper(self.open, spec(**changes), profile, self.clock, triggered=triggered)

    def open(self):
        self.opened += 1
        return self.memory

    def keep(self, made, seconds=1.0, **about):
        self.keeper.keep(made, events(made, **about))
        self.clock.sleep(seconds)

    @property
    def ids(self):
        return [one.window_id for one in self.memory.kept]


def test_each_window_that_may_be_learnt_from_is_kept_as_it_was():
    rig, made = Rig(), batch(10)
    rig.keep(made, cluster="C3")
    rig.keeper.close()

    assert rig.ids == [window.window_id for window in made.windows]
    one = rig.memory.kept[4]
    assert (one.cluster, one.model, one.novelty, one.peak, one.rms) == ("C3", 1, 0.1, 3.0, 1.0)
    assert (one.stream, one.start_ns, one.end_ns) == made.windows[4][1:4]
    assert one.logp.dtype == np.float16
    np.testing.assert_array_equal(one.logp, made.logp[4].astype(np.float16))
    assert rig.keeper.counts.taken == rig.keeper.counts.offered == 10


@pytest.mark.parametrize("flag", [Flag.CLIPPED, Flag.SPIKE, Flag.TIMING_POOR, Flag.PARTIAL, Flag.DEAD])
def test_what_may_not_be_learnt_from_is_not_kept(flag):
    rig = Rig()
    rig.keep(batch(5, flags=flag))
    rig.keep(batch(5, 5, flags=Flag.INTERPOLATED))
    rig.keeper.close()

    assert len(rig.ids) == 5


def test_windows_without_an_event_wait_and_events_without_a_window_are_no_harm():
    rig, made = Rig(), batch(6)
    rig.keeper.keep(made, [*events(made)[:2], *events(batch(3, 100))])
    rig.keeper.close()

    assert rig.ids == [window.window_id for window in made.windows[:2]]


@pytest.mark.parametrize("name", PROFILES)
def test_of_one_stream_no_kept_windows_overlap_and_few_are_left_out(name):
    profile = ProfileSpec(**{"name": name, **PROFILES[name]})
    starts = [n * profile.hop_ns for n in range(10**6, 10**6 + 60)]
    kept = [start for start in starts if (start // profile.hop_ns) % apart(profile) == 0]

    assert all(later - earlier >= profile.window_ns - 2 for earlier, later in pairwise(kept))
    assert len(kept) >= 60 * profile.hop_ns / profile.window_ns - 2


def test_overlapping_windows_are_thinned_on_the_grid_but_not_triggered_ones():
    made = batch(10, streams=1, step_ns=PROFILE.hop_ns)
    for triggered, count in ((False, 5), (True, 10)):
        rig = Rig(triggered=triggered)
        rig.keep(made)
        rig.keeper.close()
        assert len(rig.ids) == count


def test_no_more_are_taken_in_a_second_than_is_set_whatever_comes():
    rig = Rig(per_second=20.0)
    for n in range(100):
        rig.keep(batch(64, n * 64), 0.1)
    counts = rig.keeper.counts

    assert counts.offered == 6400
    assert 180 <= counts.taken <= 220
    assert counts.passed == counts.offered - counts.taken - len(rig.keeper._pool)
    assert rig.memory.puts <= 11


def test_what_is_left_out_while_nothing_comes_may_be_made_up_for():
    rig = Rig(per_second=5.0)
    rig.clock.sleep(3600.0)
    rig.keep(batch(100))
    rig.keeper.close()

    assert len(rig.ids) == 50


def test_less_than_one_window_a_second_is_kept_too():
    rig = Rig(per_second=0.1)
    for n in range(300):
        rig.keep(batch(4, n * 4))

    assert 28 <= len(rig.ids) <= 32


def test_a_rare_clusters_windows_are_taken_whatever_else_comes():
    rig, rare = Rig(per_second=10.0), []
    for n in range(200):
        made = batch(64, n * 64)
        rig.keep(made, 0.2, cluster=lambda row, n=n: "C9" if row == 17 and n % 10 == 4 else f"C{row % 3}")
        rare += [made.windows[17].window_id] if n % 10 == 4 else []
    rig.keeper.close()

    assert set(rare) <= set(rig.ids)
    counts = Counter(one.cluster for one in rig.memory.kept)
    assert counts["C9"] == 20
    assert max(counts.values()) < 2 * min(counts[f"C{n}"] for n in range(3))


def test_novel_windows_count_as_a_cluster_of_their_own():
    rig, novel = Rig(per_second=10.0), []
    for n in range(50):
        made = batch(64, n * 64)
        about = events(made)
        about[9] = about[9]._replace(is_novel=True)
        novel.append(about[9].window_id)
        rig.keeper.keep(made, about)
        rig.clock.sleep(0.5)
    rig.keeper.close()

    assert len(set(novel) & set(rig.ids)) >= 45


def test_half_of_what_is_taken_is_an_even_sample():
    rig = Rig(per_second=20.0)
    for n in range(100):
        rig.keep(batch(64, n * 64), 0.5, cluster=lambda row: "rare" if row < 3 else "common")
    rig.keeper.close()
    share = Counter(one.cluster for one in rig.memory.kept)["common"] / len(rig.ids)

    assert 0.5 < share < 0.85


@settings(deadline=None)
@given(st.dictionaries(st.integers(-50, 50), st.sampled_from("abc"), max_size=40), st.integers(0, 50))
def test_a_draw_gives_as_many_as_it_may_and_the_lowest_half(strata, most):
    found = drawn(strata, {"a": 3.0}, most)

    assert len(found) == min(most, len(strata))
    assert set(sorted(strata)[: most - most // 2]) <= found


def test_the_waveform_is_kept_of_each_clusters_exemplars():
    rig = Rig(per_second=1000.0)
    rig.keep(batch(100), cluster=lambda row: f"C{row % 2}")
    rig.keeper.close()
    waves = {one.window_id: one.wave for one in rig.memory.kept if one.wave is not None}

    assert 2 * EXEMPLARS <= len(waves) < 95
    assert all(wave.shape == (1, PROFILE.samples) and wave.dtype == np.float32 for wave in waves.values())
    for cluster in ("C0", "C1"):
        mine = sorted((priority(one.window_id), one.window_id) for one in rig.memory.kept if one.cluster == cluster)
        assert {window_id for _, window_id in mine[:EXEMPLARS]} <= waves.keys()


def test_the_waveform_is_kept_of_all_where_it_is_embedded():
    made = batch(30)
    waves = np.arange(30 * 64, dtype=np.float32).reshape(30, 1, 64)
    rig = Rig()
    rig.keep(type(made)(made.windows, made.logp, made.flags, made.peak, made.rms, waves))
    rig.keeper.close()

    assert len(rig.ids) == 20
    for one in rig.memory.kept:
        at = [window.window_id for window in made.windows].index(one.window_id)
        np.testing.assert_array_equal(one.wave, waves[at])
        assert one.wave.base is None


@pytest.mark.parametrize(
    "failure", [SinkUnavailable("full"), DurabilityError("gone"), NotAllowed("no"), OSError(5, "x")]
)
def test_a_buffer_that_fails_is_told_once_a_minute_and_tried_again(failure):
    rig = Rig()
    rig.memory.failure = failure
    told = []
    for n in range(600):
        rig.keep(batch(2, 2 * n))
        told += rig.keeper.notices()
    counts = rig.keeper.counts
    assert 9 <= len(told) <= 11
    assert told[0].kind == "buffer.failed"
    assert told[-1].fields["lost_windows"] >= 10
    assert (counts.taken, counts.lost >= 18) == (0, True)
    assert rig.memory.closed == rig.opened == rig.memory.puts

    rig.memory.failure = None
    rig.clock.sleep(RETRY_S)
    for n in range(3):
        rig.keep(batch(2, 5000 + 2 * n))
    assert rig.keeper.counts.taken > 0


def test_a_buffer_that_cannot_be_opened_does_not_stop_the_loop():
    def broken():
        raise SinkUnavailable("no directory")

    clock = ManualClock()
    keeper = Keeper(broken, spec(), PROFILE, clock)
    made = batch(4)
    for _ in range(5):
        keeper.keep(made, events(made))
        clock.sleep(1.0)
    keeper.close()

    assert [notice.fields["error"] for notice in keeper.notices()] == ["no directory"]
    assert keeper.counts.lost == 4


def test_nothing_is_opened_before_there_is_something_to_keep():
    rig = Rig()
    rig.keep(batch(3, flags=Flag.DEAD))
    rig.keeper.close()
    rig.keeper.close()

    assert rig.opened == 0


def test_it_fills_a_real_buffer(tmp_path):
    clock = ManualClock()
    keeper = Keeper(lambda: Buffer.open(tmp_path / BUFFER, spec(), DIGEST), spec(), PROFILE, clock)
    for n in range(5):
        made = batch(8, n * 8)
        keeper.keep(made, events(made, peak=None))
        clock.sleep(1.0)
    keeper.flush()
    report = keeper.report()
    keeper.close()

    assert (report.windows, report.offered, report.taken, report.lost) == (40, 40, 40, 0)
    assert 0 < report.nbytes < report.max_bytes == spec().max_bytes
    with closing(Buffer.open(tmp_path / BUFFER, spec(), DIGEST)) as buffer:
        assert buffer.stats().windows == 40
        assert all(math.isnan(one.peak) for one in buffer.read())


def test_both_places_where_windows_go_are_takers():
    takers: list[type[Taker]] = [Buffer, KafkaKeeper]
    assert all(hasattr(taker, "put") and hasattr(taker, "close") for taker in takers)


def test_where_the_disk_has_no_room_nothing_is_kept_and_it_is_told():
    opened, clock = [], ManualClock()
    keeper = Keeper(lambda: opened.append(1), spec(), PROFILE, clock, room=lambda: False)
    some = batch(8)
    keeper.keep(some, events(some))
    clock.sleep(2.0)
    keeper.flush()

    assert opened == []
    (notice,) = keeper.notices()
    assert "too little room" in notice.fields["error"]
    keeper.close()
