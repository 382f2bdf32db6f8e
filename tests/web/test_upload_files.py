from __future__ import annotations

import json

import numpy as np
import pytest

from streamclust.lab.upload_pictures import write_waves
from streamclust.stream.formats import Trace
from streamclust.web import upload_files
from streamclust.web.problems import Problem
from streamclust.web.upload_store import Store

SECOND = 10**9


@pytest.fixture
def kept(tmp_path):
    store = Store(tmp_path / "uploads")
    one = store.new_id()
    return store, one, store.make(one) / "out"


def test_the_envelope_holds_the_least_and_greatest_of_each_step(kept):
    store, one, out = kept
    x = np.random.default_rng(0).normal(size=500_000).astype(np.float32)
    write_waves(out, [Trace("a", SECOND, 1000.0, x)])
    for points, rough in ((500, 0.6), (10, 0.05)):
        found = upload_files.envelope(store, one, None, (None, None), points)
        parts = np.split(x, points)
        assert np.mean(np.isclose(found["max"], [part.max() for part in parts], rtol=1e-5)) > 1 - rough
        assert max(found["max"]) == pytest.approx(float(x.max()), rel=1e-5)
    near = upload_files.envelope(store, one, "a", (10.0, 12.0), 20)
    np.testing.assert_allclose(near["min"], [part.min() for part in np.split(x[10_000:12_000], 20)], rtol=1e-5)
    assert near["step_seconds"] == pytest.approx(0.1)


def test_gaps_have_no_values_and_streams_are_apart(kept):
    store, one, out = kept
    ones = np.ones(1000, np.float32)
    write_waves(
        out,
        [
            Trace("a", SECOND, 100.0, ones),
            Trace("b", SECOND, 100.0, 3 * ones),
            Trace("a", 31 * SECOND, 100.0, 2 * ones),
        ],
    )
    found = upload_files.envelope(store, one, "a", (None, None), 40)
    assert found["max"][:10] == [1.0] * 10
    assert found["max"][10:30] == [None] * 20
    assert found["max"][-10:] == [2.0] * 10
    assert upload_files.streams(store, one) == ["a", "b"]
    for stream, span in (("c", (None, None)), ("a", (5.0, 4.0)), ("a", (1e9, None))):
        with pytest.raises(Problem):
            upload_files.envelope(store, one, stream, span, 40)


@pytest.mark.parametrize(
    "index",
    ["", "[", "[1]", "{}", '{"segments": 3}', '{"step": 0, "segments": []}', "[" * 100_000,
     json.dumps({"step": 256, "segments": [{"stream": "a", "start_ns": 0, "rate": 0, "samples": 5, "offset": 0, "envelope": 0}]}),
     json.dumps({"step": 256, "segments": [{"stream": "a", "start_ns": 0, "rate": 1, "samples": 10**9, "offset": -(10**15), "envelope": -5}]}),
     json.dumps({"height": 10**6, "width": 10**6, "rows": {"w": 0}}), json.dumps({"height": 5, "width": 5, "rows": {"w": 10**12}})],
)  # fmt: skip
def test_what_a_worker_wrote_is_not_trusted(kept, index):
    store, one, out = kept
    (out / "wave.json").write_text(index)
    (out / "pictures.json").write_text(index)
    (out / "pictures.u8").write_bytes(bytes(10))
    for ask in (
        lambda: upload_files.envelope(store, one, None, (None, None), 10),
        lambda: upload_files.window_picture(store, one, "w"),
    ):
        with pytest.raises(Problem) as told:
            ask()
        assert told.value.status == 404
