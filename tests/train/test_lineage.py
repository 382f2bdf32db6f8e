"""A history that people can read."""

from __future__ import annotations

from streamclust.core.journal import Action
from streamclust.core.lineage import Lineage
from streamclust.train.lineage import history

DAY = 86_400 * 10**9
START = 20_456 * DAY  # 2026-01-03


def became(day, kind, identity, parents=(), jaccard=None):
    return Lineage(START + day * DAY, kind, identity, parents, jaccard, day, day + 1)


def did(day, field, identity, before, after, undoes=None):
    return Action(1, START + day * DAY, "anna", field, identity, before, after, undoes)


RECORDS = [
    became(0, "birth", "C7"),
    became(1, "keep", "C7", (), 0.9),
    became(2, "keep", "C7", (), 0.8),
    became(3, "keep", "C7", (), 0.6),
    became(3, "split", "C9", ("C7",)),
    became(4, "merge", "C7", ("C7", "C9"), 0.7),
    became(4, "retire", "C9"),
    became(5, "retire", "C7"),
    became(6, "return", "C7"),
]


def test_a_history_tells_what_became_of_a_cluster_in_order():
    assert history("C7", RECORDS, {"C7": "rockfall"}) == (
        'C7 "rockfall": born 2026-01-03 with model 1; kept by models 2 to 3 (overlap at least 0.80); '
        "split into C9 and itself 2026-01-06 with model 4; C9 merged into it 2026-01-07 with model 5; "
        "retired 2026-01-08 with model 6; returned 2026-01-09 with model 7"
    )
    assert history("C9", RECORDS) == (
        "C9: split from C7 2026-01-06 with model 4; merged into C7 2026-01-07 with model 5"
    )


def test_a_cluster_that_was_split_and_is_gone_says_into_what():
    records = [became(1, "split", "C3", ("C1",)), became(1, "split", "C4", ("C1",)), became(1, "retire", "C1")]

    assert history("C1", records) == "C1: split into C3 and C4 2026-01-04 with model 2"
    assert history("C8", [became(1, "merge", "C8", ("C1", "C2", "C5"))]) == (
        "C8: merged of C1, C2 and C5 2026-01-04 with model 2"
    )


def test_what_people_did_is_told_between_the_records():
    actions = [
        did(0, "name", "C7", None, "rockfall"),
        did(2, "merged_into", "C9", None, "C7"),
        did(3, "mute", "C7", before=False, after=True),
        did(4, "alarm", "C7", before=True, after=False),
        did(5, "colour", "C7", None, "#ff0000"),
        did(6, "note", "C7", "x", None),
        did(7, "merged_into", "C9", "C7", None, undoes=2),
        did(8, "merged_into", "C7", None, "C1"),
    ]

    assert history("C7", RECORDS[:1], {}, actions) == (
        'C7: born 2026-01-03 with model 1; named "rockfall" by anna on 2026-01-03; '
        "C9 merged into it by anna on 2026-01-05; muted by anna on 2026-01-06; alarm cleared by anna on 2026-01-07; "
        "colour set #ff0000 by anna on 2026-01-08; note taken away by anna on 2026-01-09; "
        "merge of C9 set back (action 2) by anna on 2026-01-10; merged into C1 by anna on 2026-01-11"
    )


def test_of_a_cluster_without_records_nothing_is_known():
    assert history("C1", RECORDS) == "C1: nothing is known"


def test_what_people_want_split_and_what_became_of_it_is_told():
    actions = [
        did(0, "split", "C1", None, 2),
        did(1, "split", "C1", 2, None),
        did(2, "split", "C1", 2, None, undoes=1),
        did(3, "split_done", "C1", 2, "C1, C4"),
    ]
    made = [became(3, "keep", "C1"), became(3, "split", "C4", ("C1",))]
    assert history("C1", made, {}, actions) == (
        "C1: split into 2 parts asked for by anna on 2026-01-03; split no longer asked for by anna on 2026-01-04; "
        "split set back (action 1) by anna on 2026-01-05; split into C4 and itself 2026-01-06 with model 4; "
        "split as asked for on 2026-01-06"
    )
