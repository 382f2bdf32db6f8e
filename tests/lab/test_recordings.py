"""A look at recordings, and what is told of those that cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
from corpus import pack, walk
from source_files import T0, day_file, mseed

from streamclust.core.clock import ManualClock
from streamclust.core.errors import Reason, UsageError
from streamclust.core.types import Reject
from streamclust.lab.recordings import Recordings, Rejected, is_sds


def test_the_rate_is_that_of_most_of_the_signal(tmp_path):
    mseed(tmp_path / "a.mseed", 60)
    slow = pack(
        walk(4000, "steim2", np.random.default_rng(0)), "steim2", sourceid="FDSN:BW_SLOW__B_H_Z", starttime=T0,
        rate_hz=20.0,
    )  # fmt: skip
    (tmp_path / "slow.mseed").write_bytes(b"".join(slow))

    seen = Recordings([str(tmp_path)], ManualClock()).survey()

    assert seen.rate_hz == 20.0
    assert seen.level_db is not None


def test_recordings_without_signal_are_refused_with_the_first_reasons(tmp_path):
    (tmp_path / "a.mseed").write_bytes(b"\0" * 1024)

    with pytest.raises(UsageError, match=r"there must be signal in .*a\.mseed \(got a\.mseed: "):
        Recordings([str(tmp_path / "a.mseed")], ManualClock()).survey()


def test_a_file_of_unknown_format_is_told_in_words_of_the_command_line(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"hello")

    with pytest.raises(UsageError, match=r"not a known format; give it its format's extension, or convert") as told:
        Recordings([str(tmp_path / "a.txt")], ManualClock()).survey()
    assert "source." not in str(told.value)


def test_an_archive_is_known_by_its_folders(tmp_path):
    day_file(tmp_path / "sds").write_bytes(b"")
    (tmp_path / "plain" / "2024").mkdir(parents=True)

    assert is_sds(tmp_path / "sds")
    assert not is_sds(tmp_path / "plain")
    assert not is_sds(tmp_path / "none")


def test_what_was_rejected_is_one_line_a_cause():
    rejected = Rejected()

    rejected.add([Reject("/d/a.mseed", at, Reason.RATE_TOO_LOW, f"{at} Hz", "s", b"") for at in (1, 2)])
    rejected.add([Reject("/d/b.mseed", 0, Reason.BAD_HEADER, "year 9999", None, b"")])

    assert rejected.lines == ("s: rate too low, 1 Hz (2 records)", "b.mseed: bad header, year 9999 (1 record)")
