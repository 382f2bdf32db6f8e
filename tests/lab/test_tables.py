"""One row a window in three formats; a file is there whole or not at all."""

from __future__ import annotations

import csv
import json

import pytest

from streamclust.core.errors import UsageError
from streamclust.core.types import Event
from streamclust.lab.tables import writer

NS = 10**9
TIMES = {"start_ns": NS, "end_ns": 2 * NS, "processed_at_ns": 5 * NS}
ABOUT = {"stream": "FDSN:BW_RJOB__E_H_Z", "sampling_rate": 100.0, "profile": "seismic/1", "model": None, "name": None}
EVENTS = [
    Event(
        "w1", cluster="C2", memberships={"C1": 0.25, "C2": 0.75}, novelty=0.5, is_novel=False, peak=3.0, rms=1.0,
        gap_fraction=0.0, **TIMES, **ABOUT,
    ),
    Event(
        "w2", cluster=None, memberships={}, novelty=None, is_novel=False, peak=None, rms=float("nan"),
        gap_fraction=0.0, flags=("dead", "partial"), **TIMES, **ABOUT,
    ),
]  # fmt: skip


def test_csv_has_the_fields_of_the_event_and_a_column_a_membership(tmp_path):
    path = tmp_path / "e.csv"

    assert writer(path, ["C1", "C2"])([EVENTS[:1], EVENTS[1:]]) == 2

    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert set(first) == set(EVENTS[0].as_dict()) - {"memberships"} | {"membership_C1", "membership_C2"}
    assert (first["cluster"], first["membership_C2"], first["is_novel"]) == ("C2", "0.75", "false")
    assert (second["cluster"], second["membership_C1"], second["flags"]) == ("", "", "dead partial")


def test_jsonl_has_the_events_themselves(tmp_path):
    path = tmp_path / "e.jsonl"

    writer(path, ["C1", "C2"])([EVENTS])

    first, second = map(json.loads, path.read_text().splitlines())
    assert first == EVENTS[0].as_dict()
    assert second["rms"] is None


def test_parquet_has_typed_columns(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "e.parquet"

    assert writer(path, ["C1", "C2"])([EVENTS[:1], EVENTS[1:]]) == 2

    rows = pq.read_table(path).to_pylist()
    assert [row["window_id"] for row in rows] == ["w1", "w2"]
    assert dict(rows[0]["memberships"]) == {"C1": 0.25, "C2": 0.75}


@pytest.mark.parametrize("name", ["e.csv", "e.jsonl", "e.parquet"])
def test_no_window_is_an_empty_table(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")

    assert writer(tmp_path / name, [])([]) == 0
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["e.csv", "e.jsonl"])
def test_a_failure_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path, name):
    path = tmp_path / name
    path.write_text("old")

    def failing():
        yield EVENTS
        raise UsageError("the data end here")

    with pytest.raises(UsageError):
        writer(path, ["C1", "C2"])(failing())

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["e.txt", "e", "none/e.csv"])
def test_a_file_that_cannot_be_written_is_known_before_anything_is_read(tmp_path, name):
    with pytest.raises(UsageError, match="--out: must"):
        writer(tmp_path / name, [])
