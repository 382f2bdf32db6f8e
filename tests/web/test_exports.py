from __future__ import annotations

import csv
import io
import json
import sys

import pytest
from kept_windows import batch, events

from streamclust.store.identities import Identity
from streamclust.web import exports
from streamclust.web.people import People
from streamclust.web.problems import Problem

HOSTILE = ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\tx", 'a,"b"\nc', "<img src=x>"]
KNOWN = Identity("C2", 0, 1, None, "=cmd|' /C calc'!A0", None, None, False, False, None)  # noqa: FBT003 — a row
PEOPLE = People({"C2": KNOWN}, {"C1": "C2"})


def some():
    return [
        one._replace(name=name, memberships={"C1": 0.75}) for one, name in zip(events(batch(7)), HOSTILE, strict=True)
    ]


def body(form, chunks):
    return b"".join(exports.FORMS[form][0](chunks, PEOPLE))


def test_csv_has_every_field_and_no_cell_that_a_spreadsheet_would_run():
    rows = list(csv.DictReader(io.StringIO(body("csv", [some()[:3], some()[3:]]).decode(), newline="")))

    assert [row["name"] for row in rows] == [*(f"'{text}" for text in HOSTILE[:5]), *HOSTILE[5:]]
    assert {row["shown_as"] for row in rows} == {"C2"}
    assert {row["shown_name"] for row in rows} == {f"'{KNOWN.name}"}
    assert rows[0]["start"].endswith("Z")
    assert float(rows[0]["membership"]) == 0.75
    assert rows[0]["is_novel"] == "false"
    assert tuple(rows[0]) == exports.COLUMNS


def test_a_file_without_events_still_has_its_header():
    assert body("csv", []).decode().strip() == ",".join(exports.COLUMNS)
    assert body("jsonl", []) == b""


def test_json_lines_are_the_events():
    lines = body("jsonl", [some()]).splitlines()

    assert [json.loads(line) for line in lines] == [json.loads(json.dumps(event.as_dict())) for event in some()]


@pytest.mark.parametrize("rows", [3, 50_000])
def test_parquet_is_read_back(rows, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra [parquet]")
    monkeypatch.setattr(exports, "_ROWS", rows)

    table = pq.read_table(io.BytesIO(body("parquet", [some()[:3], some()[3:]])))

    assert table.column("window_id").to_pylist() == [event.window_id for event in some()]
    assert table.column("name").to_pylist() == HOSTILE


def test_the_file_is_written_while_it_is_sent():
    taken = []

    def chunks():
        for at in range(3):
            taken.append(at)
            yield some()

    parts = exports.FORMS["csv"][0](chunks(), PEOPLE)

    next(parts)
    assert taken == [0]


def test_parquet_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(Problem, match="streamclust\\[parquet\\]") as caught:
        exports.attachment("parquet", [], PEOPLE)

    assert caught.value.status == 501
