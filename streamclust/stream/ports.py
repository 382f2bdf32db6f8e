"""The ports of the stream layer and their promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from streamclust.core.types import Event, Polled, Positions, Reject
from streamclust.store.activations import Activation


class Source(Protocol):
    """Where records come from. One thread uses it."""

    def poll(self, max_records: int, timeout: float) -> Polled:
        """Return what has come, waiting at most `timeout` seconds for the first record.

        All payloads of one poll are decoded together. A record that cannot be used is in
        `rejects`; it never raises. Records of one stream come in the order of the source.

        Raises
        ------
        SourceUnavailable
            Nothing was lost; call again.
        """
        ...

    def commit(self, positions: Positions) -> None:
        """Remember durably that reading may start again at `positions` (partition -> offset).

        Called after every output below `positions` is durable. A crash before this call
        repeats records; it never loses one.

        Raises
        ------
        Rebalanced
            The partitions are no longer ours; the next poll says `lost`.
        SourceUnavailable
            Call again.
        """
        ...

    def hold(self) -> None:
        """Nothing can be taken in now: keep the place in the group without reading. Called about every second."""
        ...

    def close(self) -> None:
        """Release files and connections; commits nothing. May be called twice."""
        ...


class Sink(Protocol):
    """Where events go. One thread uses it."""

    def write(self, events: Sequence[Event], rejects: Sequence[Reject]) -> None:
        """Take events (and rejects, where the sink keeps them); they may be lost until `flush` returns.

        Raises
        ------
        SinkUnavailable
            Nothing of this call was taken; call again with the same events.
        """
        ...

    def flush(self, positions: Positions) -> None:
        """Return when all that was written is durable.

        A sink that can store `positions` in the same transaction does so.

        Raises
        ------
        SinkUnavailable
            What was written is still held; call again.
        """
        ...

    def close(self) -> None:
        """Release everything; flushes nothing. May be called twice."""
        ...


class Models(Protocol):
    """Where models come from, and which holds from when; the same for all who share them. One thread uses it."""

    def refresh(self, now: float) -> bool:
        """Look for what is new, at most about once a second; True when the activations have changed.

        Parameters
        ----------
        now
            Monotonic seconds.

        Raises
        ------
        TransientError
            Nothing is known yet, and whether there is a model cannot be found out; or what came cannot be kept. Call again.
        StateError
            What is kept here is not what is shared.
        """
        ...

    def activations(self) -> Sequence[Activation]:
        """Return all activations that are known, oldest first."""
        ...

    def load(self, version: int) -> Mapping[str, bytes]:
        """Return the files of an activated version.

        Raises
        ------
        CorruptModel
            They are not there, or damaged.
        """
        ...

    def offer(self, files: Mapping[str, bytes], at_ns: int) -> Activation:
        """Publish the first model durably for all; return what is in force then, which may be somebody else's.

        Parameters
        ----------
        at_ns
            Wall clock, ns since 1970 UTC.

        Raises
        ------
        TransientError
            Nobody knows whether it was taken; call again with the same files.
        """
        ...

    def settle(self) -> None:
        """Make durable that what is in force is; comes before the first events that name it. Cheap when there is nothing to do.

        Raises
        ------
        TransientError
            Call again.
        """
        ...

    def reasons(self) -> tuple[str, ...]:
        """Return what was refused or went otherwise than it should, since the last call; each reason is given once."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...
