"""The form of an id, and merges that are followed."""

from __future__ import annotations

import pytest

from streamclust.core.lineage import number, resolve


def test_the_number_of_an_id_is_what_follows_the_letter():
    assert [number(x) for x in ("C1", "C7", "C120")] == [1, 7, 120]


@pytest.mark.parametrize("text", ["", "7", "C0", "C07", "c7", "C7 ", "C-1", "C\u0667", "C" + "9" * 30, "C7\n"])
def test_what_is_no_id_is_refused(text):
    with pytest.raises(ValueError, match="must be C1, C2"):
        number(text)


def test_merges_are_followed_to_the_end_and_a_circle_is_refused():
    assert resolve("C4", {"C4": "C3", "C3": "C1"}) == "C1"
    assert resolve("C2", {"C4": "C3"}) == "C2"
    with pytest.raises(ValueError, match="circle"):
        resolve("C1", {"C1": "C2", "C2": "C1"})
