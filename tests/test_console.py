"""What is printed is strict JSON, and no data set can write to the terminal what it likes."""

from __future__ import annotations

import json

import numpy as np

from streamclust.console import columns, say, say_json


def test_json_is_strict_and_knows_the_numbers_of_numpy(capsys):
    say_json({"a": np.float32("nan"), "b": [np.int64(2), float("inf")], "c": np.arange(2), 3: (True, None)})

    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [2, None], "c": [0, 1], "3": [True, None]}


def test_control_characters_are_escaped(capsys):
    say("name \x1b[31mred\nnext")

    assert capsys.readouterr().out == "name \\x1b[31mred\nnext\n"


def test_columns_are_as_wide_as_their_widest_cell():
    assert columns([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc  d"
