from __future__ import annotations

import json

import numpy as np

from streamclust.web.answers import dumps, finite, ok, time


def test_json_is_strict():
    value = {"a": [float("nan"), float("inf"), np.float32(1.5), np.int64(2)], "b": (1, {"c": np.zeros(2)}), 3: {"x"}}
    assert json.loads(dumps(value)) == {"a": [None, None, 1.5, 2], "b": [1, {"c": [0.0, 0.0]}], "3": ["x"]}
    assert finite(None) is None


def test_an_answer_is_compact_json():
    made = ok({"a": 1, "b": "\u00e9"}, 202, {"X-A": "b"})
    assert (made.status_code, made.media_type, made.headers["x-a"]) == (202, "application/json", "b")
    assert made.body == b'{"a":1,"b":"\\u00e9"}'


def test_times_end_in_z():
    assert time(0) == "1970-01-01T00:00:00.000000000Z"
    assert time(None) is None
