from __future__ import annotations

import pytest
from web.filled import fill
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
        else:
            assert waveform.content == b""
    assert codes == {200, 204}


def test_a_window_that_is_not_kept_is_no_error(asker, filled):
    events = asker.get("/api/v1/events", params={"order": "oldest", "limit": 3}).json()["items"]

    for event in events:
        assert event["window_id"] not in filled.kept
        for what in ("spectrogram.png", "waveform"):
            answer = asker.get(f"/api/v1/windows/{event['window_id']}/{what}")
            assert (answer.status_code, answer.content) == (204, b"")


def test_a_cluster_of_which_nothing_is_kept_has_no_picture_and_that_is_no_error(tmp_path):
    made = fill(tmp_path / "state", 60, kept=0)
    with client(site(made.state)) as asker:
        assert asker.get(f"/api/v1/clusters/{made.clusters[0]}/spectrogram.png").status_code == 204
        assert asker.get(f"/api/v1/clusters/{made.clusters[0]}/waveforms.mseed").status_code == 404


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
def test_what_never_was_is_not_found(asker, path):
    answer = asker.get(f"/api/v1/{path}")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_before_anything_there_is_no_picture(tmp_path):
    with client(site(tmp_path)) as asker:
        for path in ("windows/x/spectrogram.png", "windows/x/waveform"):
            assert asker.get(f"/api/v1/{path}").status_code == 404
        for path in ("clusters/C1/spectrogram.png", "clusters/C1/waveforms.mseed"):
            assert asker.get(f"/api/v1/{path}").status_code in (404, 503)
