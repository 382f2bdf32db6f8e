from __future__ import annotations

import json

import pytest

from streamclust.core import errors
from streamclust.web.problems import MEDIA, Problem, answer, of, plain

EVERY = [
    errors.UsageError("C9: cannot be merged into C1"),
    errors.StateError("/var/lib/streamclust/streamclust.sqlite: no such database"),
    errors.StateLocked("state.dir /var/lib/streamclust: held by process 7"),
    errors.StateVersion("/srv/x: written by a newer streamclust"),
    errors.BadRecord(errors.Reason.TOO_SHORT, "x"),
    errors.SinkUnavailable("/var/lib/streamclust/identities.sqlite: disk full"),
    errors.DurabilityError("/var/lib: fsync"),
    errors.CorruptModel("model 3: /srv/models/3/model.json does not have the SHA-256"),
    errors.ProfileMismatch("model: its profile must be seismic/1"),
    errors.MissingExtra("x", "train"),
    errors.NotAllowed("no"),
    errors.ConfigError([errors.Problem("state.dir", "/var/secret", "a directory")]),
    errors.Fenced("x"),
]


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_every_error_of_ours_has_an_answer_without_a_path(error):
    made = answer(of(error))
    body = json.loads(made.body)
    assert made.media_type == MEDIA
    assert body["status"] == made.status_code
    assert 400 <= made.status_code < 600
    assert made.status_code != 500
    assert set(body) == {"type", "title", "status", "detail"}
    for secret in ("/var", "/srv", "Traceback"):
        assert secret not in body["detail"]


def test_what_is_not_there_is_404_and_what_cannot_be_is_422_or_409():
    assert of(errors.UsageError("no cluster 'C9'; there are C1")).status == 404
    assert of(errors.UsageError("name: must be a text")).status == 422
    assert of(errors.CorruptModel("there is no version 7; versions: 1")).status == 404
    assert of(errors.CorruptModel("model 1: damaged")).status == 409


def test_what_may_work_later_says_when():
    assert answer(of(errors.SinkUnavailable("locked"))).headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("cannot read /home/ada/.ssh/id_rsa now", "cannot read (a file) now"),
        ("state.dir /var/lib/x: held", "state.dir (a file): held"),
        ("open C:\\Users\\ada\\x.txt", "open (a file)"),
        ("a/b is no path, nor 1/2 or seismic/1", "a/b is no path, nor 1/2 or seismic/1"),
        ("two\nlines\tand a tab", "two lines and a tab"),
    ],
)
def test_paths_are_left_out_of_what_is_said(text, clean):
    assert plain(text) == clean


def test_a_detail_is_bounded():
    assert len(plain("word " * 1000)) <= 500


def test_a_problem_carries_its_headers_and_members():
    made = answer(Problem(403, "no", {"X-Why": "so"}, {"scope": "operate"}))
    assert made.headers["x-why"] == "so"
    assert json.loads(made.body)["scope"] == "operate"
