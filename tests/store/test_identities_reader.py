"""Reading what people know of clusters, beside whoever writes it."""

from __future__ import annotations

from contextlib import closing

import pytest

from streamclust.core.errors import SinkUnavailable, StateError
from streamclust.core.lineage import Lineage
from streamclust.store.database import translated
from streamclust.store.identities import Identities
from streamclust.store.identities_reader import IDENTITIES, open_readonly


def test_it_reads_and_cannot_write(tmp_path):
    path = tmp_path / IDENTITIES
    with pytest.raises(StateError, match="no such database"):
        open_readonly(path)
    with closing(Identities(path)) as writer, closing(open_readonly(path)) as reader:
        assert (reader.identities(), reader.last(), reader.lineage()) == ({}, 0, [])
        writer.record([Lineage(10, "birth", "C1", (), None, None, 1)])
        assert list(reader.identities()) == ["C1"]
        with pytest.raises(SinkUnavailable, match="readonly"), translated(path):
            reader._con.execute("DELETE FROM marks")


def test_wishes_that_no_training_has_tried_are_told_with_who_said_so_last(tmp_path):
    with closing(Identities(tmp_path / IDENTITIES)) as writer, closing(open_readonly(writer.path)) as reader:
        writer.record([Lineage(10, "birth", f"C{n}", (), None, None, 1) for n in (1, 2, 3)])
        for at, (cluster, parts, who) in enumerate(
            [("C3", 2, "anna"), ("C1", 2, "anna"), ("C1", 3, "bob"), ("C2", 2, "bob"), ("C2", None, "bob")]
        ):
            writer.split(cluster, parts, who, at)
        assert reader.splits() == {"C1": 3, "C3": 2}
        assert [(a.identity, a.who, a.after) for a in reader.untried()] == [("C1", "bob", 3), ("C3", "anna", 2)]
        writer.not_split(reader.splits(), {"C1": "no windows"})
        assert [a.identity for a in reader.untried()] == ["C3"]
