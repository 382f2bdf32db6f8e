"""Streams and groups side by side: limits, rejects, ids, triggered windows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from streamclust.core.errors import Reason
from streamclust.core.reports import Uncut
from streamclust.core.specs import ProfileSpec, TriggerSpec, WindowsSpec
from streamclust.core.types import NS, Flag, Record
from streamclust.signal.grid import window_id
from streamclust.signal.windows import Windows

PROFILE = ProfileSpec(name="test", window_seconds=2.56, hop_seconds=1.28)
T0 = 1_700_000_000 * NS
NOW = T0 + 3600 * NS


def record(stream: str, second: float, seconds: float = 4.0, rate: float = 100.0, offset: int = 0) -> Record:
    rng = np.random.default_rng(round(second * 10))
    samples = rng.integers(-1000, 1000, round(seconds * rate)).astype(np.int32)
    return Record(stream, T0 + round(second * NS), rate, samples, "p", offset)


def feed(stream: str, seconds: int, rate: float = 100.0) -> list[Record]:
    return [record(stream, 4 * n, rate=rate, offset=n) for n in range(seconds // 4)]


def push(windows: Windows, records: list[Record]):
    return windows.push(records, NOW, 1.0)


def test_every_window_carries_its_grid_time_and_id():
    made, rejects = push(Windows(PROFILE, WindowsSpec()), feed("a", 40))

    assert rejects == []
    assert len(made) == 30
    for window in made:
        assert window.start_ns % PROFILE.hop_ns == 0
        assert window.end_ns - window.start_ns == PROFILE.window_ns
        assert window.window_id == window_id("a", window.start_ns, "test/1")
        assert window.samples.shape == (1, 256)
        assert not window.samples.flags.writeable


def test_streams_do_not_touch_one_another():
    both = [r for pair in zip(feed("a", 40), feed("b", 40), strict=True) for r in pair]

    together, _ = push(Windows(PROFILE, WindowsSpec()), both)
    alone, _ = push(Windows(PROFILE, WindowsSpec()), feed("a", 40))

    of_a = [w for w in together if w.stream == "a"]
    assert [w.window_id for w in of_a] == [w.window_id for w in alone]
    assert all(np.array_equal(x.samples, y.samples) for x, y in zip(of_a, alone, strict=True))


def test_case_19_data_from_the_future_are_rejected_and_move_nothing():
    windows = Windows(PROFILE, WindowsSpec())
    future = record("a", 2 * 3600 + 1)

    made, rejects = push(windows, [*feed("a", 20), future])
    after, _ = push(windows, [record("a", 20)])

    assert [r.reason for r in rejects] == [Reason.FUTURE]
    assert windows.newest_ns == T0 + 24 * NS
    assert made
    assert after


def test_a_stream_slower_than_the_profile_is_rejected_by_name():
    _, rejects = push(Windows(PROFILE, WindowsSpec()), feed("slow", 8, rate=20.0))

    assert {r.reason for r in rejects} == {Reason.RATE_TOO_LOW}
    assert "20 Hz" in rejects[0].detail
    assert rejects[0].stream == "slow"


def test_case_15_more_streams_than_allowed_are_rejected_and_the_others_lose_nothing():
    windows = Windows(PROFILE, WindowsSpec(max_streams=2))

    made, rejects = push(windows, feed("a", 20) + feed("b", 20) + feed("c", 20) + [record("a", 20)])

    assert {r.stream for r in rejects} == {"c"}
    assert {r.reason for r in rejects} == {Reason.TOO_MANY_STREAMS}
    assert {w.stream for w in made} == {"a", "b"}


def test_case_12_a_change_of_rate_starts_a_new_run():
    windows = Windows(PROFILE, WindowsSpec())

    made, _ = push(windows, [*feed("a", 20), *[record("a", 20 + 4 * n, rate=200.0) for n in range(5)]])

    assert {w.rate for w in made} == {Fraction(100), Fraction(200)}
    border = T0 + 20 * NS
    assert all(w.end_ns <= border for w in made if w.rate == 100)
    assert all(w.start_ns >= border for w in made if w.rate == 200)


@pytest.mark.parametrize("policy", ["drop", "partial"])
def test_case_9_a_missing_component_follows_the_policy(policy):
    spec = WindowsSpec(group_by="station", missing_component=policy, lateness=5.0)
    windows = Windows(PROFILE, spec)
    z, n = (feed(f"FDSN:BW_RJOB__E_H_{letter}", 60) for letter in "ZN")
    e = feed("FDSN:BW_RJOB__E_H_E", 20)

    made, _ = push(windows, sorted(z + n + e, key=lambda r: r.start_ns))

    complete = [w for w in made if Flag.PARTIAL not in w.flags]
    partial = [w for w in made if Flag.PARTIAL in w.flags]
    assert complete
    assert all(w.samples.shape[0] == 3 for w in made)
    assert all(w.stream == "FDSN:BW_RJOB__E_H" for w in made)
    assert bool(partial) == (policy == "partial")
    assert all(np.isnan(w.samples[2]).all() and np.isfinite(w.samples[:2]).all() for w in partial)
    assert windows.counts.incomplete > 0 or policy == "partial"


def test_a_window_in_the_gatherer_holds_the_position():
    windows = Windows(PROFILE, WindowsSpec(group_by="station"))
    push(windows, feed("FDSN:BW_RJOB__E_H_Z", 20))

    assert min(need["p"] for need in windows.needs(idle_since=0.0)) == 0


def test_records_of_ungrouped_streams_are_counted():
    windows = Windows(PROFILE, WindowsSpec(group_by="station"))

    made, rejects = push(windows, feed("probe0", 20))

    assert (made, rejects) == ([], [])
    assert windows.counts.ungrouped == 5


def quiet_with_bursts(bursts: list[float], seconds: int) -> list[Record]:
    rng = np.random.default_rng(3)
    signal = rng.normal(0, 10, seconds * 100)
    for at in bursts:
        index = round(at * 100)
        signal[index : index + 50] += 3000 * np.exp(-np.arange(50) / 10.0)
    parts = np.split(signal.astype(np.int32), seconds // 4)
    return [Record("a", T0 + 4 * n * NS, 100.0, part, "p", n) for n, part in enumerate(parts)]


def triggered(method: str = "mad", threshold: float = 30.0) -> WindowsSpec:
    trigger = TriggerSpec(method=method, threshold=threshold, lta_seconds=5.0, before_seconds=1.0, block_seconds=10.0)
    return WindowsSpec(mode="triggered", trigger=trigger)


@pytest.mark.parametrize(("method", "threshold"), [("mad", 30.0), ("sta_lta", 5.0)])
def test_triggered_windows_lie_around_the_detections_alone(method, threshold):
    bursts = [33.3, 52.1, 68.0]

    made, _ = push(Windows(PROFILE, triggered(method, threshold)), quiet_with_bursts(bursts, 120))

    starts = sorted((w.start_ns - T0) / NS for w in made)
    assert len(starts) == 3
    assert all(abs(start + 1.0 - at) < 0.6 for start, at in zip(starts, bursts, strict=True))
    assert all(w.samples.shape == (1, 256) for w in made)


def test_a_triggered_window_carries_the_flags_of_its_own_samples_alone():
    records = quiet_with_bursts([33.3, 36.6, 52.1], 120)
    hole = records[8]  # samples 32.0 .. 36.0
    records[8:9] = [
        hole._replace(samples=hole.samples[:180]),
        hole._replace(samples=hole.samples[200:], start_ns=hole.start_ns + 2 * NS, flags=Flag.TIMING_POOR),
    ]
    spec = triggered().model_copy(update={"max_gap": 1.0, "lateness": 0.0})

    windows = Windows(PROFILE, spec)
    made = push(windows, records)[0] + windows.finish()

    found = {round((w.start_ns - T0) / NS, 1): (w.flags, w.gap_fraction) for w in made}
    assert sorted(found) == pytest.approx([32.3, 35.6, 51.1], abs=0.3)
    first, second, third = (found[at] for at in sorted(found))
    assert first == (Flag.INTERPOLATED | Flag.TIMING_POOR, 20 / 256)
    assert second == (Flag.TIMING_POOR, 0.0), "it lies in the block of the gap, after it"
    assert third == (Flag.NONE, 0.0)


def test_the_gap_share_of_a_triggered_group_is_the_mean_of_its_components():
    feeds = [
        [r._replace(stream=name) for r in quiet_with_bursts([33.3], 60)]
        for name in ("FDSN:X_A__E_H_Z", "FDSN:X_A__E_H_N")
    ]
    hole = feeds[0][8]
    feeds[0][8:9] = [
        hole._replace(samples=hole.samples[:180]),
        hole._replace(samples=hole.samples[200:], start_ns=hole.start_ns + 2 * NS),
    ]
    changes = {"group_by": "station", "missing_component": "partial", "max_gap": 1.0}
    windows = Windows(PROFILE, triggered().model_copy(update=changes))

    made = push(windows, sorted(feeds[0] + feeds[1], key=lambda r: r.start_ns))[0] + windows.finish()

    (window,) = made
    assert window.flags == Flag.INTERPOLATED | Flag.PARTIAL
    assert window.gap_fraction == 20 / 512


def test_what_is_too_short_for_any_window_is_told_with_numbers():
    windows = Windows(PROFILE, WindowsSpec(lateness=0.0))
    for n in range(3):
        push(windows, [record("a", 10 * n, seconds=2.0), record("b", 10 * n, seconds=1.5)])
    push(windows, [record("a", 22.0, seconds=0.25)])
    windows.finish()

    uncut = windows.uncut(7)

    assert uncut == Uncut(7, 1075, 6, 2.25, 2.56, 0)


@pytest.mark.parametrize("mode", ["grid", "triggered"])
def test_nothing_is_told_when_a_window_or_a_block_was_cut_or_nothing_came(mode):
    windows = Windows(PROFILE, triggered().model_copy(update={"mode": mode}))
    assert windows.uncut(0) is None
    push(windows, feed("a", 60))

    assert windows.uncut(15) is None


def test_a_trigger_needs_its_block_and_its_history():
    windows = Windows(PROFILE, triggered())
    push(windows, feed("a", 12))
    windows.finish()

    uncut = windows.uncut(3)

    assert (uncut.segments, uncut.longest_seconds) == (1, 12.0)
    assert uncut.needed_seconds > 10.0 + 5.0


def test_records_of_no_group_are_told_when_there_are_no_others():
    windows = Windows(PROFILE, WindowsSpec(group_by="station"))
    push(windows, feed("probe0", 20))

    assert windows.uncut(5) == Uncut(5, 0, 0, 0.0, 2.56, 5)


@pytest.mark.parametrize(("policy", "told"), [("drop", True), ("partial", False)])
def test_groups_of_which_every_window_was_dropped_for_a_missing_component_are_told(policy, told):
    windows = Windows(PROFILE, WindowsSpec(group_by="station", missing_component=policy))
    made, _ = push(windows, feed("FDSN:XX_A__H_H_Z", 20))
    made += windows.finish()

    uncut = windows.uncut(5)

    assert bool(made) == (not told)
    assert (uncut is not None) == told
    assert not told or uncut.partial == windows.counts.incomplete > 0


def test_triggered_windows_are_the_same_in_any_batching_and_after_a_restart():
    records = quiet_with_bursts([33.3, 52.1, 59.9, 68.0], 120)
    whole, _ = push(Windows(PROFILE, triggered()), records)
    one_by_one = Windows(PROFILE, triggered())
    parts = [w for r in records for w in push(one_by_one, [r])[0]]
    first_needed = min(w.needs["p"] for w in whole if w.start_ns > T0 + 45 * NS)
    again, _ = push(Windows(PROFILE, triggered()), records[first_needed:])

    by_id = {w.window_id: w.samples.tolist() for w in whole}
    assert {w.window_id: w.samples.tolist() for w in parts} == by_id
    assert len(by_id) == 4
    assert all(by_id[w.window_id] == w.samples.tolist() for w in again)
    assert len(again) >= 3


def full(**changes: object) -> Windows:
    """All places taken: `a` was heard last at 1 s, `b` at 2 s."""
    windows = Windows(PROFILE, WindowsSpec(max_streams=2, idle_after=5.0, **changes))
    windows.push(feed("a", 8), NOW, 1.0)
    windows.push(feed("b", 8), NOW, 2.0)
    return windows


def test_a_new_stream_takes_the_place_of_the_one_that_was_idle_longest():
    windows = full()

    made, rejects = windows.push([record("c", 60), record("c", 64)], NOW, 8.0)

    assert rejects == []
    assert {w.stream for w in made} == {"c"}
    assert windows.streams == 2
    assert {name for name, _ in windows._assemblers} == {name for name, _ in windows._streams} == {"b", "c"}
    assert windows.counts.evicted > 0


@pytest.mark.parametrize(("second", "now"), [(60, 6.0), (10, 100.0)])
def test_no_stream_loses_its_place_while_its_clock_or_ours_says_that_it_lives(second, now):
    windows = full()

    _, rejects = windows.push([record("c", second)], NOW, now)

    assert [r.reason for r in rejects] == [Reason.TOO_MANY_STREAMS]
    assert windows.streams == 2
    assert windows.counts.evicted == 0


def test_a_stream_that_lost_its_place_comes_back_as_a_new_one():
    windows = full()
    windows.push([record("c", 60)], NOW, 8.0)

    made, rejects = windows.push([record("a", 80), record("a", 84)], NOW, 9.0)

    assert rejects == []
    assert {w.stream for w in made} == {"a"}
    assert {name for name, _ in windows._assemblers} == {"a", "c"}


def test_records_that_belong_to_no_group_or_are_too_slow_take_no_place():
    windows = Windows(PROFILE, WindowsSpec(max_streams=1, idle_after=5.0, group_by="station"))
    windows.push([record("FDSN:BW_RJOB__E_H_Z", 0)], NOW, 1.0)

    _, rejects = windows.push([record("probe0", 60), record("FDSN:BW_MANZ__E_H_Z", 60, rate=20.0)], NOW, 100.0)

    assert [r.reason for r in rejects] == [Reason.RATE_TOO_LOW]
    assert [name for name, _ in windows._assemblers] == ["FDSN:BW_RJOB__E_H_Z"]


def test_a_group_is_forgotten_with_the_last_of_its_streams():
    windows = Windows(PROFILE, WindowsSpec(max_streams=2, idle_after=5.0, group_by="station"))
    windows.push(feed("FDSN:BW_RJOB__E_H_Z", 8) + feed("FDSN:BW_RJOB__E_H_N", 8), NOW, 1.0)
    incomplete = windows.counts.incomplete

    windows.push([record("FDSN:BW_MANZ__E_H_Z", 60)], NOW, 8.0)
    assert ("FDSN:BW_RJOB__E_H", Fraction(100)) in windows._gatherer._groups
    windows.push([record("FDSN:BW_MANZ__E_H_N", 60)], NOW, 8.0)

    assert {group for group, _ in windows._gatherer._groups} <= {"FDSN:BW_MANZ__E_H"}
    assert windows.counts.incomplete > incomplete


def test_a_long_time_with_changing_ids_keeps_nothing_of_those_that_are_gone():
    windows = Windows(PROFILE, WindowsSpec(max_streams=3, idle_after=5.0))
    rejected = 0
    for n in range(60):
        rate = 100.0 + n % 5
        records = [record(f"s{n}", 10.0 * n, rate=rate), record(f"s{n}", 10.0 * n + 4, rate=rate)]
        rejected += len(windows.push(records, NOW, 10.0 * n)[1])

    assert rejected == 0
    assert windows.streams == len(windows._assemblers) == 3
    assert len(windows._streams) == 3
    assert len(windows._geometries) <= 3


def test_the_memory_of_header_rates_is_bounded_and_the_end_still_finishes_every_stream():
    windows = Windows(PROFILE, WindowsSpec(max_streams=1, max_gap=0.1, missing_component="drop"))
    gap = [record("a", 0), record("a", 4.05), record("a", 8.05)]
    for n, r in enumerate(gap):
        windows.push([r._replace(rate_hz=100.0 + n * 1e-5)], NOW, 1.0)
    for n in range(10):
        windows.push([record(f"slow{n}", 8, rate=20.0)], NOW, 1.0)

    assert len(windows._streams) <= 4
    windows.finish()
    assert windows.counts.interpolated == 5
