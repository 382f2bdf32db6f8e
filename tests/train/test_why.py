"""What is said of the choices of a fit."""

import numpy as np
import pytest

from streamclust.train.views import Choice
from streamclust.train.why import Why


def why(stability, reason=""):
    return Why(Choice("manifold", "pooled", np.arange(2), stability, reason), 3, None, None)


@pytest.mark.parametrize(
    ("given", "asked", "told"),
    [
        (
            why({"whole": 0.2, "pooled": 0.6}),
            "auto",
            "pooled view, manifold: fits to random halves agree by whole 0.20",
        ),
        (why({}, "no time"), "auto", "pooled view, manifold: no time"),
        (why({}), "auto", "method manifold: there is nothing to compare"),
    ],
    ids=["compared", "no time", "too few"],
)
def test_each_choice_is_told_with_its_reason(given, asked, told):
    assert given.text(asked).startswith(f"3 clusters: as asked; {told}")


def test_of_a_method_that_was_asked_for_there_is_nothing_to_tell():
    assert why({}).text("manifold") == "3 clusters: as asked"


def test_the_evidence_has_the_view_and_each_stability():
    found = why({"whole": 0.2}).evidence()
    assert found == {"view": "pooled", "methods": [{"method": "whole", "stability": 0.2}]}
