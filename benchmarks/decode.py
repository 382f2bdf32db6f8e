"""How fast records are decoded, against obspy.read of each record."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import obspy
from common import Piece, arguments, in_order, network, seconds_of, show

from streamclust.signal.mseed import Payload, decode

POLL = 1024


def ours(payloads: list[Payload], together: int) -> None:
    """Decode so many records a call."""
    for first in range(0, len(payloads), together):
        decode(payloads[first : first + together])


def by_obspy(pieces: list[Piece], **options: Any) -> None:
    """Read each record by itself, as a consumer of messages would."""
    for piece in pieces:
        _ = obspy.read(io.BytesIO(piece.data), **options)[0].data


def measure(runs: int = 3) -> list[dict[str, Any]]:
    """Return records a second of each way."""
    pieces = [piece for _, piece in in_order(network(1000, 300.0))]
    payloads = [Payload("t-0", i, piece.data) for i, piece in enumerate(pieces)]
    few = pieces[:1000]
    by_obspy(few[:20])
    ways: list[tuple[str, int, Callable[[], None]]] = [
        ("obspy.read, detecting the format", len(few), lambda: by_obspy(few)),
        ('obspy.read(format="MSEED")', len(few), lambda: by_obspy(few, format="MSEED")),
        ("streamclust, 1 record a call", len(few), lambda: ours(payloads[: len(few)], 1)),
        (f"streamclust, {POLL} records a call", len(payloads), lambda: ours(payloads, POLL)),
    ]
    speeds = {name: count / seconds_of(work, runs) for name, count, work in ways}
    base = next(iter(speeds.values()))
    return [{"way": n, "records/s": round(v), "ratio": round(v / base, 1)} for n, v in speeds.items()]


if __name__ == "__main__":
    options = arguments(__doc__, runs=3)
    show("Decoding of 512-byte Steim2 records", measure(options.runs), as_json=options.json)
