"""What stays does not depend on order or portions, rare things survive, and no stream takes it all."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamclust.store.reservoir import ROW, Bounds, limit, ranks, staying

FREE = Bounds(nbytes=1e9, ring_share=0.5, per_cluster=3, per_stream=2, stream_share=1.0, oldest_ns=-(2**62))


def bounds(**changes):
    return Bounds(**{**{name: getattr(FREE, name) for name in Bounds.__slots__}, **changes})


def rows(count, streams=4, strata=5, seed=0):
    rng = np.random.Generator(np.random.PCG64(seed))
    made = np.zeros(count, ROW)
    made["id"] = rng.permutation(10 * count)[:count] - 5 * count
    made["start"] = rng.permutation(count)
    made["stream"] = rng.integers(0, streams, count)
    made["stratum"] = rng.integers(0, strata, count)
    made["cost"] = 1
    return made


def bottom(made, by, length):
    """The slow twin: ids of the `length` lowest of each group."""
    return {
        number for group in set(made[by].tolist()) for number in sorted(made["id"][made[by] == group].tolist())[:length]
    }


def in_portions(made, order, cuts, limits):
    """Add rows in this order, and let go what must go after each portion."""
    held = np.zeros(0, ROW)
    for part in np.split(made[order], sorted(cuts)):
        held = np.concatenate([held, part])
        held = held[staying(held, limits)]
    return held


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 120), st.integers(0, 99), st.integers(0, 99), st.lists(st.integers(0, 120), max_size=8))
def test_reservoirs_hold_the_same_windows_in_whatever_order_and_portions_they_come(count, seed, shuffle, cuts):
    made = rows(count, seed=seed)
    limits = bounds(nbytes=60.0)  # 5 * 3 + 4 * 2 fit into the half of it, and what is left is for the newest
    order = np.random.Generator(np.random.PCG64(shuffle)).permutation(count)

    held = in_portions(made, order, [cut for cut in cuts if cut <= count], limits)

    assert bottom(made, "stratum", 3) | bottom(made, "stream", 2) <= set(held["id"].tolist())
    assert len(held) == min(count, 60)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 99), st.integers(1, 5))
def test_the_reservoirs_of_workers_together_are_those_of_one(seed, workers):
    made = rows(200, seed=seed)
    limits = bounds(nbytes=60.0)
    parts = [made[at::workers] for at in range(workers)]
    merged = np.concatenate([part[staying(part, limits)] for part in parts])

    held = set(merged[staying(merged, limits)]["id"].tolist())

    assert bottom(made, "stratum", 3) | bottom(made, "stream", 2) <= held


def test_what_is_left_of_the_bytes_holds_the_newest():
    made = rows(500)
    held = made[staying(made, bounds(nbytes=100.0))]
    sampled = bottom(made, "stratum", 3) | bottom(made, "stream", 2)
    others = made[~np.isin(made["id"], list(sampled))]

    newest = others["id"][np.argsort(-others["start"])][: 100 - len(sampled)]
    assert set(held["id"].tolist()) == sampled | set(newest.tolist())


def test_when_bytes_are_short_a_rare_clusters_windows_stay_and_those_of_common_ones_go():
    made = rows(1000, strata=2)
    rare = np.arange(990, 1000, 3)
    made["stratum"] = 1
    made["stratum"][rare] = 0
    made["start"][rare] = -1

    held = made[staying(made, bounds(nbytes=40.0, per_cluster=500))]

    assert set(made["id"][rare].tolist()) <= set(held["id"].tolist())
    assert len(held) == 40


def test_what_is_too_old_goes_from_the_reservoirs_too():
    made = rows(100)
    held = made[staying(made, bounds(oldest_ns=60))]

    assert len(held) == 40
    assert held["start"].min() == 60


def test_a_stream_with_nearly_all_windows_stays_below_its_share_when_there_are_enough_streams():
    made = rows(10_000, streams=1)
    made["stream"][:100] = 1 + np.arange(100) % 10
    few = bounds(stream_share=0.25, per_stream=2, per_cluster=10)

    held = made[staying(made, few)]

    counts = np.bincount(held["stream"])
    assert counts[0] / counts.sum() <= 0.25
    assert counts[1:].sum() == 100
    flood = held[held["stream"] == 0]
    assert len(flood) == 33
    assert np.sort(flood["start"])[-16] >= np.sort(made["start"][made["stream"] == 0])[-16]  # half are the newest
    assert bottom(made[made["stream"] == 0], "stratum", 2) <= set(flood["id"].tolist())  # half are of all clusters


def test_a_stream_keeps_its_reservoir_however_little_there_is_of_others():
    made = rows(1000, streams=1)
    made["stream"][:10] = 1 + np.arange(10)

    held = made[staying(made, bounds(stream_share=0.25, per_stream=50))]

    assert np.bincount(held["stream"])[0] == 50


def test_with_few_streams_none_is_cut():
    made = rows(1000, streams=1)
    made["stream"][:10] = 1

    assert staying(made, bounds(stream_share=0.25)).all()


@settings(deadline=None)
@given(st.lists(st.integers(0, 2000), min_size=1, max_size=40), st.floats(0.01, 1), st.integers(1, 300))
def test_a_limit_keeps_every_stream_at_its_share_or_its_least(counts, share, least):
    found = np.array(counts)
    most = limit(found, bounds(stream_share=share, per_stream=least))
    left = np.minimum(found, most)

    assert (left <= np.maximum(least, max(share, 2 / len(counts)) * left.sum() + 1)).all()
    assert (left >= np.minimum(found, least)).all()


def test_of_nothing_nothing_stays():
    assert staying(np.zeros(0, ROW), FREE).tolist() == []
    assert ranks(np.zeros(0, np.int32), np.zeros(0, np.int64)).tolist() == []
