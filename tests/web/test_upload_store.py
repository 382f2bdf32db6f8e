from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.web.upload_store import Job, Store, is_id


def job(job_id, at=1):
    return Job(job_id, "<b>", "a", "csv", 1, "cluster", "auto", "auto", None, at, 9, "me")


def test_ids_cannot_be_guessed_and_name_the_folders(tmp_path):
    store = Store(tmp_path / "uploads")
    ids = {store.new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 32 and is_id(one) for one in ids)


@given(st.text() | st.sampled_from(["..", "../" + "a" * 32, "a" * 31 + "\n", "A" * 32, "a" * 33, "/" + "a" * 31]))
def test_nothing_else_is_an_id(text):
    if not is_id(text):
        with pytest.raises(ValueError, match="32 hexadecimal"):
            Store(None).folder(text)


def test_what_is_saved_is_loaded_the_oldest_first(tmp_path):
    store = Store(tmp_path / "uploads")
    ids = [store.new_id() for _ in range(3)]
    for at, one in zip((3, 1, 2), ids, strict=True):
        store.make(one)
        store.save(job(one, at))
    assert [found.created_ns for found in store.load()] == [1, 2, 3]
    store.remove(ids[0])
    assert len(list(store.load())) == 2


def test_a_link_that_a_worker_made_is_not_followed(tmp_path):
    store = Store(tmp_path / "uploads")
    one = store.new_id()
    out = store.make(one) / "out"
    (tmp_path / "secret").write_text("x")
    (out / "image.png").symlink_to(tmp_path / "secret")
    os.mkfifo(out / "result.json")
    assert store.open_result(one, "image.png") is None
    assert store.open_result(one, "result.json") is None
    assert store.open_result(one, "events.csv") is None
    (out / "events.csv").write_text("y")
    fd = store.open_result(one, "events.csv")
    assert os.read(fd, 9) == b"y"
    os.close(fd)
