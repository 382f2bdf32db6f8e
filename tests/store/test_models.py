"""Model versions are published whole, verified when loaded, and fall back when damaged."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys

import pytest
from fake_disks import Died, FaultyDisk

from streamclust.core.errors import CorruptModel, DurabilityError, SinkUnavailable, StateError, StateVersion
from streamclust.store.activations import Activation
from streamclust.store.models import ModelStore

FILES = {"model.safetensors": b"weights" * 100, "model.json": b"{}"}


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "models")


def published(directory):
    store = ModelStore(directory)
    return {version: dict(store.load(version)) for version in store.versions()}


def test_a_published_model_is_read_back(store):
    assert store.versions() == []
    assert store.current() is None
    assert store.newest_good() is None

    assert store.publish(FILES) == 1
    assert store.publish({"model.json": b"2"}) == 2

    assert store.load(1) == FILES
    assert store.versions() == [1, 2]
    assert store.current() is None


def test_the_manifest_holds_the_hash_of_each_file(store):
    store.publish(FILES)

    manifest = json.loads((store.directory / "1" / "manifest.json").read_bytes())

    assert manifest == {"format": 1, "files": {n: hashlib.sha256(c).hexdigest() for n, c in FILES.items()}}


def test_the_activated_model_is_the_current_one(store):
    store.publish(FILES)
    store.publish(FILES)
    store.activate(2)
    store.activate(1)

    assert store.current() == 1
    assert ModelStore(store.directory).current() == 1


def test_activations_are_kept_in_order_with_who_and_why(store):
    store.publish(FILES)
    store.publish(FILES)
    first = store.activate(1, active_from_ns=5, by="first fit", at_ns=7)
    second = store.activate(2, active_from_ns=100, by="retrain", reason="better", at_ns=8)
    third = store.activate(1, by="rollback", at_ns=9)

    assert first == Activation(1, 1, 5, 7, "first fit")
    assert second == Activation(2, 2, 100, 8, "retrain", "better")
    assert third == Activation(3, 1, 100, 9, "rollback")
    assert ModelStore(store.directory).activations() == (first, second, third)


def test_a_pointer_of_the_format_before_is_a_log_of_one_and_grows(store):
    store.publish(FILES)
    (store.directory / "current").write_text('{"version": 1}\n')

    assert store.activations() == (Activation(1, 1, 0, 0, "first fit"),)
    assert store.activate(store.publish(FILES), active_from_ns=50).seq == 2


def test_the_log_of_a_newer_version_is_not_touched(store):
    store.publish(FILES)
    text = '{"format": 3, "version": 1}'
    (store.directory / "current").write_text(text)

    for call in (store.activations, store.newest_good, lambda: store.activate(1), lambda: store.publish(FILES)):
        with pytest.raises(StateVersion):
            call()
    assert (store.directory / "current").read_text() == text


def test_a_model_made_elsewhere_gets_just_its_number(store):
    store.store(7, FILES)
    store.store(7, FILES)

    assert published(store.directory) == {7: FILES}
    assert not list(store.directory.glob(".*"))
    with pytest.raises(StateError, match="another one"):
        store.store(7, {"model.json": b"other"})
    assert store.load(7) == FILES
    assert store.publish(FILES) == 8


def test_death_while_storing_leaves_all_or_nothing(tmp_path):
    disk = FaultyDisk()
    ModelStore(tmp_path / "count", disk).store(3, FILES)
    for at in range(len(disk.calls)):
        where = tmp_path / str(at)
        with pytest.raises(Died):
            ModelStore(where, FaultyDisk(at, Died(), half=True)).store(3, FILES)
        assert published(where) in ({}, {3: FILES})
        ModelStore(where).store(3, FILES)
        assert published(where) == {3: FILES}


def test_what_was_activated_before_stands_in_for_a_damaged_model(store):
    for _ in range(4):
        store.publish(FILES)
    for version in (1, 2, 4):
        store.activate(version)
    (store.directory / "4" / "model.json").unlink()

    assert store.newest_good() == 2, "3 was never activated"


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "manifest", "no manifest", "format", "escape"])
def test_a_damaged_model_is_refused_and_the_one_before_is_used(store, damage):
    store.publish(FILES)
    store.publish(FILES)
    store.activate(1)
    store.activate(2)
    where = store.directory / "2"
    weights, manifest = where / "model.safetensors", where / "manifest.json"
    match damage:
        case "flip":
            weights.write_bytes(b"Weights" + weights.read_bytes()[7:])
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "missing":
            weights.unlink()
        case "manifest":
            manifest.write_bytes(manifest.read_bytes()[:-5])
        case "no manifest":
            manifest.unlink()
        case "format":
            manifest.write_text(json.dumps({"format": 2, "files": {"model.json": ""}}))
        case "escape":
            manifest.write_text(
                json.dumps({"format": 1, "files": {"../1/model.json": hashlib.sha256(b"{}").hexdigest()}})
            )

    with pytest.raises(CorruptModel):
        store.load(2)
    with pytest.raises(CorruptModel):
        store.activate(2)
    assert store.newest_good() == 1


def test_a_version_that_was_rolled_back_from_is_not_fallen_back_to_before_an_older_one(store):
    for _ in range(3):
        store.publish(FILES)
    store.activate(2)
    (store.directory / "2" / "model.json").unlink()
    assert store.newest_good() == 1

    (store.directory / "1" / "model.json").unlink()
    assert store.newest_good() == 3

    (store.directory / "3" / "model.json").unlink()
    assert store.newest_good() is None


@pytest.mark.parametrize("text", ["", "7", '{"version": "1"}', '{"version": true}', '{"version": 0}', "[" * 100_000])
def test_a_damaged_pointer_is_refused_and_the_newest_model_is_used(store, text):
    store.publish(FILES)
    (store.directory / "current").write_text(text)

    with pytest.raises(CorruptModel, match="current"):
        store.current()
    assert store.newest_good() == 1
    assert store.publish(FILES) == 2


def test_a_version_number_is_not_used_twice_after_its_directory_is_gone(store):
    store.publish(FILES)
    store.activate(1)
    (store.directory / "1").rename(store.directory / "removed")

    assert store.publish(FILES) == 2


def test_two_publishers_get_two_versions(store, monkeypatch):
    store.publish(FILES)
    other = ModelStore(store.directory)
    monkeypatch.setattr(other, "versions", list)

    assert other.publish({"model.json": b"other"}) == 2
    assert store.load(1) == FILES


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "manifest.json", "x" * 200])
def test_names_that_are_no_plain_file_names_are_refused(store, name):
    with pytest.raises(ValueError, match="plain names"):
        store.publish({name: b""})


def test_half_written_directories_are_ignored_and_swept(store):
    store.publish(FILES)
    (store.directory / ".2.77.tmp").mkdir()
    (store.directory / ".2.77.tmp" / "model.json").touch()

    assert store.versions() == [1]
    assert store.sweep() == 1
    assert sorted(path.name for path in store.directory.iterdir()) == ["1"]


def test_all_files_and_their_names_are_durable_before_the_version_appears(tmp_path):
    (tmp_path / "models").mkdir()
    disk = FaultyDisk()
    ModelStore(tmp_path / "models", disk).publish({"w": b"1"})

    file, directory = ["open", "write", "fsync", "close"], ["open", "fsync", "close"]
    assert disk.calls == ["mkdir", *file, *file, *directory, "rename", *directory]


def test_death_at_any_call_of_a_publication_leaves_whole_models_only(tmp_path):
    disk = FaultyDisk()
    ModelStore(tmp_path / "count", disk).publish(FILES)
    outcomes = set()
    for at in range(len(disk.calls)):
        where = tmp_path / str(at)
        with pytest.raises(Died):
            ModelStore(where, FaultyDisk(at, Died(), half=True)).publish(FILES)
        after = published(where)
        outcomes.add(len(after))
        assert all(files == FILES for files in after.values())
        ModelStore(where).sweep()
        assert ModelStore(where).publish(FILES) == len(after) + 1
        assert not list(where.glob(".*"))
    assert outcomes == {0, 1}


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, SinkUnavailable), (errno.EIO, DurabilityError)])
def test_a_failure_at_any_call_of_a_publication_leaves_whole_models_only(tmp_path, number, kind):
    disk = FaultyDisk()
    ModelStore(tmp_path / "count", disk).publish(FILES)
    for at, call in enumerate(disk.calls):
        where = tmp_path / str(at)
        faulty = FaultyDisk(at, OSError(number, os.strerror(number)), half=True)
        if call == "close":
            ModelStore(where, faulty).publish(FILES)
        else:
            with pytest.raises(DurabilityError if call == "fsync" else kind):
                ModelStore(where, faulty).publish(FILES)
        assert all(files == FILES for files in published(where).values())
        assert not list(where.glob(".*")), call


def test_activations_by_several_processes_at_once_are_all_in_the_log(tmp_path):
    store = ModelStore(tmp_path / "models")
    store.publish({"a": b"1"})
    code = (
        "import sys; from pathlib import Path; from streamclust.store.models import ModelStore\n"
        "for n in range(25): ModelStore(Path(sys.argv[1])).activate(1, reason=f'{sys.argv[2]} {n}')"
    )
    made = [subprocess.Popen([sys.executable, "-c", code, str(store.directory), str(number)]) for number in range(3)]
    assert [process.wait() for process in made] == [0, 0, 0]
    assert len({entry.reason for entry in store.activations()}) == 75
    assert [entry.seq for entry in store.activations()] == list(range(1, 76))


def test_old_versions_go_unless_they_held_lately(tmp_path):
    store = ModelStore(tmp_path)
    for _ in range(8):
        store.publish({"model.json": b"{}"})
    for version in (1, 2, 3, 2):
        store.activate(version)

    assert store.prune(2) == [1, 4, 5, 6], "3 and 2 held last, 7 and 8 are the newest"
    assert store.versions() == [2, 3, 7, 8]
    assert store.newest_good() == 2
    assert store.prune(2) == []
    assert store.publish({"model.json": b"{}"}) == 9, "no number is used again"
