from __future__ import annotations

import io
import json
import socket
import time
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from spike_traces import three_neurons
from upload_files import as_mseed
from web.upload_site import as_npz, as_wav, done, over, send, serving, windows
from web_client import bearer, site, tokens
from web_client import serving as web_serving

from streamclust.core.clock import SystemClock
from streamclust.lab.evaluate import ari, table
from streamclust.model.bundle import from_bytes
from streamclust.web import upload_worker

SAYS = "import json,sys,os,time\njob=json.load(sys.stdin)\ndef say(**line):\n    print(json.dumps(line),flush=True)\n"
HOSTILE = (
    "../../../etc/passwd.csv",
    "..%2f..%2fx.csv",
    "C:\\x\\..\\y.csv",
    '<img src=x onerror="alert(1)">.csv',
    "a\x00b.csv",
    "\u202egpj.csv",
    "x" * 5000 + ".csv",
)


@pytest.fixture
def program(monkeypatch):
    def use(code):
        monkeypatch.setattr(upload_worker, "PROGRAM", ("-c", SAYS + code))

    return use


def test_the_spikes_of_three_neurons_come_back_as_three_clusters_with_their_times(tmp_path):
    truth = three_neurons(20.0)
    with serving(tmp_path / "state") as client:
        found = done(client, "<b>cortex</b>.wav", as_wav(truth.x), title="<script>alert(1)</script>")
        assert (found["state"], found["error"]) == ("done", None)
        assert found["title"] == "<script>alert(1)</script>"
        result = client.get(found["links"]["result_json"]).json()
        assert (len(result["clusters"]), result["k"]["chosen"]) == (3, 3)
        at = np.array([spike["seconds"] for spike in result["spikes"]])
        apart = np.abs(truth.times[:, None] - at[None])
        good = apart.min(axis=0) < 0.5e-3
        assert (apart.min(axis=1) < 0.5e-3).mean() > 0.9
        assert good.mean() > 0.9
        names = [spike["cluster"] for spike in np.array(result["spikes"])[good]]
        assert ari(table(truth.neurons[apart.argmin(axis=0)[good]].tolist(), names)) > 0.9
        whole = {
            name: client.get(url) for name, url in found["links"].items() if name not in {"page", "self", "events"}
        }
        assert {answer.status_code for answer in whole.values()} == {200}
        assert whole["image_png"].content.startswith(b"\x89PNG")
        assert len(whole["events_csv"].text.splitlines()) == len(at) + 1
        assert len(whole["events_json"].json()) == len(at)
        assert "script" not in whole["report_html"].headers["content-security-policy"].replace("sandbox", "")
        with zipfile.ZipFile(io.BytesIO(whole["model_zip"].content)) as archive:
            bundle = from_bytes({name.removeprefix("model/"): archive.read(name) for name in archive.namelist()})
        assert bundle.clusters == ("C1", "C2", "C3")
        here = found["links"]["self"]
        wave = client.get(f"{here}/waveform", params={"from": 1, "to": 3, "points": 50}).json()
        assert len(wave["min"]) == len(wave["max"]) == 50
        for picture in ("spectrogram.png", f"windows/{result['clusters'][0]['exemplars'][0]}/spectrogram.png"):
            assert client.get(f"{here}/{picture}").content.startswith(b"\x89PNG")
        assert client.get(f"{here}/events").text.startswith("event: done\n")


