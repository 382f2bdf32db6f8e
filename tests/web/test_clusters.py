from __future__ import annotations

import numpy as np
import pytest
from web_client import site

from streamclust.web import clusters
from streamclust.web.problems import Problem


@pytest.fixture(scope="module")
def made(filled):
    return site(filled.state)


def test_every_cluster_is_told_with_its_counts(made, filled):
    found = clusters.listed(made)

    assert [item["id"] for item in found["items"]] == sorted(filled.clusters)
    with made.results() as reading:
        every = reading.recent(1000)
    for item in found["items"]:
        own = [
            event
            for event in every
            if event.cluster
            in ((item["id"],) if item["id"] != filled.of_kind[5] else (filled.of_kind[1], filled.of_kind[5]))
        ]
        assert item["windows"] == len(own)
        assert item["share"] == len(own) / 600
        assert item["windows"] >= item["windows_24h"] >= item["windows_1h"]
        assert item["in_model"] is True
    assert found["novel"]["windows"] == sum(event.is_novel for event in every)


def test_a_cluster_carries_what_people_and_the_model_say_of_it(made, filled):
    named = clusters.one(made, filled.of_kind[2])
    merged = clusters.one(made, filled.of_kind[1])

    assert (named["label"], named["name"], named["note"]) == ("rockfall", "rockfall", "mostly in the afternoon")
    assert named["own_colour"] is None
    assert named["colour"].startswith("#")
    assert named["description"]
    assert named["dominant_hz"] > 0
    assert named["retired"] is None
    assert named["born"].endswith("Z")
    assert merged["merged_into"] == filled.of_kind[5]


def test_the_detail_has_pictures_history_and_distributions(made, filled):
    cluster = filled.of_kind[5]
    found = clusters.detail(made, cluster)

    assert found["members"] == [filled.of_kind[1]]
    assert 0 < len(found["exemplars"]) <= 12
    assert {each["window_id"] for each in found["exemplars"]} <= set(filled.kept)
    assert [each["kind"] for each in found["lineage"]] == ["birth"]
    assert [each["field"] for each in found["journal"]] == ["merged_into"]
    assert found["cumulative"][-1][1] == found["windows"] == sum(found["rms"]["counts"]) == found["sampled"]
    hours = 3600 * sum(value for _, value in found["hourly"])
    assert hours > 0
    assert sum(each["share"] for each in found["streams"]) == pytest.approx(1)
    assert len(found["peak"]["edges"]) == len(found["peak"]["counts"]) + 1
    counts, edges = found["dominant_hz_counts"]["counts"], found["dominant_hz_counts"]["edges"]
    (low, high), *_, (_, last) = [(a, b) for a, b, count in zip(edges, edges[1:], counts, strict=False) if count]
    assert low < 2.6 < high + 1  # tremor
    assert last == pytest.approx(12.5, abs=0.5)  # a machine
    assert edges == sorted(set(edges))


def test_an_unknown_cluster_is_not_found(made):
    with pytest.raises(Problem) as caught:
        clusters.detail(made, "C99")

    assert caught.value.status == 404


def test_before_anything_there_is_no_cluster(tmp_path):
    assert clusters.listed(site(tmp_path)) == {"items": [], "novel": {"windows": 0}}


def test_a_histogram_is_logarithmic_and_counts_everything_that_is_above_zero():
    found = clusters.histogram([0.0, None, float("nan"), 1.0, 10.0, 100.0, 100.0], 4)

    assert sum(found["counts"]) == 4
    assert found["counts"][-1] == 2
    ratios = np.diff(np.log(found["edges"]))
    assert ratios == pytest.approx(ratios[0], rel=0.01)
    assert clusters.histogram([0.0]) == {"edges": [], "counts": []}
    assert sum(clusters.histogram([5.0] * 300)["counts"]) == 300
