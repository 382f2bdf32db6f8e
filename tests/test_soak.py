"""The soak: it counts windows rightly, sees what grows, and a short one passes and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import daemons
import numpy as np
import pytest

from streamclust.signal.grid import window_id

pytest.importorskip("confluent_kafka", reason="the soak publishes and reads with the extra [confluent]")
SOAK = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(SOAK))

from soak_figures import MIB, MOST_MODELS, Sample, complaints, judged, longest_life, slopes  # noqa: E402 — benchmarks/ is on the path now
from soak_signal import NS, btime, one_loop  # noqa: E402 — likewise
from soak_tally import Plan, Slope, Tally, Verdict, slope  # noqa: E402 — likewise

KINDS = {"kill -9", "poison", "connections", "broker", "retrain"}
PLAN = Plan(("a", "b"), 1_600_000_000 * NS, 512 * NS, 10_240_000_000, 5_120_000_000, "soak/1")
GOOD = Verdict(expected=10, received=10, missing=0, added=0, altered=0, repeated=3)


def event(number, *, stream="a", model=1, **changes):
    """Return the event of a window, whose signal follows from where in the loop it lies."""
    start_ns = PLAN.start_ns + number * PLAN.hop_ns
    start = np.datetime64(start_ns, "ns")
    made = {
        "window_id": window_id(stream, start_ns, "soak/1"), "stream": stream, "start": f"{start}Z", "model": model,
        "cluster": f"C{number % PLAN.phases % 3}", "novelty": 0.5, "memberships": {"C1": 0.25, "C2": 0.75},
        "peak": 1000.0, "processed_at": f"now {number}",
    }  # fmt: skip
    return {**made, **changes}


def ends(windows):
    """Return where streams end that have so many windows, each a sample short of one more."""
    end_ns = PLAN.start_ns + (windows - 1) * PLAN.hop_ns + PLAN.window_ns
    return dict.fromkeys(PLAN.streams, end_ns + PLAN.hop_ns - 10_000_000)


def tally(*events):
    made = Tally(PLAN)
    for one in events:
        made.take(one)
    return made


def both(windows):
    return [event(number, stream=stream) for stream in PLAN.streams for number in range(windows)]


def test_all_windows_of_the_grid_are_expected_and_found():
    assert tally(*both(250)).verdict(ends(250)) == Verdict(500, 500, 0, 0, 0, 0)


def test_a_stream_shorter_than_a_window_has_none():
    assert PLAN.windows(PLAN.start_ns + PLAN.window_ns - 1) == 0
    assert PLAN.windows(PLAN.start_ns + PLAN.window_ns) == 1


def test_a_window_that_did_not_come_is_missing_and_named():
    made = tally(*(one for one in both(20) if one["start"] != event(7)["start"] or one["stream"] != "b"))

    assert made.verdict(ends(20)).missing == 1
    assert made.missing(ends(20)) == [("b", PLAN.start_ns + 7 * PLAN.hop_ns)]


def test_a_stream_of_which_nothing_came_is_missing_wholly():
    assert tally(*[one for one in both(20) if one["stream"] == "a"]).verdict(ends(20)).missing == 20


def test_an_event_that_comes_again_is_repeated_and_not_altered():
    found = tally(*both(20), event(3, processed_at="later")).verdict(ends(20))

    assert found == Verdict(40, 40, 0, 0, 0, repeated=1)


@pytest.mark.parametrize(
    "change",
    [
        {"cluster": "C9"},
        {"novelty": 0.6},
        {"peak": 1001.0},
        {"memberships": {"C1": 0.26, "C2": 0.74}},
        {"memberships": {"C1": 0.25, "C3": 0.75}},
        {"novelty": None},
        {"model": 2},
        {"window_id": "0" * 24},
        {"flags": ["clipped"]},
    ],
)
def test_an_event_that_differs_from_itself_or_from_the_loop_before_is_altered(change):
    again = tally(*both(20), event(3, **change))
    loop_later = tally(*both(100), event(103, **change))

    assert again.altered == 1
    assert loop_later.altered == (0 if "model" in change else 1)
    assert again.examples


def test_numbers_that_differ_by_less_than_the_contract_allows_are_the_same():
    near = {"novelty": 0.500001, "peak": 1000.01, "memberships": {"C1": 0.250001, "C2": 0.749999}}

    assert tally(event(3), event(103, **near)).altered == 0


def test_windows_that_nobody_published_are_added():
    strange = [event(20), event(0, stream="c"), event(-1), event(0, start="2020-09-13T12:26:41.000000000Z")]

    assert tally(*both(20), *strange).verdict(ends(20)).added == 4


def test_a_signal_that_does_not_come_round_is_refused():
    made = Tally(PLAN)
    made.learn(event(3))
    with pytest.raises(ValueError, match="does not come round"):
        made.learn(event(103, peak=5.0))


def test_a_loop_must_be_whole_hops():
    with pytest.raises(ValueError, match="whole numbers of hops"):
        Plan(("a",), PLAN.start_ns, 511 * NS, PLAN.window_ns, PLAN.hop_ns, "soak/1")


def test_a_record_moved_in_time_is_the_same_record_later(tmp_path):
    from pymseed import MS3Record

    pieces = one_loop(daemons.recordings(tmp_path, streams=2, seconds=60))
    for by in (0, 512 * NS, 400 * 86_400 * NS):
        moved = MS3Record.parse(pieces[3].shifted(by))
        assert int(moved.starttime) == pieces[3].start_ns + by
        assert moved.sourceid == pieces[3].stream
    assert {piece.stream for piece in pieces} == {"FDSN:XX_S00__H_H_Z", "FDSN:XX_S01__H_H_Z"}
    assert pieces == sorted(pieces, key=lambda piece: piece.end_ns)
    assert btime(PLAN.start_ns).hex() == "07e401010c1a28000000"


def test_the_slope_of_a_line_in_noise_is_found_within_its_error():
    rng = np.random.default_rng(0)
    seconds = np.arange(0, 3600, 10.0)
    line = slope(seconds.tolist(), 100 + 6 * seconds / 3600 + rng.normal(0, 1, len(seconds)))

    assert abs(line.per_hour - 6) < 3 * line.error
    assert not line.flat
    assert line.error == pytest.approx(1 / np.sqrt(len(seconds) / 12), rel=0.2)


def test_noise_that_wanders_has_a_wider_error_and_is_flat():
    rng = np.random.default_rng(1)
    noise = np.zeros(360)
    for at in range(1, len(noise)):
        noise[at] = 0.9 * noise[at - 1] + rng.normal()
    line = slope(np.arange(0, 3600, 10.0).tolist(), noise)
    even = slope(np.arange(0, 3600, 10.0).tolist(), rng.permutation(noise))

    assert line.error > 2 * even.error
    assert line.flat


def test_what_does_not_change_is_flat():
    assert slope([0, 10, 20, 30], [6, 6, 6, 6]).flat
    assert slope([0, 10], [6, 7]) is None


def samples(worker, pid, seconds, grows=0.0, **others):
    """Return samples of a life; memory and `others` grow by so much an hour."""
    whole = [
        Sample(at, worker, pid, round((100 + grows * at / 3600) * MIB), 20, 6, 5 * MIB, 1.0)
        for at in range(*seconds, 10)
    ]
    return [
        one._replace(**{name: getattr(one, name) + more * one.seconds / 3600 for name, more in others.items()})
        for one in whole
    ]


def test_only_the_longest_life_counts_and_without_its_warm_up():
    lives = [
        *samples("victim", 1, (0, 100), 900.0),
        *samples("victim", 2, (100, 1100)),
        *samples("steady", 3, (0, 2000)),
    ]

    assert {one.pid for one in longest_life(lives, "victim")} == {2}
    assert min(one.seconds for one in longest_life(lives, "victim")) >= 100 + 0.39 * 1000
    assert slopes(lives, "victim")["rss"].per_hour == 0


@pytest.mark.parametrize(
    ("growth", "told"),
    [
        ({"grows": 3.0}, "RSS: growth of 3.00 +- 0.00 MiB an hour"),
        ({"fds": 4.0}, "file descriptors: growth of 4.00 +- 0.00 an hour"),
        ({"threads": 2.0}, "threads: growth of 2.00 +- 0.00 an hour"),
        ({"disk": 5.0 * MIB}, "disk: growth of 5.00 +- 0.00 MiB an hour"),
    ],
)
def test_what_grows_is_a_failure_when_it_was_watched_for_long_enough(growth, told):
    growing = slopes(samples("steady", 1, (0, 1800), **growth), "steady")
    short = slopes(samples("steady", 1, (0, 600), **growth), "steady")

    assert complaints(GOOD, growing, 0, once=False) == [told]
    assert not complaints(GOOD, short, 0, once=False)


def test_slow_growth_and_a_number_of_models_that_is_bounded_pass():
    slow = slopes(samples("steady", 1, (0, 1800), 0.5, fds=0.5, threads=-3.0, disk=0.5 * MIB), "steady")
    assert not complaints(GOOD, slow, MOST_MODELS, once=False)
    assert complaints(GOOD, slow, MOST_MODELS + 1, once=False) == ["41 models in a state directory, more than 40"]


@pytest.mark.parametrize(
    ("per_hour", "error", "minutes", "told"),
    [
        (0.2, 0.3, 30, "-0.40 to +0.80 with 95 %, through 30 minutes of wall time after warm-up: below 1 MiB"),
        (0.2, 0.5, 30, "neither shown to be below 1 MiB an hour nor to be above"),
        (-3.0, 0.5, 30, ": below 1 MiB"),
        (3.0, 1.4, 30, "it grows, by more than 1 MiB an hour"),
        (3.0, 1.6, 30, "neither"),
        (0.0, 0.0, 5, "not judged: fewer than 10 minutes"),
    ],
)
def test_what_the_memory_shows_is_said_with_how_surely(per_hour, error, minutes, told):
    assert told in judged(Slope(100.0, 100.0, per_hour, error, 60.0 * minutes))
    assert "too few" in judged(None)


def test_losses_are_failures_and_repeats_are_with_exactly_once():
    bad = GOOD._replace(missing=1, added=2, altered=3)

    assert complaints(bad, {}, 0, once=False) == ["1 windows missing", "2 windows added", "3 events altered"]
    assert not complaints(GOOD, {}, 0, once=False)
    assert complaints(GOOD, {}, 0, once=True) == ["3 events repeated with delivery exactly_once"]


def start(tmp_path, *arguments):
    """Start a soak that has its files in `tmp_path`."""
    folder = tmp_path / "run"
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, str(SOAK / "soak.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def left(tmp_path):
    """Return the command lines of processes that have to do with this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(tmp_path) in line or str(tmp_path) in str((path.parent / "cwd").resolve()):
                found.append(line)
        except OSError:
            continue  # gone, or of somebody else
    return found


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize("delivery", ["at_least_once"])
def test_a_short_soak_passes_with_every_kind_of_fault(tmp_path, own_kafka, delivery):
    own_kafka(start=False)  # skips where no broker can be run
    out = tmp_path / "out.json"
    soak = start(tmp_path, "--minutes", "1", "--streams", "4", "--delivery", delivery, "--out", str(out))
    told, _ = soak.communicate(timeout=400)

    assert soak.returncode == 0, told
    found = json.loads(out.read_text())
    print(told)
    assert found["verdict"]["expected"] > 1000
    assert found["verdict"]["missing"] == found["verdict"]["altered"] == found["verdict"]["added"] == 0
    assert {kind for kind in KINDS for fault in found["faults"] if fault["what"].startswith(kind)} == KINDS
    assert found["poison"]["sent"] == found["poison"]["quarantined"] >= 10
    assert {one["worker"] for one in found["samples"]} == {"steady", "victim"}
    assert not left(tmp_path / "run")
    assert not list((tmp_path / "run").glob("soak-*"))


@pytest.mark.fault
@pytest.mark.slow
def test_an_interrupted_soak_ends_in_good_order_and_leaves_nothing(tmp_path, own_kafka):
    own_kafka(start=False)
    soak = start(tmp_path, "--minutes", "30", "--streams", "2")
    for line in soak.stdout:
        if "the signal begins" in line:
            break
    time.sleep(5)
    soak.send_signal(signal.SIGINT)
    told, _ = soak.communicate(timeout=200)

    assert soak.returncode == 130, told
    assert "passed" in told
    assert not left(tmp_path / "run")
    assert not list((tmp_path / "run").glob("soak-*"))
