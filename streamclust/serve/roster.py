"""What is known of the clusters that metrics tell: which are watched, how many there are, when the newest was born."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from streamclust.core.errors import StreamclustError
from streamclust.core.lineage import resolve
from streamclust.store.identities import IdentitiesReader, Identity


class Known(NamedTuple):
    """The clusters as they are now."""

    watched: frozenset[str] = frozenset()
    """Ids that people want to be told of, and those that are merged into such a one."""
    clusters: int = 0
    """That the newest model has."""
    newest_ns: int | None = None
    """Birth of the newest one, wall clock; None when all were born with the first model."""


class Roster:
    """Reads the identities when they have changed. One thread uses it, the one that the connection belongs to."""

    def __init__(self, identities: IdentitiesReader) -> None:
        self._identities = identities
        self._seen: Mapping[str, Identity] | None = None
        self._known = Known()

    def __call__(self) -> Known:
        """Return what is known; as before while the database cannot be read."""
        try:
            found = self._identities.identities()
            if found is not self._seen:
                self._known = known(found, self._identities.merged())
                self._seen = found
        except StreamclustError:
            pass  # a metric is no reason to stop; the loop itself tells what is wrong with the state directory
        return self._known


def known(identities: Mapping[str, Identity], merged: Mapping[str, str]) -> Known:
    """Return what metrics tell of these.

    >>> known({}, {})
    Known(watched=frozenset(), clusters=0, newest_ns=None)
    """
    watched = {x.id for x in identities.values() if x.alarm or identities[resolve(x.id, merged)].alarm}
    first = min((x.born_model for x in identities.values()), default=0)
    later = [x.born_ns for x in identities.values() if x.born_model > first]
    there = sum(x.retired_ns is None for x in identities.values())
    return Known(frozenset(watched), there, max(later, default=None))
