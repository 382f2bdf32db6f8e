"""kill -9 at random points, again and again: the database is that of an uninterrupted run, row for row."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import daemons
import pytest

KILLS = int(os.environ.get("STREAMCLUST_TEST_KILLS", "100"))
SECONDS = 4800
SPEED = 60.0
"""Slow enough that the recordings outlast all kills."""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Recordings with a gap, repeated and swapped records and junk, as sensors send them."""
    folder = daemons.recordings(tmp_path_factory.mktemp("recordings"), streams=4, seconds=SECONDS)
    path = folder / "s01.mseed"
    records = [path.read_bytes()[at : at + 512] for at in range(0, path.stat().st_size, 512)]
    records[20], records[21] = records[21], records[20]
    del records[40]
    records.insert(60, records[55])
    records[80] = records[80][:200] + bytes(312)
    path.write_bytes(b"".join(records))
    return folder


def seconds_to_first_rows(path: Path) -> float:
    """Say how long start, first windows and first fit take here and now, so that kills fall before, into and after them."""
    began = time.monotonic()
    with daemons.running(path):
        daemons.wait_for(lambda: daemons.count(path.parent / "state"))
    return time.monotonic() - began


@pytest.mark.fault
@pytest.mark.slow
def test_case_58_kill_9_anywhere_and_the_result_is_that_of_an_uninterrupted_run(data, tmp_path):
    daemons.run(daemons.config(tmp_path / "reference", data))
    expected = daemons.rows(tmp_path / "reference" / "state")
    source = {"type": "files", "paths": [str(data)], "speed": SPEED}
    path = daemons.config(tmp_path, data, source=source, loop={"max_delay": 0.02})
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    print(f"seed {seed}")
    reach = seconds_to_first_rows(daemons.config(tmp_path / "trial", data, source=source))
    killed = grown = 0
    before = 0
    while killed < KILLS:
        process = daemons.start(path)
        time.sleep(rng.uniform(0.1, 1.3) * reach)
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        killed += 1
        now = daemons.count(tmp_path / "state")
        grown += now > before
        before = now

    log = daemons.run(daemons.config(tmp_path, data))

    print(f"{killed} kills, progress after {grown} of them, {before} of {len(expected)} windows before the last run")
    assert killed == KILLS, log
    assert grown > KILLS / 20, "the kills must fall into the work, not into the starts"
    daemons.assert_same(daemons.rows(tmp_path / "state"), expected)
    assert daemons.quarantine(tmp_path / "state") == daemons.quarantine(tmp_path / "reference" / "state")
    lines = daemons.lines(tmp_path / "state")
    assert {line["window_id"] for line in lines} == expected.keys(), "a window is missing from the lines"
    for window_id, times in Counter(line["window_id"] for line in lines).items():
        if times > 1:
            same = [{**line, "processed_at": ""} for line in lines if line["window_id"] == window_id]
            assert {(line["stream"], line["start"], line["cluster"]) for line in same} == {
                (same[0]["stream"], same[0]["start"], same[0]["cluster"])
            }
