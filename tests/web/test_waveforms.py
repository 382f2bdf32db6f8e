from __future__ import annotations

import numpy as np
from kept_windows import kept
from web_client import site

from streamclust.signal.mseed import Payload, decode
from streamclust.web import waveforms


def test_waveforms_are_read_back_from_miniseed():
    wave = np.random.default_rng(0).normal(size=(1, 3000)).astype(np.float32)
    window = kept(2, wave=wave)

    decoded = decode([Payload("", 0, b"".join(waveforms.mseed([window], 250.0)))])

    assert not decoded.rejects
    assert {(record.stream, record.rate_hz) for record in decoded.records} == {(window.stream, 250.0)}
    assert decoded.records[0].start_ns == window.start_ns
    assert np.array_equal(np.concatenate([record.samples for record in decoded.records]), wave[0])
    assert next(waveforms.mseed([window], 250.0))[6:7] == b"D"  # version 2, which everything reads


def test_each_channel_of_a_group_is_a_trace_and_ids_of_any_form_are_written():
    from pymseed import MS3Record

    windows = [
        kept(1, stream="probe0/ch12", wave=np.ones((2, 50), np.float32)),
        kept(1, stream="plain", wave=np.ones((1, 50), np.float32)),
    ]

    found = [
        (r.sourceid, r.formatversion, r.numsamples)
        for r in MS3Record.from_buffer(b"".join(waveforms.mseed(windows, 10.0)), unpack_data=True)
    ]

    assert found == [("probe0/ch12_1", 3, 50), ("probe0/ch12_2", 3, 50), ("plain", 3, 50)]


def test_the_kept_waveforms_of_a_cluster_come_in_the_order_of_time(filled):
    found = waveforms.waves(site(filled.state), filled.of_kind[:1])

    assert len(found) > 1
    assert {window.cluster for window in found} == set(filled.of_kind[:1])
    assert all(window.wave is not None for window in found)
    starts = [window.start_ns for window in found]
    assert starts == sorted(starts)


def test_a_long_waveform_keeps_its_extremes():
    wave = np.zeros((1, 10_000), np.float32)
    wave[0, 5000], wave[0, 5003] = 7, -9

    found = waveforms.points(wave, 100.0)

    assert len(found["samples"]) == waveforms.POINTS
    assert (max(found["samples"]), min(found["samples"])) == (7, -9)
    assert found["rate"] == 20.0
    assert "channels" not in found


def test_a_short_one_is_told_as_it_is_and_a_missing_component_is_null():
    wave = np.stack((np.arange(5), np.full(5, np.nan))).astype(np.float32)

    found = waveforms.points(wave, 100.0)

    assert found == {"rate": 100.0, "samples": [0, 1, 2, 3, 4], "channels": [[0, 1, 2, 3, 4], [None] * 5]}
