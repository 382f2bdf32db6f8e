"""A trainer reads beside the daemon that writes: chosen windows, an even sample of them, and it holds up nobody."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from kept_windows import DIGEST, kept, same, spec

from streamclust.core.errors import SinkUnavailable, StateError
from streamclust.store.buffer import BUFFER, Buffer, Filter, open_readonly, priority


@pytest.fixture
def path(tmp_path):
    return tmp_path / BUFFER


@pytest.fixture
def writer(path):
    with closing(Buffer.open(path, spec(), DIGEST)) as made:
        made.put([kept(n, is_novel=n % 10 == 3, novelty=None if n % 7 == 0 else n / 400) for n in range(400)])
        yield made


@pytest.fixture
def reader(path, writer):
    with closing(open_readonly(path, DIGEST)) as made:
        yield made


def numbers(found):
    return [int(one.window_id, 16) for one in found]


def test_a_reader_says_what_the_writer_says(reader, writer):
    assert reader.stats() == writer.stats()
    assert reader.stats().windows == 400


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        (Filter(), lambda n: True),
        (Filter(cluster="C3"), lambda n: n % 5 == 2),
        (Filter(stream="FDSN:XX_S1__H_H_Z"), lambda n: n % 4 == 1),
        (Filter(is_novel=True), lambda n: n % 10 == 3),
        (Filter(is_novel=False, cluster="C4"), lambda n: n % 5 == 3 and n % 10 != 3),
        (Filter(since_ns=kept(100).start_ns, until_ns=kept(200).start_ns), lambda n: 100 <= n < 200),
        (Filter(cluster="C99"), lambda n: False),
    ],
)
def test_a_filter_gives_what_it_says(reader, wanted, holds):
    assert sorted(numbers(reader.read(wanted))) == [n for n in range(400) if holds(n)]


def test_a_limit_gives_an_even_sample_and_always_the_same(reader):
    found = numbers(reader.read(Filter(limit=150)))

    assert found == sorted(range(400), key=lambda n: priority(f"{n:024x}"))[:150]
    assert found == numbers(reader.read(Filter(limit=150)))
    assert 40 < np.mean(np.array(found) < 200) * 100 < 60
    assert numbers(reader.read(Filter(limit=0))) == []


def test_the_table_lists_what_read_gives_and_its_ids_choose(reader):
    table = reader.table()
    found = list(reader.read())

    assert table.ids.tolist() == [priority(one.window_id) for one in found]
    assert table.start_ns.tolist() == [one.start_ns for one in found]
    assert table.end_ns.tolist() == [one.end_ns for one in found]
    assert (table.streams, table.clusters) == ([one.stream for one in found], [one.cluster for one in found])
    assert table.is_novel.tolist() == [one.is_novel for one in found]
    assert [None if np.isnan(value) else value for value in table.novelty] == [one.novelty for one in found]
    late = table.ids[table.start_ns >= kept(300).start_ns]
    chosen = list(reader.read(Filter(ids=late[::-1])))
    assert sorted(numbers(chosen)) == list(range(300, 400))
    assert all(same(one, other) for one, other in zip(reader.read(), found, strict=True))


def test_the_table_of_an_empty_buffer_is_empty(tmp_path):
    with closing(Buffer.open(tmp_path / "empty", spec(), DIGEST)) as empty:
        assert len(empty.table().ids) == 0


def test_reading_goes_on_while_the_writer_adds_and_removes(path):
    values = np.zeros((1, 1, 8000), np.float16)

    def window(n):
        return kept(n)._replace(logp=values)

    with closing(Buffer.open(path, spec(), DIGEST)) as writer, closing(open_readonly(path, DIGEST)) as reader:
        writer.put([window(n) for n in range(250)])
        seen, first = 0, 250
        for at, one in enumerate(reader.read()):
            seen += 1
            assert same(one, window(int(one.window_id, 16)))
            if at % 20 == 0:
                writer.put([window(n) for n in range(first, first + 40)])
                first += 40
        assert seen > 200
        assert first > 600
        assert writer.stats().windows < 400
        assert reader.damaged == 0


def test_a_reader_that_rests_holds_no_transaction_open(path, writer, reader):
    reading = reader.read()
    next(reading)
    large = np.zeros((1, 1, 20_000), np.float16)
    for n in range(1000, 1100):
        writer.put([kept(n)._replace(logp=large)])
    writer._con.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    assert path.with_name(f"{BUFFER}-wal").stat().st_size == 0
    next(reading)


def test_a_reader_leaves_out_damaged_windows_and_changes_nothing(path, writer, reader):
    writer._con.execute("UPDATE windows SET logp = zeroblob(7) WHERE is_novel")

    assert len(list(reader.read())) == 360
    assert reader.damaged == 40
    with pytest.raises(SinkUnavailable, match="readonly"):
        reader._rows("DELETE FROM windows")


def test_a_broken_chain_of_pages_costs_only_its_windows(tmp_path):
    path = tmp_path / BUFFER
    with closing(Buffer.open(path, spec(), DIGEST)) as writer:
        writer.put([kept(n)._replace(logp=np.full((1, 1, 9000), n % 99, np.float16)) for n in range(120)])
    with path.open("r+b") as file:
        file.seek(4096 * 300)
        file.write(b"\xff" * 4096)
    with closing(open_readonly(path, DIGEST)) as reader:
        found = list(reader.read())

        assert 0 < reader.damaged <= 10
        assert len(found) == 120 - reader.damaged


def test_no_file_another_profile_and_another_version_are_told(tmp_path, path, writer):
    with pytest.raises(StateError, match="no such file"):
        open_readonly(tmp_path / "nothing", DIGEST)
    with pytest.raises(StateError, match="profile"):
        open_readonly(path, "another")
    writer._con.execute("PRAGMA user_version = 9")
    with pytest.raises(StateError, match="schema 1"):
        open_readonly(path, DIGEST)


def test_it_says_which_windows_are_there_without_reading_them(reader, writer):
    writer.put([kept(1000, wave=np.zeros((1, 8), np.float32))])
    there = {priority(f"{n:024x}"): False for n in (1, 7, 399)}

    found = reader.among([*there, priority("nope"), priority(f"{1000:024x}")])

    assert found == there | {priority(f"{1000:024x}"): True}
    assert reader.among([]) == {}
    assert len(reader.among(range(2000))) == 0


def test_ids_of_a_cluster_and_of_all_are_even_samples(reader, writer):
    writer.put([kept(1000, cluster="C1", wave=np.zeros((1, 8), np.float32))])
    everything = sorted(priority(f"{n:024x}") for n in (*range(400), 1000))
    own = [number for number in everything if number in {priority(f"{n:024x}") for n in (*range(0, 400, 5), 1000)}]

    assert reader.even(50) == everything[:50]
    assert reader.of_cluster("C1", 20) == own[:20]
    assert reader.of_cluster("C1", 20, wave=True) == [priority(f"{1000:024x}")]
    assert reader.of_cluster("C99", 20) == []
