from __future__ import annotations

import struct

import numpy as np

from streamclust.store.kept import Kept, packed
from streamclust.store.laid import Laid

NS = 10**9


def window(number):
    start = number * NS
    logp = np.zeros((1, 3, 4), np.float16)
    return Kept(
        f"w{number}",
        "upload/1",
        start,
        start + NS,
        None,
        None,
        None,
        is_novel=False,
        peak=1.0,
        rms=1.0,
        logp=logp,
        wave=None,
    )


def file(*kept, digest="d"):
    return b"".join(struct.pack("<I", len(m)) + m for m in (packed(one, digest) for one in kept))


def test_windows_are_given_bit_by_bit_ending_now_and_the_file_goes_when_they_are_safe(tmp_path):
    (tmp_path / "a.kept").write_bytes(file(*map(window, range(100))))
    laid = Laid(tmp_path, "d")
    first, second = laid.take(5000 * NS), laid.take(9999 * NS)
    assert [len(first), len(second)] == [64, 36]
    assert second[-1].end_ns == 5000 * NS
    assert second[-1].start_ns - first[0].start_ns == 99 * NS
    assert (tmp_path / "a.kept").exists()
    assert laid.take(0) == []
    assert not (tmp_path / "a.kept").exists()


def test_what_is_damaged_or_of_another_profile_or_a_link_is_left_out(tmp_path):
    (tmp_path / "a.kept").write_bytes(
        file(window(1), digest="other") + b"\x05\x00\x00\x00abcde" + file(window(2)) + b"\xff\xff\xff\xffx"
    )
    (tmp_path / "secret").write_bytes(file(window(3)))
    (tmp_path / "b.kept").symlink_to(tmp_path / "secret")
    laid = Laid(tmp_path, "d")
    assert [kept.window_id for kept in laid.take(0)] == ["w2"]
    assert laid.take(0) == []
    assert laid.take(0) == []
    assert (tmp_path / "secret").exists()
    assert not list(tmp_path.glob("*.kept"))


def test_what_cannot_be_removed_is_taken_up_once_and_holds_nothing_up(tmp_path):
    (tmp_path / "a.kept").mkdir()
    (tmp_path / "b.kept").write_bytes(file(window(1)))
    laid = Laid(tmp_path, "d")
    assert [[kept.window_id for kept in laid.take(0)] for _ in range(3)] == [[], ["w1"], []]


def test_what_cannot_be_learnt_from_is_left_out(tmp_path):
    endless = window(1)._replace(logp=np.full((1, 3, 4), np.inf, np.float16))
    backwards = window(2)._replace(end_ns=0)
    (tmp_path / "a.kept").write_bytes(file(endless, backwards, window(3)))
    assert [kept.window_id for kept in Laid(tmp_path, "d").take(0)] == ["w3"]


def test_a_folder_that_is_not_there_has_nothing(tmp_path):
    assert Laid(tmp_path / "none", "d").take(0) == []
