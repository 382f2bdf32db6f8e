"""The commands `clusters`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamclust import cli
from streamclust.core.lineage import Lineage
from streamclust.store.identities import IDENTITIES, Identities, open_readonly
from streamclust.store.state import StateDir

DEFAULT = Path(__file__).parents[2] / "config.yaml"
T0 = 1_767_225_600 * 10**9


@pytest.fixture
def known(state):
    """C1 to C3; C3 is retired."""
    database = Identities(state / IDENTITIES)
    database.record([Lineage(T0, "birth", f"C{n}", (), None, None, 1) for n in (1, 2, 3)])
    database.record([Lineage(T0 + 1, "retire", "C3", (), None, 1, 2)])
    yield database
    database.close()


def run(*argv, code=0):
    assert cli.main(["clusters", *argv, "-c", str(DEFAULT)]) == code


def test_they_are_listed_the_retired_ones_when_asked_for(known, capsys):
    run("list", "--json")
    rows = json.loads(capsys.readouterr().out)
    assert [row["cluster"] for row in rows] == ["C1", "C2"]
    assert rows[0] == {
        "cluster": "C1", "name": None, "shown_as": None, "born": "2026-01-01T00:00:00Z", "model": 1, "retired": None,
        "colour": None, "mute": False, "alarm": False, "split": None, "split_why": None, "note": None,
    }  # fmt: skip
    run("list", "--all")
    assert "C3" in capsys.readouterr().out


def test_what_people_say_is_kept_told_and_can_be_undone_beside_a_daemon(known, state, capsys):
    with StateDir.open(state):
        run("name", "C1", "rockfall", "--who", "Ada")
        assert capsys.readouterr().out == "C1: name was none, is rockfall (action 1)\n"
        run("note", "C1", "seen with rain")
        run("colour", "C1", "#CC3311")
        run("mute", "C1")
        run("mute", "C1", "--off")
        run("alarm", "C1")
        run("merge", "C2", "C1")
        capsys.readouterr()
    one = known.identities()["C1"]
    assert one[4:9] == ("rockfall", "seen with rain", "#cc3311", False, True)
    assert known.identities()["C2"].merged_into == "C1"
    run("history", "C1")
    assert "rockfall" in capsys.readouterr().out
    run("history", "C2", "--json")
    said = json.loads(capsys.readouterr().out)
    assert [action["field"] for action in said["actions"]] == ["merged_into"]
    run("undo", "--json")
    assert json.loads(capsys.readouterr().out)["undoes"] == 7
    assert known.identities()["C2"].merged_into is None
    run("undo", "1")
    assert known.identities()["C1"].name is None
    run("note", "C1", "--off")
    assert known.identities()["C1"].note is None
    reader = open_readonly(state / IDENTITIES)
    assert [action.who for action in reader.journal()][-1] == "Ada"
    reader.close()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["name", "C9", "x"], "no cluster 'C9'; there are C1, C2, C3"),
        (["name", "C1", "a\x07b"], "control characters"),
        (["colour", "C1", "red"], "#rrggbb"),
        (["merge", "C1", "C1"], "cannot be merged"),
        (["undo"], "nothing to undo"),
        (["history", "C9"], "no cluster"),
    ],
)
def test_what_cannot_be_done_is_wrong_usage(known, capsys, argv, told):
    run(*argv, code=2)
    assert told in capsys.readouterr().err


def test_before_the_first_model_there_is_none(state, capsys):
    run("list")
    assert capsys.readouterr().out == "no cluster yet\n"
    run("name", "C1", "x", code=2)
    assert "there is no cluster yet" in capsys.readouterr().err
    assert not (state / IDENTITIES).exists()
    run("history", "C1", code=1)
    for wrong in (["name", "C1"], ["name", "C1", "x", "--off"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(["clusters", *wrong])
        assert stop.value.code == 2


def test_the_help_of_merge_says_what_the_second_cluster_is(capsys):
    with pytest.raises(SystemExit):
        cli.main(["clusters", "merge", "--help"])
    assert "the cluster that it is shown as" in " ".join(capsys.readouterr().out.split())


def test_a_split_is_asked_for_told_and_taken_back(known, capsys):
    run("split", "C1", "--who", "Ada")
    assert capsys.readouterr().out == "C1: split was none, is 2 (action 1)\n"
    run("split", "C1", "--parts", "3")
    known.not_split({"C1": 3}, {"C1": "it has 50 windows to learn from, and 3 parts need 60"})
    capsys.readouterr()
    run("list", "--json")
    row = json.loads(capsys.readouterr().out)[0]
    assert (row["split"], row["split_why"]) == (3, "it has 50 windows to learn from, and 3 parts need 60")
    run("split", "C1", "--off")
    assert known.splits() == {}
    run("undo")
    assert known.splits() == {"C1": 3}
    run("history", "C1")
    assert "split into 2 parts asked for by Ada" in capsys.readouterr().out
    for argv, why in ((("C1", "--parts", "1"), "2 to 8 parts"), (("C3",), "it is retired"), (("C9",), "no cluster")):
        run("split", *argv, code=2)
        assert why in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("split", "C1", "--parts", "3", "--off")