def test_windows_and_seismograms_are_clustered_by_themselves(tmp_path):
    rng, n = np.random.default_rng(0), 180_000
    x = rng.normal(size=n) * 50
    for i in range(40):
        at, t = int(rng.integers(0, n - 3000)), np.arange(3000) / 100
        x[at : at + 3000] += 800 * np.sin(2 * np.pi * (3, 20)[i % 2] * t) * np.exp(-t / 4)
    with serving(tmp_path / "state") as client:
        found = done(client, "day.mseed", as_mseed(x.astype(np.int32), 100.0), clusters=3)
        assert found["state"] == "done", found["error"]
        result = client.get(found["links"]["result_json"]).json()
        assert [len(result["clusters"]), result["spikes"], result["profile"]] == [3, None, "seismic/1"]
        assert result["start"] == "2026-01-01T00:00:00.000000000Z"
        found = done(client, "w.npz", as_npz(windows(), 100.0), clusters=2)
        assert found["state"] == "done", found["error"]
        assert found["result"]["k"]["chosen"] == 2


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_strangers_are_only_shown(tmp_path, program, name):
    program("say(done={})")
    with serving(tmp_path / "state") as client:
        answer = send(client, name, b"1\n2\n3\n", title=name.replace("\x00", "")[:300], rate=10)
        assert answer.status_code in {202, 400}
        if answer.status_code == 202:
            found = over(client, answer.json()["id"])
            assert "/" not in found["filename"]
            assert found["filename"].isprintable()
            assert len(found["filename"]) <= 128
            folder = tmp_path / "state" / "uploads" / found["id"]
            assert sorted(path.name for path in folder.iterdir()) == ["job.json", "work"]
    assert not list(tmp_path.glob("*.csv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]


@pytest.mark.parametrize(
    ("name", "data", "fields", "status"),
    [
        ("a.pkl", b"\x80\x04.", {}, 415),
        ("a.csv.gz", b"\x1f\x8b", {}, 415),
        ("a.wav", b"not a wav", {}, 422),
        ("a.csv", b"1\n", {"clusters": "1"}, 422),
        ("a.csv", b"1\n", {"clusters": "21"}, 422),
        ("a.csv", b"1\n", {"mode": "delete"}, 422),
        ("a.csv", b"1\n", {"profile": "../x"}, 422),
        ("a.csv", b"1\n", {"rate": "nan"}, 422),
        ("a.csv", b"1\n", {"rate": "1e999"}, 422),
        ("a.csv", b"1\n", {"more": "x"}, 422),
        ("a.csv", bytes(3000), {}, 413),
        ("a.csv", b"1" * 200_000, {}, 413),
    ],
)
def test_what_cannot_be_is_refused_at_the_door(tmp_path, name, data, fields, status):
    with serving(tmp_path / "state", max_bytes=2048) as client:
        answer = send(client, name, data.replace(b"\0", b"1"), **fields)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert str(tmp_path) not in answer.text


def test_progress_is_told_and_work_can_be_cancelled(tmp_path, program):
    program("say(step='training', share=0.25)\ntime.sleep(600)")
    with serving(tmp_path / "state") as client:
        first, second = (send(client, "a.csv", b"1\n2\n").json()["id"] for _ in range(2))
        assert client.get(f"/api/v1/uploads/{second}").json()["position"] == 1
        with client.stream("GET", f"/api/v1/uploads/{first}/events") as answer:
            for line in answer.iter_lines():
                if line.startswith("data: ") and json.loads(line[6:])["progress"] == 0.25:
                    break
        assert client.get(f"/api/v1/uploads/{first}/result.json").status_code == 409
        assert client.delete(f"/api/v1/uploads/{first}").json()["state"] == "cancelled"
        assert client.delete(f"/api/v1/uploads/{first}").status_code == 204
        assert client.get(f"/api/v1/uploads/{first}").status_code == 404


def test_scopes_hold_and_a_link_can_be_shared(tmp_path, program):
    program("say(done={})")
    given = tokens(sender=["upload"], other=["upload"], boss=["operate"], reader=["read"])
    with serving(tmp_path / "state", tokens=given) as client:

        def asked(who, method, path, **more):
            return client.request(
                method, f"/api/v1/uploads{path}", headers=bearer(who) if who else {}, **more
            ).status_code

        file = {"files": {"file": ("a.csv", b"1\n2\n")}}
        assert [asked(who, "POST", "", **file) for who in (None, "reader", "boss")] == [401, 403, 403]
        made = client.post("/api/v1/uploads", headers=bearer("sender"), **file).json()["id"]
        over(client, made)
        assert asked(None, "GET", f"/{made}") == 200
        assert [asked(who, "GET", "") for who in (None, "reader", "sender", "boss")] == [401, 403, 403, 200]
        assert [asked(who, "POST", f"/{made}/learn") for who in (None, "sender")] == [401, 403]
        assert [asked(who, "DELETE", f"/{made}") for who in (None, "reader", "other", "sender")] == [401, 403, 403, 204]


def test_who_hangs_up_at_once_leaves_nothing_open(tmp_path, program):
    program("open(job['folder']+'/out/events.csv','w').write('x' * 3_000_000)\nsay(done={})")
    made = site(tmp_path, SystemClock(), uploads={"per_client_per_minute": 100})
    with web_serving(made) as server, httpx.Client(base_url=server.address, trust_env=False) as client:
        job_id = send(client, "a.csv", b"1\n2\n").json()["id"]
        over(client, job_id)
        program("time.sleep(600)")
        waits = send(client, "a.csv", b"1\n2\n").json()["id"]
        before = len(list(Path("/proc/self/fd").iterdir()))
        for path in (f"{job_id}/events.csv", f"{waits}/events"):
            for _ in range(100):
                with socket.create_connection(("127.0.0.1", server.port), 60) as one:
                    one.sendall(f"GET /api/v1/uploads/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        with client.stream("GET", f"api/v1/uploads/{waits}/events") as answer:
            assert answer.status_code == 200
        until = time.monotonic() + 60
        while len(list(Path("/proc/self/fd").iterdir())) > before + 3 and time.monotonic() < until:
            time.sleep(0.1)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 3


def test_only_one_server_of_a_state_directory_takes_uploads(tmp_path, program):
    program("time.sleep(600)")
    with serving(tmp_path) as first:
        job_id = send(first, "a.csv", b"1\n2\n").json()["id"]
        with serving(tmp_path) as second:
            assert second.get(f"/api/v1/uploads/{job_id}").status_code == 503
            assert send(second, "a.csv", b"1\n2\n").status_code == 503
        assert first.get(f"/api/v1/uploads/{job_id}").json()["state"] in {"queued", "running"}


@pytest.mark.parametrize("job", ["x", "%2e%2e", "a" * 31, "A" * 32, "a" * 32, "a" * 32 + "%00", "%2e%2e%2fjob.json"])
def test_ids_that_are_none_find_nothing(tmp_path, job):
    with serving(tmp_path / "state") as client:
        for part in (
            "",
            "/result.json",
            "/waveform",
            "/spectrogram.png",
            "/events",
            "/windows/" + "a" * 24 + "/spectrogram.png",
            "/job.json",
        ):
            assert client.get(f"/api/v1/uploads/{job}{part}").status_code in {400, 404}


def test_what_a_bomb_or_a_crash_does_to_the_worker_the_server_outlives(tmp_path):
    import struct

    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,), }".ljust(117) + "\n"
    bomb = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    with serving(tmp_path / "state") as client:
        found = done(client, "bomb.npy", bomb, rate=100)
        assert (found["state"], "at most" in found["error"]) == ("failed", True)
        assert client.get("/api/v1/uploads").status_code == 200


def test_the_status_says_which_server_takes_uploads(tmp_path):
    with serving(tmp_path) as first, serving(tmp_path) as second:
        assert first.get("/api/v1/status").json()["uploads"] is True
        assert second.get("/api/v1/status").json()["uploads"] is False
    assert (tmp_path / "uploads" / "LOCK").exists()


def test_a_file_of_an_sds_archive_is_taken_by_its_first_bytes(tmp_path, program):
    program("say(done={'format': job['format'], 'channels': job['channels']})")
    with serving(tmp_path) as client:
        data = as_mseed(np.arange(5000, dtype=np.int32), 100.0)
        found = done(client, "XX.TEST..HHZ.D.2026.001", data, channels="together")
        assert found["result"] == {"format": "mseed", "channels": "together"}
        assert send(client, "XX.TEST..HHZ.D.2026.001", b"hello").status_code == 415
        assert send(client, "a.wav", data).status_code == 422
        assert send(client, "a", data, channels="none").status_code == 422
