"""A buffer stays within its bounds, survives what happens to files and processes, and never stops its daemon."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import numpy as np
import pytest
from kept_windows import DIGEST, T0, kept, same, spec
from small_disk import small_disk

from streamclust.core.errors import SinkUnavailable
from streamclust.core.types import NS
from streamclust.store.buffer import BUFFER, Buffer, Filter, open_readonly, priority
from streamclust.store.kept import stratum

DAY = 86_400 * NS


@pytest.fixture
def path(tmp_path):
    return tmp_path / BUFFER


@contextmanager
def opened(path, digest=DIGEST, **changes):
    with closing(Buffer.open(path, spec(**changes), digest)) as buffer:
        yield buffer


def ids(buffer):
    return {one.window_id for one in buffer.read()}


def on_disk(path):
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


def test_what_was_put_is_read_back_bit_for_bit_after_a_restart_too(path):
    made = [kept(n, wave=np.full((1, 64), n, np.float32) if n % 2 else None) for n in range(300)]
    with opened(path) as buffer:
        assert buffer.put(made) == 300
    with opened(path) as buffer:
        found = list(buffer.read())

    made.sort(key=lambda one: priority(one.window_id))
    assert all(map(same, found, made))
    assert len(found) == 300


def test_a_window_that_comes_again_is_passed_over(path):
    with opened(path) as buffer:
        assert buffer.put([kept(1), kept(2)]) == 2
        assert buffer.put([kept(2), kept(3), kept(3)]) == 1
        assert buffer.stats().windows == buffer.stats().taken == 3


def test_figures_tell_what_there_is_and_what_is_new_after_a_restart_too(path):
    with opened(path) as buffer:
        buffer.put([kept(n, is_novel=n == 7) for n in range(20)])
        before = buffer.stats()
        buffer.put([kept(n) for n in range(20, 26)])
    with opened(path) as buffer:
        stats = buffer.stats()

    assert stats.windows == 26
    assert stats.new_since(before.taken) == 6
    assert stats.new_since(1000) == 26
    assert (stats.oldest_ns, stats.newest_ns) == (kept(0).start_ns, kept(25).start_ns)
    assert stats.streams["FDSN:XX_S0__H_H_Z"] == 7
    assert stats.by_stream_max_share == 7 / 26
    assert stats.clusters == {"C1": 6, "C2": 5, "C3": 4, "C3!": 1, "C4": 5, "C5": 5}


def test_an_empty_buffer_has_figures(path):
    with opened(path) as buffer:
        stats = buffer.stats()

        assert (stats.windows, stats.oldest_ns, stats.by_stream_max_share) == (0, None, 0)
        assert list(buffer.read()) == []
        assert buffer.prune(T0) == 0


@pytest.mark.parametrize("cells", [100, 4000, 30_000, 500_000])
def test_the_files_stay_below_their_bytes_and_use_most_of_them(path, cells):
    values = np.zeros((1, 1, cells), np.float16)
    count = min(20_000, 30_000_000 // (2 * cells))
    with opened(path, max_bytes=10_000_000) as buffer:
        biggest = 0
        for first in range(0, count, 500):
            buffer.put([kept(n)._replace(logp=values) for n in range(first, min(count, first + 500))])
            biggest = max(biggest, on_disk(path))
        stats = buffer.stats()

    assert biggest <= 10_000_000
    assert stats.bytes >= 4_000_000
    assert abs(stats.bytes / path.stat().st_size - 1) < 0.25


def test_a_smaller_bound_takes_hold_at_the_next_start(path):
    values = np.zeros((1, 1, 4000), np.float16)
    with opened(path, max_bytes=20_000_000) as buffer:
        buffer.put([kept(n)._replace(logp=values) for n in range(3000)])
    assert path.stat().st_size > 10_000_000
    with opened(path, max_bytes=10_000_000) as buffer:
        assert buffer.stats().windows > 300
    assert path.stat().st_size < 10_000_000


def test_what_is_older_than_its_days_goes_counted_from_the_newest_window(path):
    with opened(path, max_days=2.0) as buffer:
        buffer.put([kept(n, start_ns=T0 + n * DAY // 2) for n in range(10)])
        removed = buffer.prune(T0 + 1000 * DAY)

        assert removed == 5
        assert {one.start_ns for one in buffer.read()} == {T0 + n * DAY // 2 for n in range(5, 10)}


def test_a_clock_that_is_behind_removes_nothing_more(path):
    with opened(path, max_days=2.0) as buffer:
        buffer.put([kept(n, start_ns=T0 + n * DAY // 2) for n in range(4)])

        assert buffer.prune(0) == 0


def limits(**changes):
    return {"max_bytes": 10_000_000, "per_cluster": 12, "per_stream": 10, "stream_share": 1.0, **changes}


def large(n, **changes):
    return kept(n, **changes)._replace(logp=np.full((1, 1, 9000), n % 100, np.float16))


def test_reservoirs_are_the_same_whatever_the_order_and_the_batches(path, tmp_path):
    made = [large(n) for n in range(900)]
    wanted = set()
    for group in (lambda one: one.stream, lambda one: stratum(one.cluster, is_novel=one.is_novel)):
        for name in {group(one) for one in made}:
            mine = sorted((priority(one.window_id), one.window_id) for one in made if group(one) == name)
            wanted |= {window_id for _, window_id in mine[: 10 if name.startswith("FDSN") else 12]}
    rng = np.random.Generator(np.random.PCG64(1))
    for run, step in enumerate((1, 64, 900)):
        order = rng.permutation(900)
        with opened(tmp_path / f"{run}.sqlite", **limits()) as buffer:
            for at in range(0, 900, step):
                buffer.put([made[n] for n in order[at : at + step]])
            buffer.prune(2**62)
            assert wanted <= ids(buffer)
            assert len(ids(buffer)) < 400


def test_a_rare_clusters_windows_survive_a_flood_of_others(path):
    rare = [large(n, cluster="C77", start_ns=T0) for n in range(7)]
    novel = [large(n, cluster="C1", is_novel=True, start_ns=T0) for n in range(10, 17)]
    with opened(path, **limits(stream_share=0.25)) as buffer:
        buffer.put(rare + novel)
        for first in range(100, 1600, 100):
            buffer.put([large(n, cluster="C1") for n in range(first, first + 100)])

        found = {one.window_id for one in buffer.read(Filter(cluster="C77"))}
        assert found == {one.window_id for one in rare}
        assert {one.window_id for one in buffer.read(Filter(is_novel=True))} == {one.window_id for one in novel}


def test_a_stream_with_99_percent_of_the_windows_stays_below_its_share(path):
    with opened(path, stream_share=0.25, per_stream=10) as buffer:
        for first in range(0, 4000, 80):
            buffer.put([
                kept(n, stream="loud" if n % 100 else f"quiet {n // 100 % 10}") for n in range(first, first + 80)
            ])  # fmt: skip
        buffer.prune(2**62)
        stats = buffer.stats()

    assert stats.streams["loud"] >= 10
    assert stats.by_stream_max_share <= 0.25
    assert sum(stats.streams.values()) - stats.streams["loud"] == 40


def test_how_far_a_source_was_read_is_stored_with_the_windows(path):
    with opened(path) as buffer:
        buffer.put([kept(n) for n in range(200)], {"topic/0": 7, "topic/1": 9})
        buffer.put([], {"topic/1": 10})
    with opened(path) as buffer:
        assert buffer.marks() == {"topic/0": 7, "topic/1": 10}


def test_a_killed_writer_leaves_whole_windows_and_the_next_one_goes_on(path):
    script = (
        "import sys, pathlib\n"
        "from kept_windows import DIGEST, kept, spec\n"
        "from streamclust.store.buffer import Buffer\n"
        "buffer = Buffer.open(pathlib.Path(sys.argv[1]), spec(per_cluster=50, per_stream=50), DIGEST)\n"
        "n = buffer.stats().taken\n"
        "while True:\n"
        "    buffer.put([kept(i) for i in range(n, n + 70)], {'topic/0': n + 70})\n"
        "    n += 70\n"
        "    print(n, flush=True)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    for lines in (1, 9, 4):
        with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, env=env) as process:
            told = [int(process.stdout.readline()) for _ in range(lines)][-1]
            process.send_signal(signal.SIGKILL)

        with closing(open_readonly(path, DIGEST)) as reader:
            taken, mark = reader.taken(), reader.marks()["topic/0"]
            found = list(reader.read())
            assert taken >= told
            assert taken - mark in {0, 64}  # killed between the two transactions of a put
            assert len(found) == taken
            assert reader.damaged == 0
            assert all(same(one, kept(int(one.window_id, 16))) for one in found[::20])
    with opened(path) as buffer:
        assert buffer.put_aside == 0


def test_a_damaged_file_is_put_aside_at_the_start_and_a_new_one_begun(path):
    with opened(path) as buffer:
        buffer.put([kept(1)])
    for number in (1, 2, 3):
        path.write_bytes(b"not a database" * 1000)
        with opened(path) as buffer:
            assert buffer.put_aside == 1
            assert buffer.put([kept(n) for n in range(5)]) == 5
        assert [file.name for file in path.parent.glob("*.damaged-*")] == [f"{BUFFER}.damaged-{number}"]


@pytest.mark.parametrize("at", [0, 100, 4096, 8192, 40_000, 100_000])
def test_a_file_with_zeros_anywhere_gives_what_is_whole_or_is_begun_anew(path, at):
    with opened(path) as buffer:
        buffer.put([large(n) for n in range(200)])
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\0" * 4096)

    with opened(path) as buffer:
        found = list(buffer.read())
        assert all(same(one, large(int(one.window_id, 16))) for one in found)
        assert len(found) + buffer.damaged >= 190 or buffer.put_aside == 1
        for first in range(1000, 2500, 100):
            buffer.put([large(n) for n in range(first, first + 100)])
        assert buffer.stats().windows > 200


def test_a_file_that_turns_out_to_be_damaged_while_it_is_used_is_put_aside(path):
    with opened(path) as buffer:
        buffer.put([kept(1)])
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with path.open("r+b") as file:
            file.seek(100)
            file.write(b"\xff" * 60_000)
        buffer._con.execute("PRAGMA cache_size = 0")
        buffer.put([kept(2)])
        buffer.put([kept(3)])

        assert buffer.put_aside == 1
        assert buffer.stats().windows >= 1


@pytest.mark.parametrize("column", ["logp = zeroblob(234)", "cluster = 'C9'", "crc = 1", "shape = 'x'", "rms = NULL"])
def test_a_damaged_row_is_left_out_and_counted(path, column):
    with opened(path) as buffer:
        buffer.put([kept(n) for n in range(20)])
        buffer._con.execute(f"UPDATE windows SET {column} WHERE window_id = '{7:024x}'")  # noqa: S608 — constants

        assert len(ids(buffer)) == 19
        assert buffer.damaged == 1


def test_another_profile_or_version_begins_a_new_file(path):
    with opened(path) as buffer:
        buffer.put([kept(1)])
    with opened(path, "another") as buffer:
        assert buffer.put_aside == 1
        assert buffer.stats().windows == 0
        buffer._con.execute("PRAGMA user_version = 99")
    with opened(path, "another") as buffer:
        assert buffer.put_aside == 1


def test_a_file_that_cannot_be_made_is_no_damage(tmp_path):
    with pytest.raises(SinkUnavailable, match="nowhere"):
        Buffer.open(tmp_path / "nowhere" / BUFFER, spec(), DIGEST)


def test_another_writer_is_waited_for_only_shortly(path):
    with opened(path) as buffer, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkUnavailable, match="locked"):
            buffer.put([kept(1)])
        other.execute("ROLLBACK")

        assert buffer.put([kept(1)]) == 1
        assert buffer.stats().windows == 1


def test_a_put_that_fails_in_the_middle_leaves_nothing_and_the_next_one_works(path):
    with opened(path) as buffer:
        with pytest.raises(SinkUnavailable):
            buffer.put([kept(1), kept(2, model=object())])
        assert ids(buffer) == set()
        assert buffer.put([kept(1), kept(3)]) == 2
        assert buffer.stats().windows == buffer.taken() == 2


@pytest.fixture
def small(tmp_path):
    with small_disk(tmp_path / "small", "4m") as where:
        yield where


@pytest.mark.fault
def test_a_full_disk_loses_only_what_was_to_be_put_and_it_goes_on_when_there_is_room(small):
    path, fill = small / BUFFER, small / "ballast"
    with opened(path, max_bytes=10_000_000) as buffer:
        buffer.put([kept(n) for n in range(50)])
        fill.write_bytes(b"\0" * (os.statvfs(small).f_bavail * os.statvfs(small).f_frsize - 200_000))
        with pytest.raises(SinkUnavailable, match="full"):
            for n in range(100, 400):
                buffer.put([large(n)])
        held = ids(buffer)
        fill.unlink()
        assert {f"{n:024x}" for n in range(50)} <= held
        assert buffer.put([kept(n) for n in range(50, 60)]) == 10
        assert ids(buffer) >= held
        assert buffer.stats().windows == len(ids(buffer))
    with opened(path) as buffer:
        assert (buffer.put_aside, buffer.damaged) == (0, 0)


@pytest.mark.fault
def test_a_disk_that_is_full_at_the_start_says_so(small):
    (small / "ballast").write_bytes(b"\0" * (os.statvfs(small).f_bavail * os.statvfs(small).f_frsize))

    with pytest.raises(SinkUnavailable):
        Buffer.open(small / BUFFER, spec(), DIGEST)
    (small / "ballast").unlink()
    with opened(small / BUFFER) as buffer:
        assert buffer.put([kept(1)]) == 1
