"""Windows to keep, small buffers to keep them in, and batches with their events."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from streamclust.core.profile_spec import ProfileSpec
from streamclust.core.retrain_specs import BufferSpec
from streamclust.core.types import NS, Event, Flag, Window
from streamclust.signal.batch import Batch
from streamclust.signal.grid import window_id
from streamclust.signal.spectra import shape
from streamclust.store.kept import Kept

DIGEST = "0123456789abcdef" * 4
T0 = 1_767_225_600 * NS  # 2026-01-01
PROFILE = ProfileSpec()


def kept(n=0, **changes):
    """Window number n of four streams and five clusters."""
    values = np.random.Generator(np.random.PCG64(n)).normal(-20, 10, (1, 9, 13)).astype(np.float16)
    start = T0 + n * 41 * NS
    made = Kept(
        *(f"{n:024x}", f"FDSN:XX_S{n % 4}__H_H_Z", start, start + 41 * NS, 1, f"C{n % 5 + 1}", 0.25, False),
        *(2.5, 0.5, values, None),
    )
    return made._replace(**changes)


def same(one, other):
    """Whether two kept windows are equal, arrays bit for bit."""
    waves = [None if each.wave is None else (each.wave.shape, each.wave.tobytes()) for each in (one, other)]
    arrays = [(each.logp.dtype, each.logp.shape, each.logp.tobytes()) for each in (one, other)]
    plain = [repr(each[:10]) for each in (one, other)]
    return waves[0] == waves[1] and arrays[0] == arrays[1] and plain[0] == plain[1]


def spec(**changes):
    """A small buffer; values that the settings would refuse are let pass."""
    return BufferSpec.model_construct(**{**BufferSpec(max_bytes=10_000_000).model_dump(), **changes})


def batch(count, first=0, *, streams=4, flags=Flag.NONE, step_ns=PROFILE.window_ns):
    """`count` windows on the grid, number `first` and on in turn over `streams`, which do not overlap unless `step_ns` is less."""
    profile, rng = PROFILE, np.random.Generator(np.random.PCG64(first))
    samples = rng.normal(size=(1, profile.samples)).astype(np.float32)
    windows = []
    for n in range(first, first + count):
        stream = f"FDSN:XX_S{n % streams}__H_H_Z"
        start = (T0 // profile.window_ns + 1) * profile.window_ns + n // streams * step_ns
        found = window_id(stream, start, profile.label)
        rate = Fraction(profile.rate_hz)
        windows.append(
            Window(found, stream, start, start + profile.window_ns, rate, samples, 0, 0.0, Flag.NONE, {"file": n})
        )
    one = rng.normal(-20, 10, (1, *shape(profile))).astype(np.float32)
    logp = np.stack([one + n for n in range(count)])
    return Batch(tuple(windows), logp, (flags,) * count, np.full(count, 3.0), np.full(count, 1.0))


def events(of, cluster="C1", **changes):
    """The events of a batch; `cluster` may be a function of the row."""
    return [
        Event(
            window_id=window.window_id,
            stream=window.stream,
            start_ns=window.start_ns,
            end_ns=window.end_ns,
            sampling_rate=100.0,
            profile="seismic/1",
            model=1,
            cluster=cluster(row) if callable(cluster) else cluster,
            name=None,
            memberships={},
            novelty=0.1,
            is_novel=False,
            peak=3.0,
            rms=1.0,
            gap_fraction=0.0,
        )._replace(**changes)
        for row, window in enumerate(of.windows)
    ]


NAN = math.nan
