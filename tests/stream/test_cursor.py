from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from corpus import log_text, pack

from streamclust.core.errors import BadRecord, Reason
from streamclust.core.types import NS
from streamclust.stream import formats
from streamclust.stream.cursor import Cursor, MseedReader, WholeReader, end_ns, read_bytes, unreadable

START_NS = 1_704_067_200 * NS


def packed(n=40_000):
    return pack(np.arange(n, dtype=np.int32), "int32", starttime=START_NS)


def everything(cursor):
    records, rejects, skipped = [], [], 0
    while True:
        before = cursor.position
        chunk = cursor.load()
        rejects += chunk.rejects
        skipped += chunk.skipped
        while cursor.loaded:
            records.append(cursor.take())
        if cursor.position == before:
            return records, rejects, skipped


def opened(path, offset=0, **settings):
    return Cursor(str(path), "p", MseedReader(str(path), "p", **settings), offset, 0)


def test_chunks_join_without_a_seam(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"".join(packed()))

    records, rejects, _ = everything(opened(path))

    np.testing.assert_array_equal(np.concatenate([r.samples for r in records]), np.arange(40_000))
    assert path.stat().st_size > 2 * 65536
    assert rejects == []


def test_the_position_is_the_offset_of_the_next_record(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"".join(packed()))
    cursor = opened(path)
    cursor.load()
    cursor.take()

    assert (cursor.position, cursor.peek().offset) == (512, 512)


@pytest.mark.parametrize("growing", [True, False])
def test_a_torn_tail_stays_unread_only_while_the_file_grows(tmp_path, growing):
    path = tmp_path / "a"
    path.write_bytes(b"".join(packed(1000))[:-1])
    cursor = opened(path, growing=growing)

    _, rejects, _ = everything(cursor)

    assert [r.reason for r in rejects] == ([] if growing else [Reason.TOO_SHORT])
    assert (cursor.position == path.stat().st_size) is not growing


def test_junk_between_records_costs_only_itself(tmp_path):
    path, records = tmp_path / "a", packed(1000)
    path.write_bytes(records[0] + bytes(300) + b"".join(records[1:]))

    found, rejects, _ = everything(opened(path))

    assert len(found) == len(records)
    assert [r.offset for r in rejects] == [512]


def test_text_records_are_counted(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(log_text() + b"".join(packed(500)))

    assert everything(opened(path))[2] == 1


def test_records_outside_the_span_are_left_out(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"".join(packed(3000)))

    records, _, _ = everything(opened(path, span=(START_NS + 10 * NS, START_NS + 20 * NS)))

    assert all(r.start_ns < START_NS + 20 * NS and end_ns(r) > START_NS + 10 * NS for r in records)
    assert records


def test_long_traces_come_in_pieces_that_join(tmp_path):
    path = tmp_path / "rec.npz"
    x = np.arange(20_000, dtype=np.int32)
    np.savez(path, x=x[None], fs=100.0, kind="ECG")

    records, _, _ = everything(Cursor(str(path), "p", WholeReader(str(path), "p", formats.NPZ, "rec"), 0, 0))

    assert [r.offset for r in records] == [0, 1, 2, 3]
    np.testing.assert_array_equal(np.concatenate([r.samples for r in records]), x)
    assert all(end_ns(a) == b.start_ns for a, b in pairwise(records))


def test_a_file_that_is_not_there_is_a_bad_record_with_its_path(tmp_path):
    path = str(tmp_path / "gone")
    with pytest.raises(BadRecord) as caught:
        read_bytes(path, 0, 10)

    reject = unreadable(path, "p", caught.value)

    assert (reject.reason, reject.payload) == (Reason.UNREADABLE_FILE, b"")
    assert path in reject.detail
