from __future__ import annotations

from web_client import site

from streamclust.core.shown import COLOURS
from streamclust.store.identities import Identity
from streamclust.web.people import People, people_of, place


def identity(cluster, **changes):
    return Identity(cluster, 0, 1, None, None, None, None, mute=False, alarm=False, merged_into=None)._replace(
        **changes
    )


def test_a_merged_cluster_is_shown_as_the_last_one_of_its_chain():
    people = People({}, {"C1": "C2", "C2": "C5", "C4": "C5"})

    assert [people.shown(cluster) for cluster in ("C1", "C2", "C3", "C5")] == ["C5", "C5", "C3", "C5"]
    assert people.members("C5") == ("C5", "C1", "C2", "C4")
    assert people.members("C2") == ("C2",)


def test_a_colour_follows_from_the_number_until_somebody_chooses_one():
    people = People({"C2": identity("C2", colour="#123456")}, {})

    assert people.colour("C2") == "#123456"
    assert people.colour("C1") == COLOURS[0]
    assert people.colour("C8") == COLOURS[0]
    assert people.colour("anything") in COLOURS


def test_a_cluster_without_a_name_is_called_by_its_id():
    people = People({"C1": identity("C1", name="rockfall"), "C2": identity("C2")}, {})

    assert [people.label(cluster) for cluster in ("C1", "C2", "C3")] == ["rockfall", "C2", "C3"]


def test_ids_are_ordered_by_their_number():
    assert sorted(["C10", "C2", "C1"], key=place) == ["C1", "C2", "C10"]


def test_what_people_said_is_read_and_nobody_said_anything_before_the_first_model(filled, tmp_path):
    people = people_of(site(filled.state))

    assert people.label(filled.of_kind[2]) == "rockfall"
    assert people.shown(filled.of_kind[1]) == filled.of_kind[5]
    assert people_of(site(tmp_path)) == People()
