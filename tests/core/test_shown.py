from __future__ import annotations

import pytest

from streamclust.core.shown import COLOURS, cell, colour


def test_colours_come_again_after_the_last():
    assert [colour(at) for at in range(len(COLOURS))] == list(COLOURS)
    assert colour(len(COLOURS)) == COLOURS[0]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx"])
def test_no_text_becomes_a_formula(text):
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-0.5, 3, None, "C7", "a=b"])
def test_what_is_no_formula_stays_as_it_is(value):
    assert cell(value) == value
