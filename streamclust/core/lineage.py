"""What became of clusters from model to model: the records of the lineage, and the form of an id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

Kind: TypeAlias = Literal["birth", "keep", "split", "merge", "retire", "return"]
"""Of a record of the lineage: one of these becomes of a cluster when the model changes."""
KINDS: Final[tuple[str, ...]] = get_args(Kind)
_ID: Final = re.compile(r"C[1-9][0-9]{0,17}")


class Lineage(NamedTuple):
    """What became of one cluster when one model followed another."""

    at_ns: int
    """When the newer model was made, ns since 1970 UTC."""
    kind: Kind
    """``birth``: of windows that no cluster had. ``keep``: as before. ``split``: new, most of it was in its parent.
    ``merge``: most of each parent is in it; it may be one of them itself. ``retire``: no longer there.
    ``return``: it was retired."""
    identity: str
    """The lasting id."""
    parents: tuple[str, ...]
    """Where its windows come from, in the order of the ids; empty where that says nothing."""
    jaccard: float | None
    """Overlap with what had this id before, 0 to 1; None for an id that had nothing."""
    from_model: int | None
    """None: there was none."""
    to_model: int


def number(identity: str) -> int:
    """Return 7 for ``C7``.

    Raises
    ------
    ValueError
        It is no id of a cluster.
    """
    if not _ID.fullmatch(identity):
        raise ValueError(f"an id of a cluster must be C1, C2, ... (got {identity[:40]!r})")
    return int(identity[1:])


def resolve(identity: str, merged: Mapping[str, str]) -> str:
    """Follow merges (id -> what it was merged into) to the identity that is shown.

    Raises
    ------
    ValueError
        The merges go in a circle.

    >>> resolve("C3", {"C3": "C2", "C2": "C1"})
    'C1'
    """
    for _ in range(len(merged) + 1):
        if identity not in merged:
            return identity
        identity = merged[identity]
    raise ValueError(f"merges of clusters go in a circle at {identity}")
