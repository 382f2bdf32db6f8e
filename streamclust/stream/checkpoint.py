"""Which positions may be committed: the oldest that anything unfinished still needs. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from streamclust.core.types import Positions


class Checkpoint:
    """Knows how far each partition was read, and turns needs into positions."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}
        self._committed: dict[str, int] = {}

    def advance(self, next_offsets: Positions) -> None:
        """Remember how far the source has been read."""
        self._next.update(next_offsets)

    def positions(self, needs: Iterable[Positions]) -> dict[str, int]:
        """Return the positions that differ from the committed ones.

        Parameters
        ----------
        needs
            Partition -> offset, one for each thing that is unfinished.
        """
        positions = dict(self._next)
        for need in needs:
            for partition, offset in need.items():
                positions[partition] = min(offset, positions.get(partition, offset))
        return {p: offset for p, offset in positions.items() if self._committed.get(p) != offset}

    def committed(self, positions: Positions) -> None:
        """Remember positions as durable."""
        self._committed.update(positions)
