"""The program that works on one upload, locked in: ``python -m streamclust.lab.upload``; it is told by standard input.

What it reads there is one JSON object (`Job`); what it writes to standard output is one JSON object a line: ``step`` and
``share``, at last ``done`` or ``error``.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from streamclust.lab import jail

OUT: Final = "out"
_STEPS: Final = (
    ("reading", 0.0, 0.08), ("detecting", 0.08, 0.16), ("counting", 0.16, 0.3), ("features", 0.3, 0.36),
    ("selection", 0.36, 0.38), ("method", 0.38, 0.5), ("clusters", 0.5, 0.6), ("training", 0.6, 0.74),
    ("calibration", 0.74, 0.82), ("description", 0.82, 0.85), ("assigning", 0.5, 0.85), ("drawing", 0.85, 0.97),
    ("report", 0.97, 1.0),
)  # fmt: skip
"""Steps, and where on the way from 0 to 1 they begin and end."""
TORCH_BYTES: Final = 6 << 30
"""Address space that loading torch takes."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done, by whom we were started; see `web.upload_worker`."""

    folder: str
    """With ``input.bin``; results go below it."""
    format: str
    label: str
    mode: str
    profile: str
    clusters: int | str
    rate: float | None
    max_samples: int
    max_rate: float
    seconds: float
    memory_bytes: int
    file_bytes: int
    parent: int
    spec: dict[str, Any] | None = None
    windows: dict[str, Any] | None = None
    model: str | None = None
    known: dict[str, dict[str, str | None]] | None = None
    """Name and colour of the clusters of that model."""
    stream: str = "upload"
    """Under which windows are learnt."""
    channels: str = "separate"
    """``together``: they are the contacts of one probe."""


class Teller:
    """Writes lines; standard output belongs to it alone."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._out = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._share = 0.0

    def tell(self, **line: Any) -> None:
        """Write a line."""
        self._out.write(json.dumps(line).encode() + b"\n")

    def progress(self, step: str, share: float) -> None:
        """Tell how far a step is; never less than before."""
        whole = step.partition(":")[0]
        for name, begin, end in _STEPS:
            if name == whole:
                self._share = max(self._share, begin + (end - begin) * min(1.0, max(0.0, share)))
        self.tell(step=whole[:40], share=round(self._share, 4))


def main() -> int:
    """Do one job; return 0 when the outcome was told, whatever it is."""
    job = Job(**json.loads(sys.stdin.buffer.read()))
    bounds = jail.Bounds(int(2 * job.seconds) + 5, job.memory_bytes, job.file_bytes)
    locked = jail.bound(job.parent, bounds)
    teller = Teller()
    teller.tell(step="starting", share=0.0)
    run = _loaded()
    jail.confine_memory(job.memory_bytes, TORCH_BYTES)
    folder = Path(job.folder)
    readable = [] if job.model is None else [Path(job.model)]
    version = jail.lock(folder, readable)
    teller.tell(locked={"network": locked.network, "landlock": version, "capabilities": locked.capabilities})
    return run(job, folder, teller)


def _loaded() -> Callable[[Job, Path, Teller], int]:
    """Load what is needed before the process is locked in; all of it is ours, nothing is parsed yet."""
    warnings.simplefilter("ignore")
    from streamclust.lab.upload_job import run

    return run


if __name__ == "__main__":
    sys.exit(main())
