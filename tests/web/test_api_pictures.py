from __future__ import annotations

import pytest
from web_client import client, site

from streamclust.signal.mseed import Payload, decode


@pytest.fixture(scope="module")
def asker(filled):
    with client(site(filled.state)) as made:
        yield made


def test_a_kept_window_has_a_spectrogram_and_some_have_a_waveform(asker, filled):
    codes = set()
    for window_id in filled.kept:
        picture = asker.get(f"/api/v1/windows/{window_id}/spectrogram.png")
        waveform = asker.get(f"/api/v1/windows/{window_id}/waveform")
        assert picture.headers["content-type"] == "image/png"
        assert picture.content.startswith(b"\x89PNG")
        codes.add(waveform.status_code)
        if waveform.status_code == 200:
            told = waveform.json()
            assert len(told["samples"]) <= 2000
            assert told["rate"] * 40.96 == pytest.approx(len(told["samples"]))
            assert told["start"] < told["end"]
    assert codes == {200, 404}


def test_a_cluster_has_a_mean_spectrogram_and_its_waveforms(asker, filled):
    cluster = filled.of_kind[0]

    mean = asker.get(f"/api/v1/clusters/{cluster}/spectrogram.png")
    file = asker.get(f"/api/v1/clusters/{cluster}/waveforms.mseed")

    assert mean.content.startswith(b"\x89PNG")
    assert file.headers["content-disposition"] == f'attachment; filename="streamclust-{cluster}.mseed"'
    records = decode([Payload("", 0, file.content)]).records
    assert {record.stream for record in records} <= set(filled.streams)
    assert sum(len(record.samples) for record in records) % 4096 == 0


@pytest.mark.parametrize(
    "path",
    ["windows/nope/spectrogram.png", "windows/nope/waveform", "windows/%2e%2e%2fx/waveform", "clusters/C99/spectrogram.png", "clusters/%22%0d%0aX/waveforms.mseed"],
)  # fmt: skip
def test_what_is_not_kept_is_not_found(asker, path):
    answer = asker.get(f"/api/v1/{path}")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_before_anything_there_is_no_picture(tmp_path):
    with client(site(tmp_path)) as asker:
        for path in ("windows/x/spectrogram.png", "windows/x/waveform"):
            assert asker.get(f"/api/v1/{path}").status_code == 404
        for path in ("clusters/C1/spectrogram.png", "clusters/C1/waveforms.mseed"):
            assert asker.get(f"/api/v1/{path}").status_code in (404, 503)
