from __future__ import annotations

import numpy as np
import pytest
from corpus import pack

from streamclust.core.clock import ManualClock
from streamclust.core.errors import ConfigError
from streamclust.core.specs import SdsSource
from streamclust.core.types import NS
from streamclust.stream.sds import SdsArchive

DAY_NS = 1_704_067_200 * NS  # 2024-01-01
EVERY = 86_400 * NS


class Store:
    def __init__(self, saved=None):
        self.saved = dict(saved or {})

    def positions(self):
        return self.saved

    def save_positions(self, positions):
        self.saved.update(positions)


def packed(seconds=60, start_ns=DAY_NS, seed=0):
    samples = np.random.default_rng(seed).integers(-5000, 5000, seconds * 100).astype(np.int32)
    return pack(samples, "int32", starttime=start_ns)


def day_file(root, day=1, channel="EHZ"):
    path = root / f"2024/BW/RJOB/{channel}.D/BW.RJOB..{channel}.D.2024.{day:03d}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def archive(root, clock=None, store=None, **settings):
    spec = SdsSource(type="sds", root=str(root), **settings)
    return SdsArchive(spec, store or Store(), clock or ManualClock(DAY_NS + EVERY // 2))


def drained(source, timeout=0.0):
    out = []
    while (poll := source.poll(100, timeout)).records:
        out += poll.records
    return out


def test_records_wholly_outside_the_span_are_left_out(tmp_path):
    day_file(tmp_path).write_bytes(b"".join(packed(60)))

    found = drained(archive(tmp_path, start="2024-01-01T00:00:20Z", end="2024-01-01T00:00:40Z", follow=False))

    assert found[0].start_ns <= DAY_NS + 20 * NS < found[0].start_ns + len(found[0].samples) * NS // 100
    assert DAY_NS + 39 * NS - NS < found[-1].start_ns < DAY_NS + 40 * NS


@pytest.mark.parametrize(("pattern", "n"), [("BW.*.*.EHZ", 1), ("*.*.*.EH?", 2), ("XX.*.*.*", 0), ("BW.RJOB..EHN", 1)])
def test_only_streams_that_match_are_read(tmp_path, pattern, n):
    for channel in ("EHZ", "EHN"):
        day_file(tmp_path, channel=channel).write_bytes(b"".join(packed(5)))

    assert len({r.partition for r in drained(archive(tmp_path, streams=[pattern], follow=False))}) == n


def test_appended_records_are_followed_and_a_torn_one_waits_until_it_is_whole(tmp_path):
    path, records = day_file(tmp_path), packed(60)
    path.write_bytes(b"".join(records[:5]) + records[5][:200])
    source = archive(tmp_path, poll_interval=1.0)
    first = source.poll(100, 0.0)
    assert (len(first.records), first.rejects) == (5, [])
    assert source.poll(100, 3.0).records == []

    path.write_bytes(b"".join(records[:7]))
    second = source.poll(100, 3.0)

    assert [r.offset for r in second.records] == [5 * 512, 6 * 512]
    assert second.rejects == []


def test_a_new_day_is_found(tmp_path):
    day_file(tmp_path).write_bytes(b"".join(packed(5)))
    source = archive(tmp_path)
    drained(source)

    day_file(tmp_path, 2).write_bytes(b"".join(packed(5, DAY_NS + EVERY)))

    assert {r.partition[-3:] for r in drained(source, 3.0)} == {"002"}


def test_a_file_that_shrank_is_read_from_its_beginning(tmp_path):
    path = day_file(tmp_path)
    path.write_bytes(b"".join(packed(60)))
    source = archive(tmp_path)
    drained(source)

    path.write_bytes(b"".join(packed(10, seed=9)))
    again = source.poll(100, 3.0)

    assert again.records[0].offset == 0
    assert len(again.records) == len(packed(10))


def test_a_committed_position_behind_the_end_means_new_content(tmp_path):
    path = day_file(tmp_path)
    path.write_bytes(b"".join(packed(10)))
    partition = str(path.relative_to(tmp_path))

    assert drained(archive(tmp_path, store=Store({partition: 1 << 20}), follow=False))[0].offset == 0


def test_now_begins_at_the_present_end_of_todays_file(tmp_path):
    path, records = day_file(tmp_path), packed(60)
    path.write_bytes(b"".join(records[:5]))
    source = archive(tmp_path, start="now")
    assert source.poll(100, 0.0).records == []

    path.write_bytes(b"".join(records[:8]))

    assert [r.offset for r in source.poll(100, 3.0).records] == [5 * 512, 6 * 512, 7 * 512]


def test_a_restart_of_now_does_not_lose_what_came_while_it_was_down(tmp_path):
    store, partition = Store(), str(day_file(tmp_path).relative_to(tmp_path))
    store.saved[partition] = 512 * 3
    day_file(tmp_path).write_bytes(b"".join(packed(60)))
    for day in (2, 5):
        day_file(tmp_path, day).write_bytes(b"".join(packed(10, DAY_NS + (day - 1) * EVERY)))

    found = drained(archive(tmp_path, ManualClock(DAY_NS + 4 * EVERY + NS), store, start="now"))

    assert found[0].offset == 512 * 3
    assert {r.partition[-3:] for r in found} == {"001", "002", "005"}


@pytest.mark.parametrize(("setting", "value"), [("start", "yesterday"), ("end", "2024-13-01")])
def test_a_time_that_cannot_be_read_is_a_wrong_setting(tmp_path, setting, value):
    with pytest.raises(ConfigError, match=rf"source\.{setting}"):
        archive(tmp_path, **{setting: value})


def test_a_missing_root_is_a_wrong_setting(tmp_path):
    with pytest.raises(ConfigError, match=r"source\.root"):
        archive(tmp_path / "nowhere")
