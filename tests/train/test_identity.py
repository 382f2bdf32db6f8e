"""Clusters of a candidate get the ids of the identities that they continue, and no id is ever used twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamclust.core.errors import ModelError
from streamclust.core.lineage import number, resolve
from streamclust.train.identity import Known, Region, Swap, first, in_region, match, switched

SWAP = Swap(5, 3, 4)


def matched(old, new, known=None, weights=None, swap=SWAP, **options):
    names = [None if x is None else f"C{x}" for x in old]
    return match(names, np.array(new, np.int64), weights, known or Known(last=9), swap, **options)


def kinds(matching):
    return {record.identity: record.kind for record in matching.lineage}


def parents(matching):
    return {record.identity: record.parents for record in matching.lineage if record.parents}


def test_identical_clusters_in_another_order_keep_their_ids():
    found = matched([1, 1, 2, 2, 7], [2, 2, 0, 0, 1])

    assert found.ids == ("C2", "C7", "C1")
    assert [(r.kind, r.jaccard, r.from_model, r.to_model, r.at_ns) for r in found.lineage] == [
        ("keep", 1.0, 3, 4, 5)
    ] * 3
    assert found.last == 9


def test_a_cluster_that_shares_half_is_the_same_and_one_that_shares_less_is_new():
    half = matched([1, 1, 2, 2], [0, 0, 0, 1])  # C1: 2 of 3; C2: 1 of 2
    assert half.ids == ("C1", "C2")

    less = matched([1, 1, 1, 1, 1, 2, 2, 2, None], [0, 0, 1, 1, 2, 0, 1, 2, 0])
    assert less.ids == ("C10", "C11", "C12")
    assert {record.identity for record in less.lineage if record.kind == "retire"} == {"C1", "C2"}


def test_two_small_overlaps_do_not_outweigh_an_accepted_one():
    #     C1: 8 in cluster 0, 4 in 1.  C2: 4 in 0.  The Jaccard of (0, C1) is 8 / 16; (0, C2) and (1, C1) have 1/3 each.
    found = matched([1] * 12 + [2] * 4, [0] * 8 + [1] * 4 + [0] * 4)

    assert found.ids[0] == "C1"
    assert found.lineage[0].jaccard == 0.5


def test_a_cluster_in_two_parts_is_a_split_whether_its_id_stays_or_not():
    stays = matched([1] * 10, [0] * 6 + [1] * 4)
    assert stays.ids == ("C1", "C10")
    assert kinds(stays) == {"C1": "keep", "C10": "split"}
    assert parents(stays) == {"C10": ("C1",)}

    goes = matched([1] * 9, [0, 1, 2] * 3)
    assert kinds(goes) == {"C10": "split", "C11": "split", "C12": "split", "C1": "retire"}


def test_two_clusters_in_one_are_a_merge_whether_an_id_stays_or_not():
    stays = matched([1] * 6 + [2] * 4, [0] * 10)
    assert stays.ids == ("C1",)
    assert kinds(stays) == {"C1": "merge", "C2": "retire"}
    assert parents(stays) == {"C1": ("C1", "C2")}

    goes = matched([1] * 3 + [2] * 3 + [3] * 3, [0] * 9)
    assert kinds(goes) == {"C10": "merge", "C1": "retire", "C2": "retire", "C3": "retire"}
    assert parents(goes) == {"C10": ("C1", "C2", "C3")}


def test_windows_that_had_no_cluster_give_birth_to_one():
    found = matched([1, 1, 1, None, None, None, 1], [0, 0, 0, 1, 1, 1, 1])

    assert found.ids == ("C1", "C10")
    assert kinds(found) == {"C1": "keep", "C10": "birth"}


def test_a_cluster_that_drowns_in_novel_windows_is_not_the_same_any_more():
    assert matched([1] * 3 + [None] * 9, [0] * 12).ids == ("C10",)
    assert matched([1] * 8, [0] * 3 + [-1] * 5).ids == ("C10",)


def test_weights_decide_as_windows_do():
    old, new = [1, 1, 2], [0, 1, 0]

    assert matched(old, new, weights=np.array([3.0, 1.0, 1.0])).ids == ("C1", "C10")
    assert matched(old, new, weights=np.array([1.0, 1.0, 3.0])).ids == ("C2", "C1")


def test_current_clusters_without_an_anchor_are_retired_and_candidates_without_one_are_born():
    known = Known(last=4, current=("C1", "C4"))

    found = matched([1, 1], [1, 1], known, swap=SWAP._replace(clusters=3))

    assert found.ids == ("C5", "C1", "C6")
    assert kinds(found) == {"C5": "birth", "C1": "keep", "C6": "birth", "C4": "retire"}


def test_a_retired_identity_returns_by_the_anchors_that_were_kept_for_it():
    former = [None] * 4 + ["C3"] * 3 + ["C4"]
    known = Known(last=9, retired=("C3", "C4"), former=former)

    found = matched([1] * 4 + [1, None, None, None], [0] * 4 + [1] * 4, known)

    assert found.ids == ("C1", "C3")
    assert kinds(found) == {"C1": "keep", "C3": "return"}
    assert found.lineage[1].jaccard == 0.75


def test_a_retired_identity_returns_by_its_region_and_only_once():
    known = Known(last=9, retired=("C3",), near=(None, "C3", "C3"))

    found = matched([1, 1, None, None], [0, 0, 1, 2], known)

    assert found.ids == ("C1", "C3", "C10")
    assert kinds(found)["C3"] == "return"


def test_an_identity_that_is_there_does_not_return():
    known = Known(last=9, current=("C3",), near=("C3",), former=["C3"])

    found = matched([None], [0], known)

    assert found.ids == ("C10",)
    assert kinds(found) == {"C10": "birth", "C3": "retire"}


def test_regions_are_given_one_to_one_the_nearest_first():
    regions = {"C2": Region(np.zeros(2), 1.0), "C5": Region(np.array([4.0, 0.0]), 2.0)}
    centroids = np.array([[0.5, 0], [0.2, 0], [3.0, 0], [9.0, 9]])

    assert in_region(centroids, regions) == (None, "C2", "C5", None)
    assert in_region(centroids, {}) == (None,) * 4
    with pytest.raises(ModelError, match="centroids of shape"):
        in_region(centroids, {"C2": Region(np.zeros(3), 1.0)})


def test_what_people_merged_stays_merged_when_it_is_one_cluster():
    known = Known(last=9, merged={"C1": "C2", "C3": "C2"})

    found = matched([1] * 3 + [2] * 3 + [3] * 3, [0] * 9, known)

    assert found.ids == ("C2",), "without the merge none of the three has half of it"
    assert kinds(found) == {"C2": "keep", "C1": "retire", "C3": "retire"}


def test_what_people_merged_stays_merged_when_it_is_two_clusters():
    known = Known(last=9, merged={"C1": "C2"})

    found = matched([1] * 4 + [2] * 4 + [5] * 4, [0] * 4 + [1] * 4 + [2] * 4, known)

    assert found.ids == ("C1", "C2", "C5")
    assert [resolve(x, known.merged) for x in found.ids] == ["C2", "C2", "C5"]
    assert not found.merge_kernels


def test_a_part_of_a_merged_identity_that_has_no_id_yet_is_held_in_it():
    known = Known(last=9, merged={"C1": "C2"})

    found = matched([1] * 4 + [2] * 8, [0] * 4 + [1] * 4 + [2] * 4, known)

    assert found.ids == ("C1", "C2", "C10")
    assert found.merge_kernels == {"C10": "C2"}
    assert {resolve(x, {**known.merged, **found.merge_kernels}) for x in found.ids} == {"C2"}


def test_the_first_model_has_new_ids_and_a_rollback_has_the_old_ones():
    begun = first(3, Known(last=4), Swap(1, None, 1))
    assert begun.ids == ("C5", "C6", "C7")
    assert {record.kind for record in begun.lineage} == {"birth"}

    back = switched(("C5", "C8"), ("C5", "C6"), Swap(9, 2, 1), retired=("C6",))
    assert [(r.kind, r.identity) for r in back] == [("keep", "C5"), ("return", "C6"), ("retire", "C8")]


@pytest.mark.parametrize(
    ("old", "new", "options", "message"),
    [
        (["C1"], [0, 0], {}, "must be as many"),
        (["C1", "x"], [0, 0], {}, "must be C1"),
        (["C1", None], [0, -2], {}, "-1 or more"),
        (["C1"], [0], {"weights": np.array([np.nan])}, "finite"),
        (["C1"], [0], {"accept": 0.0}, "accept"),
        (["C1"], [5], {"swap": Swap(0, 1, 2, clusters=2)}, "clusters"),
        (["C1"], [0], {"known": Known(near=())}, "clusters"),
        (["C1"], [0], {"known": Known(former=("C2", "C2"))}, "as many"),
        (["C1"], [0], {"known": Known(merged={"C1": "C2", "C2": "C1"})}, "circle"),
    ],
)
def test_what_makes_no_sense_is_refused(old, new, options, message):
    options = {"weights": None, "known": Known(), "swap": SWAP} | options
    values = [options.pop(name) for name in ("weights", "known", "swap")]
    with pytest.raises(ModelError, match=message):
        match(old, np.array(new), *values, **options)


IDS = st.one_of(st.none(), st.integers(1, 6).map(lambda n: f"C{n}"))
ANCHORS = st.lists(st.tuples(IDS, st.integers(-1, 5), st.sampled_from([0.5, 1.0, 2.0])), min_size=1, max_size=40)
MERGED = st.sampled_from([{}, {"C1": "C2"}, {"C1": "C2", "C2": "C4"}, {"C5": "C9"}])
KNOWN = st.builds(
    Known,
    st.integers(0, 20),
    st.sets(st.sampled_from(["C1", "C8"])),
    st.sets(st.sampled_from(["C3", "C7", "C11"])),
    MERGED,
)


def columns(anchors):
    old, new, weights = zip(*anchors, strict=True)
    return list(old), np.array(new), np.array(weights)


@given(ANCHORS, KNOWN)
def test_ids_are_distinct_and_new_ones_were_never_used(anchors, known):
    old, new, weights = columns(anchors)

    found = match(old, new, weights, known, SWAP)

    used = {*filter(None, old), *known.current, *known.retired, *known.merged, *known.merged.values()}
    highest = max([known.last, *map(number, used)])
    assert len(set(found.ids)) == len(found.ids) == new.max(initial=-1) + 1
    fresh = sorted(number(x) for x in found.ids if x not in used)
    assert fresh == list(range(highest + 1, highest + 1 + len(fresh)))
    assert found.last == highest + len(fresh)
    for record in found.lineage:
        assert (record.kind in ("keep", "return", "retire")) <= (record.identity in used)
        assert (record.kind in ("birth", "split")) <= (record.identity not in used)
        assert record.kind != "retire" or record.identity not in found.ids


@given(ANCHORS, KNOWN, st.permutations(range(6)))
def test_the_order_of_the_candidates_clusters_changes_no_identity(anchors, known, order):
    old, new, weights = columns(anchors)
    swap = SWAP._replace(clusters=6)
    moved = np.where(new >= 0, np.array(order)[new], -1)

    one, other = match(old, new, weights, known, swap), match(old, moved, weights, known, swap)

    for label in set(new.tolist()) - {-1}:
        assert one.ids[label] == other.ids[order[label]]
    assert set(one.lineage) == set(other.lineage)
    assert one.merge_kernels == other.merge_kernels


@given(st.lists(st.integers(1, 6), min_size=1, max_size=40), MERGED)
def test_identical_labels_keep_all_ids(numbers, merged):
    ids = sorted(set(numbers))

    found = matched(numbers, [ids.index(n) for n in numbers], Known(merged=merged))

    assert found.ids == tuple(f"C{n}" for n in ids)
    assert {record.kind for record in found.lineage} == {"keep"}
    assert not found.merge_kernels


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=60))
def test_a_refinement_gives_splits_and_nothing_else_that_is_new(pairs):
    parts = sorted(set(pairs))

    found = matched([old for old, _ in pairs], [parts.index(pair) for pair in pairs])

    for (old, _), identity, record in zip(parts, found.ids, found.lineage, strict=False):
        assert (record.kind, identity) == ("keep", f"C{old}") or (record.kind, record.parents) == (
            "split",
            (f"C{old}",),
        )
    for old in {old for old, _ in parts}:
        if sum(other == old for other, _ in parts) == 1:
            assert f"C{old}" in found.ids


@settings(max_examples=50)
@given(st.data())
def test_over_many_models_no_id_is_ever_given_to_something_else(data):
    known, ids, retired = Known(), (), set()
    ever: set[str] = set()
    for model in range(6):
        size = 30
        old = [
            ids[k] if ids else None
            for k in data.draw(st.lists(st.integers(0, max(len(ids) - 1, 0)), min_size=size, max_size=size))
        ]
        new = np.array(data.draw(st.lists(st.integers(-1, 4), min_size=size, max_size=size)))
        known = Known(known.last, ids, frozenset(retired))

        found = match(old, new, None, known, Swap(model, model, model + 1))

        for identity in found.ids:
            assert identity in ids or identity not in ever, "a retired id came back without an anchor"
        ids, known = found.ids, Known(found.last)
        retired |= {record.identity for record in found.lineage if record.kind == "retire"}
        ever |= set(ids)
