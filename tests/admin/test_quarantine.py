"""The commands `quarantine`."""

from __future__ import annotations

import json
from pathlib import Path

from streamclust import cli
from streamclust.core.errors import Reason
from streamclust.core.types import Reject
from streamclust.store.results import DATABASE, Results

DEFAULT = Path(__file__).parents[2] / "config.yaml"


def test_the_quarantine_is_listed_with_control_characters_escaped(state, capsys):
    assert cli.main(["quarantine", "list", "-c", str(DEFAULT)]) == 1
    assert "no such database" in capsys.readouterr().err
    results = Results(state / DATABASE)
    rejects = [Reject("a.mseed", n, Reason.BAD_CODE, "bad \x1b[31m code", None, b"xyz") for n in range(3)]
    results.commit([], rejects, {"a.mseed": 3}, 1_700_000_000_000_000_000)
    results.close()
    assert cli.main(["quarantine", "list", "-c", str(DEFAULT), "--json", "--limit", "2"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["offset"], r["reason"], r["bytes"]) for r in rows] == [(0, "bad_code", 3), (1, "bad_code", 3)]
    assert rows[0]["at"] == "2023-11-14T22:13:20.000000000Z"
    assert cli.main(["quarantine", "list", "-c", str(DEFAULT)]) == 0
    out = capsys.readouterr().out
    assert "bad \\x1b[31m code" in out
    assert "\x1b" not in out
