"""One window as it is kept to learn from: its priority, its parts as bytes with a checksum, and its message."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from streamclust.core.types import F32

F16 = NDArray[np.float16]

FORMAT: Final = 1
"""Of a message."""
_SPECTROGRAM: Final = np.dtype("<f2")
_WAVEFORM: Final = np.dtype("<f4")


class Kept(NamedTuple):
    """A window, what a model said of it, and what the next one learns from."""

    window_id: str
    stream: str
    start_ns: int
    """Of its first sample, ns since 1970 UTC."""
    end_ns: int
    model: int | None
    """Version that labelled it."""
    cluster: str | None
    novelty: float | None
    is_novel: bool
    peak: float
    """In the unit of the samples; NaN when it is not known."""
    rms: float
    logp: F16
    """Log power, shape (C, F, T), dB. float16 is exact to 0.06 dB within +-128 dB."""
    wave: F32 | None
    """Prepared waveform, shape (C, samples): of each window where the profile embeds it, else of exemplars only."""


class Stored(NamedTuple):
    """The parts of a `Kept` that no number or text can hold."""

    shape: str
    """``1x65x63``."""
    logp: bytes
    wave: bytes | None
    crc: int
    """CRC-32 over these and everything else of the window."""


class Damaged(ValueError):
    """What was stored or sent is not what was kept."""


def priority(window_id: str) -> int:
    """Return a hash of the id, evenly spread over the signed 64-bit integers.

    A reservoir keeps the lowest, which is a uniform sample that does not depend on order, batches or workers.

    >>> priority("8f9bef135ec28eb818bd032f")
    3119061934780111264
    """
    return int.from_bytes(blake2b(window_id.encode(), digest_size=8).digest(), "big", signed=True)


def stratum(cluster: str | None, is_novel: bool) -> str:
    """Return the name of the reservoir of a window: what is novel does not compete with what is known."""
    return f"{cluster or ''}{'!' if is_novel else ''}"


def stored(kept: Kept) -> Stored:
    """Return the parts as bytes."""
    logp = np.ascontiguousarray(kept.logp, _SPECTROGRAM).tobytes()
    wave = None if kept.wave is None else np.ascontiguousarray(kept.wave, _WAVEFORM).tobytes()
    shape = "x".join(map(str, kept.logp.shape))
    return Stored(shape, logp, wave, _crc(fields(kept), shape, logp, wave))


def fields(kept: Kept) -> tuple[Any, ...]:
    """Return what numbers and text can hold, in order; None in place of what is not finite."""
    return (
        *(kept.window_id, kept.stream, int(kept.start_ns), int(kept.end_ns), kept.model, kept.cluster),
        *(_real(kept.novelty), int(kept.is_novel), _real(kept.peak), _real(kept.rms)),
    )


def restored(values: Sequence[Any], parts: Stored) -> Kept:
    """Return the window again.

    Parameters
    ----------
    values
        As `fields` gave them.

    Raises
    ------
    Damaged
        The checksum or a length is wrong.
    """
    logp, wave = parts.logp, parts.wave
    if not isinstance(logp, bytes) or not isinstance(wave, bytes | None) or not isinstance(parts.shape, str):
        raise Damaged("must be text and bytes")
    if _crc(tuple(values), parts.shape, logp, wave) != parts.crc:
        raise Damaged("must have its checksum")
    try:
        channels, bins, frames = map(int, parts.shape.split("x"))
        (window_id, stream, start, end, model, cluster, novelty, is_novel, peak, rms) = values
        spectrogram = np.frombuffer(logp, _SPECTROGRAM).reshape(channels, bins, frames)
        waveform = None if wave is None else np.frombuffer(wave, _WAVEFORM).reshape(channels, -1)
    except (ValueError, TypeError) as error:
        raise Damaged(f"must be a spectrogram of {parts.shape!r}") from error
    return Kept(
        *(window_id, stream, start, end, model, cluster, novelty, bool(is_novel)),
        peak=math.nan if peak is None else float(peak),
        rms=math.nan if rms is None else float(rms),
        logp=spectrogram,
        wave=waveform,
    )


def packed(kept: Kept, profile_digest: str) -> bytes:
    """Return the window as a message."""
    parts = stored(kept)
    head = {"format": FORMAT, "profile": profile_digest, "window": fields(kept)}
    message: bytes = msgpack.packb({**head, **parts._asdict()})
    return message


def unpacked(message: bytes, profile_digest: str) -> Kept | None:
    """Return the window of a message; None when it is of another profile.

    Raises
    ------
    Damaged
        It is no such message, or of another format.
    """
    try:
        found: Any = msgpack.unpackb(message)  # a length in it that is beyond its end is an error
        if found["format"] != FORMAT:
            raise Damaged(f"must be of format {FORMAT} (got {found['format']!r:.40})")
        if found["profile"] != profile_digest:
            return None
        values = found["window"]
        parts = Stored(found["shape"], found["logp"], found["wave"], found["crc"])
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise Damaged(f"must be a kept window: {error!r:.200}") from error
    if not isinstance(values, list) or not _typed(values):
        raise Damaged("must have the fields of a kept window")
    return restored(values, parts)


def _typed(values: Sequence[Any]) -> bool:
    """Whether these are the types that `fields` gives."""
    number, text = (int, type(None)), (str, type(None))
    real = (float, int, type(None))
    types: tuple[tuple[type, ...], ...] = (
        *((str,), (str,), (int,), (int,), number, text),
        *(real, (int,), real, real),
    )
    small = all(-(2**63) <= value < 2**63 for value in values if isinstance(value, int))
    return small and len(values) == len(types) and all(map(isinstance, values, types))


def _crc(values: tuple[Any, ...], shape: str, logp: bytes, wave: bytes | None) -> int:
    about = repr((values, shape, wave is None)).encode(errors="surrogatepass")
    return zlib.crc32(wave or b"", zlib.crc32(logp, zlib.crc32(about)))


def _real(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value) + 0.0  # a database knows no -0.0
