from __future__ import annotations

from streamclust.web.upload_worker import Told, _after


def test_only_lines_that_are_ours_are_heard():
    told = Told()
    for line in (
        b"",
        b"noise",
        b"[]",
        b"3",
        b'{"share": "x"}',
        b'{"share": 1}',
        b'{"done": 3}',
        b"\xff",
        b"[" * 50_000,
    ):
        told = _after(told, line)
    assert told == Told()
    assert _after(told, b'{"step": "training", "share": 7}') == Told("training", 1.0)


def test_what_a_worker_says_is_one_line_of_bounded_text():
    told = _after(Told(), b'{"error": "a\\u001b[31m\\nb' + b"x" * 2000 + b'"}')
    assert told.error.isprintable()
    assert len(told.error) <= 500
