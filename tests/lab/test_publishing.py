from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import uuid
from collections import defaultdict

import numpy as np
import pytest
from publish_runs import count, finished, messages, run, start
from seedlink_server import SeedLinkServer
from source_files import T0, day_file, mseed, records

from streamclust.core.errors import NotAllowed, UsageError
from streamclust.lab import publishing
from streamclust.signal.message import decode_messages
from streamclust.signal.mseed import Payload


@pytest.fixture
def name():
    return f"publish-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def archive(tmp_path):
    """Files of three channels of two stations, an hour each; what a station's messages must be, in order."""
    wanted = {}
    for n, (station, channel) in enumerate((("ONE", "Z"), ("ONE", "N"), ("TWO", "Z"))):
        data = records(3600, seed=n, station=station)
        data = [r[:17] + channel.encode() + r[18:] for r in data]
        (tmp_path / f"{station}{channel}.mseed").write_bytes(b"".join(data))
        wanted[f"{station}..EH{channel}"] = data
    return tmp_path, wanted


def waited(condition, timeout=60):
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def streams(found):
    """Station and channel -> values, in the order of the topic; a stream is in one partition only."""
    out, parts = defaultdict(list), defaultdict(set)
    for message in found:
        value = message.value
        stream = f"{value[8:13].decode().strip()}.{value[13:15].decode().strip()}.{value[15:18].decode()}"
        out[stream].append(value)
        parts[stream].add(message.partition)
    assert all(len(p) == 1 for p in parts.values())
    return dict(out)


def test_all_bytes_arrive_once_and_a_station_stays_in_one_partition(kafka, name, archive, tmp_path, capsys):
    folder, wanted = archive

    code = run(folder / "*.mseed", "--topic", name, "--bootstrap", kafka.bootstrap, "--state", tmp_path / "s", "--json")

    report = json.loads(capsys.readouterr().out)
    found = messages(kafka.bootstrap, name)
    total = sum(map(len, wanted.values()))
    assert code == 0
    assert streams(found) == wanted
    assert {m.key for m in found} == {b"BW_ONE", b"BW_TWO"}
    assert len({m.partition for m in found if m.key == b"BW_ONE"}) == 1
    assert (
        min(m.timestamp for m in found) > time.time() * 1000 - 60_000
    )  # by the records' own times they would be deleted
    assert (report["records"], report["bytes"], report["streams"]) == (total, 512 * total, 3)
    assert (report["failures"], len(report["ends"])) == (0, 12)
    assert sum(report["ends"].values()) == total
    assert run(folder / "*.mseed", "--topic", name, "--bootstrap", kafka.bootstrap, "--state", tmp_path / "s") == 0
    assert count(kafka.bootstrap, name) == total
    assert "0 records of 0 streams" in capsys.readouterr().out


def test_other_formats_become_envelopes_that_decode_to_the_same_samples(kafka, name, tmp_path, capsys):
    x = np.random.default_rng(3).normal(size=(2, 200_000)).astype(np.float32)
    np.savez(tmp_path / "probe.npz", x=x, fs=30_000.0, kind="recording")

    run(tmp_path / "probe.npz", "--topic", name, "--bootstrap", kafka.bootstrap, "--state", tmp_path / "s")

    found = messages(kafka.bootstrap, name)
    decoded = decode_messages([Payload("t", m.offset, m.value) for m in found])
    by_stream = defaultdict(list)
    for record in decoded.records:
        by_stream[record.stream].append(record)
    assert not decoded.rejects
    assert {m.key for m in found} == {b"probe"}
    assert max(len(m.value) for m in found) < 1_000_000
    for row, (_, parts) in zip(x, sorted(by_stream.items()), strict=True):
        assert np.array_equal(np.concatenate([r.samples for r in parts]), row)
        assert [r.start_ns for r in parts] == sorted(r.start_ns for r in parts)


@pytest.mark.fault
def test_kill_9_at_random_points_loses_and_doubles_nothing(kafka, name, archive, tmp_path):
    folder, wanted = archive
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    argv = [folder / "*.mseed", "--topic", name, "--bootstrap", kafka.bootstrap, "--state", tmp_path / "s"]
    killed = 0
    for _ in range(5):
        before = count(kafka.bootstrap, name)
        process = start(*argv, "--speed", 900)  # an hour in four seconds
        waited(lambda: count(kafka.bootstrap, name) > before or process.poll() is not None)  # noqa: B023 — called here only
        time.sleep(rng.uniform(0, 0.7))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        process.communicate()

    code, out, err = finished(start(*argv, "--json"))

    assert killed >= 3
    assert code == 0, err
    assert json.loads(out)["failures"] == 0
    assert streams(messages(kafka.bootstrap, name)) == wanted


@pytest.mark.fault
def test_a_broker_that_is_stopped_and_started_meanwhile_loses_and_doubles_nothing(own_kafka, name, archive, tmp_path):
    folder, wanted = archive
    cluster = own_kafka()
    argv = [folder / "*.mseed", "--topic", name, "--bootstrap", cluster.bootstrap, "--state", tmp_path / "s"]
    process = start(*argv, "--speed", 720, "--json")
    waited(lambda: count(cluster.bootstrap, name) > 100)

    cluster.kill(0)
    time.sleep(2)
    cluster.start(0)
    code, out, err = finished(process)

    assert code == 0, err
    assert json.loads(out)["failures"] == 0
    assert streams(messages(cluster.bootstrap, name)) == wanted


