from __future__ import annotations

import csv
import json
import zipfile
from errno import ENOSPC
from pathlib import Path

import numpy as np
import pytest
from upload_files import as_mseed, as_npz, as_wav
from upload_jobs import Heard, job

from streamclust.core.profile_spec import ProfileSpec
from streamclust.core.specs import WindowsSpec
from streamclust.lab import jail, upload_job
from streamclust.store.laid import Laid

SPEC = ProfileSpec(name="icequake", rate_hz=100.0, window_seconds=5.12, hop_seconds=2.56)


@pytest.fixture(autouse=True)
def _no_bounds(monkeypatch):
    """These tests run in the process of pytest, which must stay as it is."""
    for name in ("allow_memory", "settle_memory"):
        monkeypatch.setattr(jail, name, lambda *_: None)


def run(asked):
    heard = Heard()
    upload_job.run(asked, Path(asked.folder), heard)
    return heard.lines[-1]


def signal():
    rng, t = np.random.default_rng(0), np.arange(12_000) / 100
    return (rng.normal(size=12_000) * 20 + 500 * np.sin(2 * np.pi * 5 * t) * (t % 20 < 8)).astype(np.int32)


def bursts(rate=16_000):
    """Bursts of three tones in noise, without anything like a spike."""
    rng, n = np.random.default_rng(0), 8 * rate
    x, long = rng.normal(0, 0.02, n), rate // 5
    for k in range(20):
        at = int(rng.integers(0, n - long))
        x[at : at + long] += (
            0.5 * np.sin(2 * np.pi * (800, 2500, 5000)[k % 3] * np.arange(long) / rate) * np.hanning(long)
        )
    return (20_000 * x).clip(-32_767, 32_767).astype(np.int16)


def two_kinds():
    rng, at = np.random.default_rng(0), np.arange(128) / 100
    hz = np.repeat([5, 20], 40)[:, None]
    return (rng.normal(size=(80, 128)) + 5 * np.sin(2 * np.pi * hz * at)).astype(np.float32)


def test_all_files_of_a_result_are_written_and_agree(tmp_path, monkeypatch):
    monkeypatch.setattr(upload_job, "find_spec", lambda _name: None)
    done = run(job(tmp_path, as_npz(x=two_kinds(), fs=100.0), "npz", clusters=2, seconds=20.0))["done"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "result.json", "events.json", "events.csv", "model.zip", "report.html", "image.png", "pictures.json", "pictures.u8",
    }  # fmt: skip
    whole = json.loads((tmp_path / "out" / "result.json").read_text())
    assert done["windows"] == len(whole["windows"]) == 80
    assert sum(one["windows"] for one in whole["clusters"]) == 80
    assert len(whole["map"]) == 80
    pictures = json.loads((tmp_path / "out" / "pictures.json").read_text())
    size = pictures["height"] * pictures["width"] * len(pictures["rows"])
    assert (tmp_path / "out" / "pictures.u8").stat().st_size == size


@pytest.mark.parametrize("error", [ImportError("failed to map segment"), OSError("no memory"), MemoryError()])
def test_where_torch_finds_no_room_windows_are_clustered_without_it(tmp_path, monkeypatch, error):
    def fails():
        raise error

    monkeypatch.setattr(upload_job, "find_spec", lambda _name: "there")
    monkeypatch.setattr(upload_job, "_load_torch", fails)
    assert run(job(tmp_path, as_wav(bursts(), 16_000, 16), "wav", seconds=30.0))["done"]["method"] == "gmm"


