from __future__ import annotations

import json

import numpy as np

from streamclust.lab.upload_pictures import STEP, spectrogram, write_waves
from streamclust.stream.formats import Trace

NS = 10**9


def test_a_tone_is_where_it_belongs_and_gaps_are_empty():
    tone = np.sin(2 * np.pi * 25 * np.arange(30_000) / 100).astype(np.float32)
    traces = [Trace("a", NS, 100.0, tone), Trace("a", 601 * NS, 100.0, tone)]
    values = spectrogram(traces, NS, 900.0)
    lines, columns = values.shape
    assert abs(values[:, columns // 6].argmax() - lines / 2) <= 1
    assert np.isnan(values[:, columns // 2]).all()


def test_samples_and_their_extremes_lie_where_the_index_says(tmp_path):
    x = np.arange(1000, dtype=np.int32)
    write_waves(tmp_path, [Trace("a", NS, 10.0, x), Trace("b", NS, 10.0, -x)])
    index = json.loads((tmp_path / "wave.json").read_text())["segments"]
    wave, small = (np.fromfile(tmp_path / name, np.float32) for name in ("wave.f32", "envelope.f32"))
    np.testing.assert_array_equal(wave[index[1]["offset"] :], -x)
    assert small[2 * index[1]["envelope"]] == -(STEP - 1)
    assert small[1] == STEP - 1
