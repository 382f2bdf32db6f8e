"""Names of partitions: what a record carries leads back to its topic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamclust.stream.kafka.ports import Part, part_of


@given(st.from_regex(r"[A-Za-z0-9._-]{1,249}", fullmatch=True), st.integers(0, 10_000))
def test_a_label_leads_back_to_its_partition(topic, number):
    assert part_of(Part(topic, number).label) == Part(topic, number)


def test_topics_with_like_names_have_labels_of_their_own():
    assert len({Part("a", 11).label, Part("a-1", 1).label, Part("a.1", 1).label}) == 3
