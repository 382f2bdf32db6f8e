import pytest

from streamclust.core.errors import SinkUnavailable
from streamclust.serve.roster import Known, Roster, known
from streamclust.store.identities import Identities, Identity
from streamclust.train.identity import Swap, switched

NS = 10**9


def identity(name, *, model=1, born=1, retired=None, alarm=False, into=None):
    return Identity(name, born * NS, model, retired, None, None, None, mute=False, alarm=alarm, merged_into=into)


@pytest.fixture
def identities(tmp_path):
    found = Identities(tmp_path / "identities.sqlite")
    found.record(switched((), ["C1", "C2", "C3"], Swap(5 * NS, None, 1)))
    yield found
    found.close()


def test_clusters_that_are_watched_are_known_as_soon_as_a_person_says_so(identities):
    roster = Roster(identities)
    assert roster() == Known(frozenset(), 3, None)
    identities.alarm("C2", on=True, who="anna", at_ns=6 * NS)
    assert roster().watched == {"C2"}
    identities.undo("anna", 7 * NS)
    assert roster().watched == frozenset()


def test_what_is_merged_into_a_watched_cluster_is_watched(identities):
    identities.alarm("C2", on=True, who="anna", at_ns=6 * NS)
    identities.merge("C3", "C2", "anna", 7 * NS)
    assert Roster(identities)().watched == {"C2", "C3"}


def test_a_merged_cluster_with_an_alarm_of_its_own_is_watched():
    found = {"C1": identity("C1"), "C2": identity("C2", alarm=True, into="C1")}
    assert known(found, {"C2": "C1"}).watched == {"C2"}


def test_only_clusters_that_a_later_model_brought_are_new():
    found = {"C1": identity("C1"), "C2": identity("C2", born=2)}
    assert known(found, {}).newest_ns is None
    later = found | {"C3": identity("C3", model=2, born=9), "C4": identity("C4", model=2, born=8)}
    assert known(later, {}).newest_ns == 9 * NS


def test_retired_clusters_are_not_counted():
    assert known({"C1": identity("C1", retired=3), "C2": identity("C2")}, {}).clusters == 1


def test_a_database_that_cannot_be_read_leaves_what_was_known(identities, monkeypatch):
    roster = Roster(identities)
    before = roster()

    def locked():
        raise SinkUnavailable("locked")

    monkeypatch.setattr(identities, "identities", locked)
    assert roster() == before
