"""What a fit tells, in numbers and in words."""

from __future__ import annotations

import json

import numpy as np
import pytest
from lab_sets import file, tones

from streamclust.console import strict
from streamclust.core.errors import UsageError
from streamclust.lab import fitting
from streamclust.lab.data import load
from streamclust.train.fit import FitOptions, fit


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    data = load([file(tmp_path_factory.mktemp("made") / "w.npz")])
    return data, fit(data.training(), FitOptions(clusters=3, method="kmeans"))


def test_a_summary_counts_every_window_once(made):
    summary = fitting.summarise(made[1], made[0])

    assert sum(one["windows"] for one in summary["clusters"]) == 120
    assert sum(one["share"] for one in summary["clusters"]) == pytest.approx(1)
    assert json.loads(json.dumps(strict(summary), allow_nan=False))["method"] == "kmeans"


def test_the_text_begins_with_what_went_wrong_and_lists_the_largest_cluster_first(made):
    summary = fitting.summarise(made[1], made[0]) | {"model": "m", "warnings": ["few windows"]}

    lines = fitting.text(summary).splitlines()

    assert lines[0] == "warning: few windows"
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("cluster")) + 1 :][:3]
    sizes = [int(line.split()[1]) for line in table]
    assert sizes == sorted(sizes, reverse=True)
    assert lines[-1] == "model   m"


def test_too_few_windows_are_told_with_what_was_left_out(tmp_path):
    x, _ = tones()
    x[:118] = 0
    data = load([file(tmp_path / "w.npz", x=x)])

    with pytest.raises(UsageError, match=r"at least 3 usable windows, one a cluster \(got 2; left out: 118 dead\)"):
        fitting.few_enough(data, 3)
    fitting.few_enough(data, "auto")


def test_windows_that_cannot_have_a_cluster_are_counted_and_not_scored(made, tmp_path):
    x, _ = tones()
    x[5], x[9, 3] = 2.0, np.inf

    scores = fitting.scores_of(made[1].bundle, load([file(tmp_path / "w.npz", x=x)], made[0].profile))

    assert (scores["n"], scores["unassigned"]) == (118, 2)


def test_a_set_without_any_usable_window_cannot_be_scored(made, tmp_path):
    data = load([file(tmp_path / "w.npz", x=np.zeros((120, 128)))], made[0].profile)

    with pytest.raises(UsageError, match="a window that can have a cluster"):
        fitting.scores_of(made[1].bundle, data)
