"""Which positions may be committed: the oldest that anything unfinished still needs. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from streamclust.core.types import Positions
from streamclust.signal.assemble import Tie


class Checkpoint:
    """Knows how far each partition was read, and turns needs into positions."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}
        self._committed: dict[str, int] = {}

    def advance(self, next_offsets: Positions) -> None:
        """Remember how far the source has been read."""
        self._next.update(next_offsets)

    def positions(self, needs: Iterable[Positions], ties: Iterable[Tie] = ()) -> dict[str, int]:
        """Return the positions that differ from the committed ones.

        Parameters
        ----------
        needs
            Partition -> offset, one for each thing that is unfinished.
        ties
            Records that must not be read again without others.
        """
        positions = dict(self._next)
        for need in needs:
            for partition, offset in need.items():
                positions[partition] = min(offset, positions.get(partition, offset))
        _tied(positions, sorted(ties, key=_offset, reverse=True))
        return {p: offset for p, offset in positions.items() if self._committed.get(p) != offset}

    def committed(self, positions: Positions) -> None:
        """Remember positions as durable."""
        self._committed.update(positions)


def _offset(tie: Tie) -> int:
    return tie.offset


def _tied(positions: dict[str, int], ties: list[Tie]) -> None:
    """Lower positions until no tied record lies behind them without what it is tied to.

    Ties come highest offset first, so within one partition a single pass is enough.
    """
    moved = bool(ties)
    while moved:
        moved = False
        for tie in ties:
            if positions.get(tie.partition, tie.offset + 1) <= tie.offset:
                for partition, offset in tie.needs.items():
                    if offset < positions.get(partition, offset + 1):
                        positions[partition] = offset
                        moved = True
