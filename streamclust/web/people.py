"""What people know of clusters: names, merges, and a colour for each that stays with its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from streamclust.core import shown
from streamclust.core.lineage import number, resolve
from streamclust.store.identities import Identity
from streamclust.web.site import Site


@dataclass(frozen=True, slots=True)
class People:
    """Every identity, and which of them is shown as which."""

    identities: Mapping[str, Identity] = field(default_factory=lambda: MappingProxyType({}))
    merged: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def shown(self, cluster: str) -> str:
        """Return the cluster that this one is shown as."""
        return resolve(cluster, self.merged)

    def members(self, cluster: str) -> tuple[str, ...]:
        """Return all that are shown as this one, itself first; none but itself when it is shown as another."""
        others = tuple(each for each in self.merged if each != cluster and self.shown(each) == cluster)
        return (cluster, *others)

    def label(self, cluster: str) -> str:
        """Return its name, or its id."""
        return self.name(cluster) or cluster

    def name(self, cluster: str) -> str | None:
        """Return the name that it has itself."""
        known = self.identities.get(cluster)
        return known.name if known else None

    def colour(self, cluster: str) -> str:
        """Return ``#rrggbb``: what people chose, else one that follows from the number."""
        known = self.identities.get(cluster)
        return known.colour if known and known.colour else shown.colour(place(cluster) - 1)


def people_of(site: Site) -> People:
    """Read them; nobody knows anything before the first model."""
    with site.identities() as reader:
        return People(reader.identities(), reader.merged()) if reader else People()


def place(cluster: str) -> int:
    """Return the number of an id; ids of other forms have one too."""
    try:
        return number(cluster)
    except ValueError:
        return sum(map(ord, cluster)) or 1
