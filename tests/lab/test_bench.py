"""The whole comparison: results kept as they come, an interruption, failing sets, processes, and the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
from lab_sets import file, tones

from streamclust.cli import main
from streamclust.core.errors import UsageError
from streamclust.lab import bench
from streamclust.lab.bench import Asked

pytest.importorskip("sklearn")
ROWS = {"kmeans_raw", "gmm_raw", "kmeans_spectrogram", "gmm_spectrogram", "kmeans"}


@pytest.fixture
def folder(tmp_path):
    there = tmp_path / "sets"
    there.mkdir()
    file(there / "tones.npz")
    return there


def silent(step, share):
    pass


def run(folder, **asked):
    given = {"sets": ["tones"], "methods": ["kmeans"], "seeds": 1, "jobs": 1, **asked}
    return bench.run(folder, Asked(**given), silent)


def test_every_row_is_run_with_every_seed(folder):
    found = run(folder, seeds=2)

    assert {one.row for one in found.runs} >= ROWS
    assert all({one.seed for one in found.runs if one.row == row} == {0, 1} for row in ROWS)
    assert "### tones" in bench.table(found)


def test_done_runs_are_kept_and_not_repeated(folder, tmp_path, monkeypatch):
    out = tmp_path / "q.md"
    first = run(folder, out=out)
    monkeypatch.setattr(bench, "run_row", lambda *given: pytest.fail("it was run already"))

    again = run(folder, out=out)

    assert {(one.row, one.scores["nmi"]) for one in again.runs} == {(one.row, one.scores["nmi"]) for one in first.runs}
    assert len(out.with_suffix(".jsonl").read_text().splitlines()) == len(first.runs)


def test_tables_stand_between_their_marks_and_other_text_stays(folder, tmp_path):
    out = tmp_path / "q.md"
    out.write_text(f"before\n{bench.BEGIN}\nold\n{bench.END}\nafter\n")

    run(folder, out=out)

    text = out.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "### tones" in text
    assert "old" not in text


def test_an_interruption_leaves_what_there_is(folder, tmp_path, monkeypatch):
    real, count = bench.run_row, []

    def third_is_interrupted(*given):
        count.append(given)
        if len(count) == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(bench, "run_row", third_is_interrupted)

    found = run(folder, out=tmp_path / "q.md")

    assert found.interrupted
    assert len(found.runs) == 2
    assert "interrupted" in (tmp_path / "q.md").read_text()


def test_a_set_that_cannot_be_read_ends_nothing(folder):
    x, _ = tones()
    np.savez(folder / "bad.npz", x=x, fs=100.0)

    found = run(folder, sets=["bad", "tones"])

    assert [line.split(":")[0] for line in found.unread] == ["bad"]
    assert {one.set for one in found.runs} == {"tones"}
    assert "not read: bad" in bench.table(found)


def test_names_that_name_nothing_are_refused(folder):
    with pytest.raises(UsageError, match="--sets"):
        run(folder, sets=["other"])
    with pytest.raises(UsageError, match="--methods"):
        run(folder, methods=["other"])


def test_processes_give_what_one_process_gives(folder):
    alone, several = run(folder), run(folder, jobs=2)

    def scores(found):
        return {one.row: dict(one.scores) for one in found.runs}

    assert not any(one.error for one in several.runs)
    assert scores(several) == scores(alone)


def test_the_command_tells_programs_everything(folder, capsys):
    code = main(["bench", str(folder), "--sets", "tones", "--methods", "kmeans", "--quick", "--jobs", "1", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert told["sets"][0]["set"] == "tones"
    assert {row["row"] for row in told["sets"][0]["rows"]} >= ROWS
    assert told["summary"]["mean_nmi"]["kmeans"] > 0.85


def test_an_interrupted_command_prints_what_there_is_and_says_130(folder, capsys, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "run_row", interrupted)

    assert main(["bench", str(folder), "--sets", "tones", "--jobs", "1"]) == 130
    assert "interrupted" in capsys.readouterr().out