def test_ctrl_c_finishes_what_is_in_flight_and_exits_130(kafka, name, archive, tmp_path):
    folder, wanted = archive
    argv = [folder / "*.mseed", "--topic", name, "--bootstrap", kafka.bootstrap, "--state", tmp_path / "s", "--json"]
    process = start(*argv, "--speed", 300)
    waited(lambda: count(kafka.bootstrap, name) > 0)
    process.send_signal(signal.SIGINT)
    code, out, _ = finished(process)
    report = json.loads(out)

    assert code == 130
    assert (report["interrupted"], report["failures"]) == (True, 0)
    assert report["records"] == count(kafka.bootstrap, name) < sum(map(len, wanted.values()))
    assert finished(start(*argv))[0] == 0
    assert streams(messages(kafka.bootstrap, name)) == wanted


def test_following_an_archive_sends_what_is_appended(kafka, name, tmp_path):
    data, file = records(600), day_file(tmp_path / "sds")
    file.write_bytes(b"".join(data[:20]) + data[20][:100])
    argv = ["--sds", tmp_path / "sds", "--streams", "BW.RJOB.*.EH?", "--follow", "--topic", name]
    process = start(*argv, "--bootstrap", kafka.bootstrap, "--state", tmp_path / "s", "--json")
    waited(lambda: count(kafka.bootstrap, name) >= 20)

    file.write_bytes(b"".join(data))
    waited(lambda: count(kafka.bootstrap, name) >= len(data))
    process.send_signal(signal.SIGTERM)
    code, _, err = finished(process)

    assert code == 130, err
    assert [m.value for m in messages(kafka.bootstrap, name)] == data


@pytest.mark.fault
def test_seedlink_is_published_through_broken_connections_and_kill_9(kafka, name, tmp_path):
    data = records(1200)
    with SeedLinkServer() as server:
        server.add("BW_RJOB", data[:100])
        argv = [
            "--seedlink",
            server.address,
            "--streams",
            "BW.RJOB..EHZ",
            "--start",
            "2024-01-01T00:00:00",
            "--topic",
            name,
        ]
        argv += ["--bootstrap", kafka.bootstrap, "--state", tmp_path / "s"]
        process = start(*argv)
        waited(lambda: count(kafka.bootstrap, name) >= 100)
        server.cut_after = 30
        server.add("BW_RJOB", data[100:200])
        server.cut()
        waited(lambda: count(kafka.bootstrap, name) >= 150)
        process.kill()
        process.communicate()
        server.add("BW_RJOB", data[200:])

        process = start(*argv)
        waited(lambda: count(kafka.bootstrap, name) >= len(data))
        process.send_signal(signal.SIGINT)
        code, _, err = finished(process)

    assert code == 130, err
    assert [m.value for m in messages(kafka.bootstrap, name)] == data


def test_a_missing_topic_that_may_not_be_created_says_the_command(kafka, name, archive, tmp_path, monkeypatch):
    config = tmp_path / "c.yaml"
    config.write_text(
        f"profile: {{name: seismic}}\nsource: {{type: files, paths: ['x']}}\n"
        f"kafka: {{bootstrap: ['{kafka.bootstrap}'], topics: {{create: false}}}}\n"
    )
    argv = [archive[0] / "*.mseed", "--topic", name, "-c", config, "--state", tmp_path / "s"]

    with pytest.raises(NotAllowed, match=f"--create --topic {name} --partitions 3"):
        run(*argv, "--partitions", 3)


def test_start_and_end_choose_records_of_files(kafka, name, tmp_path, capsys):
    mseed(tmp_path / "a.mseed", 3600)
    kafka.new_topic(2, name=name, retention_ms=-1)

    run(tmp_path / "a.mseed", "--start", "2024-01-02T00:10:00", "--end", "2024-01-02T00:20:00", "--topic", name,
        "--bootstrap", kafka.bootstrap, "--state", tmp_path / "s", "--key", "stream")  # fmt: skip

    found = messages(kafka.bootstrap, name)
    times = [m.timestamp for m in found]
    assert {m.key for m in found} == {b"FDSN:BW_RJOB__E_H_Z"}
    assert T0 // 1_000_000 + 590_000 < min(times) <= T0 // 1_000_000 + 600_000
    assert T0 // 1_000_000 + 1_190_000 < max(times) < T0 // 1_000_000 + 1_200_000


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "one of PATH"),
        (["a", "--sds", "b"], "one of PATH"),
        (["a", "--follow"], "--follow"),
        (["a", "--streams", "A.B.C.D"], "--streams"),
        (["--seedlink", "h:1"], "--streams"),
        (["--seedlink", "h:1", "--streams", "A.B..EHZ", "--end", "2024-01-01"], "--end"),
        (["--sds", ".", "--start", "yesterday"], "--start must be"),
        (["--sds", ".", "--start", "now"], "--start now"),
        (["a", "--partitions", "0"], "--partitions: a whole number from 1 to 10000"),
        (["a", "--topic", "a b"], "--topic: text that matches"),
        (["a", "--bootstrap", "broker"], "--bootstrap, .*: host:port, as broker-1:9092"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_touched(argv, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        run("--topic", "t", *argv, "--state", tmp_path / "s")

    assert not (tmp_path / "s").exists()


def test_signals_of_before_come_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with publishing._stopping() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

    assert signal.getsignal(signal.SIGINT) is before
    assert threading.current_thread() is threading.main_thread()