def test_room_for_torch_is_made_before_windows_of_fast_recordings_are_fitted(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(upload_job, "find_spec", lambda _name: "there")
    monkeypatch.setattr(upload_job, "_load_torch", lambda: asked.append("torch"))
    monkeypatch.setattr(jail, "allow_memory", lambda: asked.append("allow"))
    monkeypatch.setattr(jail, "settle_memory", lambda _: asked.append("settle"))
    assert "done" in run(job(tmp_path, as_wav(bursts(), 16_000, 16), "wav", clusters=2, seconds=10.0))
    assert asked == ["allow", "torch", "settle"]


def test_a_full_disk_is_said_in_words(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(upload_job, "find_spec", lambda _name: None)
    monkeypatch.setattr(upload_job.upload_output, "write", full)
    assert "disk is too full" in run(job(tmp_path, as_npz(x=two_kinds(), fs=100.0), "npz", clusters=2))["error"]


def test_windows_that_come_without_times_get_none(tmp_path, monkeypatch):
    monkeypatch.setattr(upload_job, "find_spec", lambda _name: None)
    run(job(tmp_path, as_npz(x=two_kinds(), fs=100.0), "npz", clusters=2, seconds=20.0))
    whole = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (whole["timeless"], whole["start"], whole["seconds"]) == (True, None, None)
    assert [row["number"] for row in whole["windows"]] == list(range(1, 81))
    assert {(row["start"], row["end"], row["seconds"]) for row in whole["windows"]} == {(None, None, None)}
    with (tmp_path / "out" / "events.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["start"], row["end"], row["time"], row["seconds"]) for row in rows} == {("", "", "", "")}
    assert rows[16]["number"] == "17"
    assert {row["time"] for row in json.loads((tmp_path / "out" / "events.json").read_text())} == {None}


def test_a_recording_without_a_begin_says_seconds_and_no_date(tmp_path, monkeypatch):
    monkeypatch.setattr(upload_job, "find_spec", lambda _name: None)
    run(job(tmp_path, as_wav(bursts(), 16_000, 16), "wav", clusters=2, seconds=10.0))
    whole = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (whole["timeless"], whole["start"]) == (True, None)
    assert whole["seconds"] == pytest.approx(8.0)
    assert [row["start"] for row in whole["streams"]] == [None]
    assert {(row["start"], row["end"]) for row in whole["windows"]} == {(None, None)}
    seconds = [row["seconds"] for row in whole["windows"]]
    assert seconds == sorted(seconds)
    assert 0 <= seconds[0] < 0.1
    assert "1971-" not in (tmp_path / "out" / "events.csv").read_text()


def test_what_an_operator_wants_learnt_is_made_ready_in_the_daemons_profile(tmp_path):
    asked = job(
        tmp_path, as_mseed(signal(), 100.0), "mseed", mode="learn", spec=SPEC.model_dump(mode="json"),
        windows=WindowsSpec().model_dump(mode="json"), stream="upload/abc",
    )  # fmt: skip
    assert run(asked)["done"]["windows"] > 20
    (tmp_path / "out" / "learn.kept").rename(tmp_path / "out" / "x.kept")
    some = Laid(tmp_path / "out", SPEC.digest).take(0)
    assert {kept.stream for kept in some} == {"upload/abc"}
    assert all(kept.cluster is None and np.isfinite(kept.logp).all() for kept in some)


def test_a_recording_that_does_not_fit_the_running_model_is_told_so(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    asked = job(tmp_path, as_npz(x=two_kinds(), fs=100.0), "npz", mode="assign", spec=SPEC.model_dump(mode="json"))
    assert "there must be a running model" in run(asked)["error"]


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x00" * 1000])
def test_files_that_are_none_are_errors_in_words(tmp_path, data):
    assert run(job(tmp_path, data, "npz"))["error"].startswith("an npz must")


def test_too_short_recordings_are_told_so(tmp_path):
    assert "window" in run(job(tmp_path, as_mseed(signal()[:300], 100.0), "mseed"))["error"]


def test_windows_are_assigned_by_the_running_model_and_only_with_its_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(upload_job, "find_spec", lambda _name: None)
    first, second, third = (tmp_path / name for name in "abc")
    for folder in (first, second, third):
        folder.mkdir()
    data = as_npz(x=two_kinds(), fs=100.0)
    assert "done" in run(job(first, data, "npz", clusters=2, seconds=20.0))
    with zipfile.ZipFile(first / "out" / "model.zip") as archive:
        archive.extractall(tmp_path)
    spec = json.loads((tmp_path / "model" / "model.json").read_text())["profile"]
    more = {"mode": "assign", "model": str(tmp_path / "model")}
    done = run(job(second, data, "npz", spec=spec, **more))
    sizes = [one["windows"] for one in done["done"]["clusters"]]
    assert (len(sizes), sum(sizes)) == (2, 80)
    assert min(sizes) > 35
    assert not (second / "out" / "model.zip").exists()
    assert "profile" in run(job(third, data, "npz", spec=SPEC.model_dump(mode="json"), **more))["error"]
