"""An upload that an operator lets the daemon learn from: its windows in the daemon's profile, as messages of kept windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from streamclust.core.clock import Clock
from streamclust.core.errors import UsageError
from streamclust.core.types import NO_TRAINING
from streamclust.lab.upload_readers import Recording
from streamclust.lab.upload_work import Wanted, opened
from streamclust.signal.grid import window_id
from streamclust.store.kept import Kept, packed
from streamclust.store.laid import LARGEST, framed

FILE: Final = "learn.kept"
MOST: Final = 2000
"""Windows of one upload."""


def write(folder: Path, recording: Recording, wanted: Wanted, stream: str, clock: Clock) -> dict[str, Any]:
    """Write the windows that are fit to learn from to `FILE`, each with its length in front; return how many.

    Raises
    ------
    UsageError
        There is none, or the recording does not fit the daemon's profile.
    """
    if wanted.spec is None:
        raise UsageError("learn: there must be a daemon's profile (got none)")
    spec, count, left = wanted.spec, 0, 0
    streams: dict[str, str] = {}
    with (folder / "out" / FILE).open("wb") as file:
        for batch in opened(recording, spec, wanted.windows, clock).batches():
            for row, window in enumerate(batch.windows):
                if batch.flags[row] & NO_TRAINING or count >= MOST or not np.isfinite(batch.logp[row]).all():
                    left += 1
                    continue
                name = streams.setdefault(window.stream, f"{stream}/{len(streams) + 1}" if streams else stream)
                kept = Kept(
                    window_id(name, window.start_ns, spec.label), name, window.start_ns, window.end_ns, None, None, None,
                    False, float(batch.peak[row]), float(batch.rms[row]), batch.logp[row].astype(np.float16),  # noqa: FBT003 — is_novel
                    None if batch.wave is None else batch.wave[row],
                )  # fmt: skip
                message = framed(packed(kept, spec.digest))
                if file.tell() + len(message) > LARGEST:
                    left += 1
                    continue
                file.write(message)
                count += 1
    if not count:
        raise UsageError(f"learn: there must be a window to learn from (got {left} that are not fit)")
    return {"windows": count, "left_out": left}
