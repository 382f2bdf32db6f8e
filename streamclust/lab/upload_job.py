"""One upload from its bytes to its files; errors become one line for the person who sent it."""

from __future__ import annotations

from collections.abc import Callable
from errno import ENOSPC
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import ValidationError

from streamclust.core.clock import SystemClock
from streamclust.core.errors import StreamclustError
from streamclust.core.specs import ProfileSpec, WindowsSpec
from streamclust.lab import jail, upload_learn, upload_output, upload_pictures, upload_work
from streamclust.lab.upload_readers import Recording, read
from streamclust.lab.upload_traces import Asked, Limits
from streamclust.lab.upload_work import Outcome, Wanted

if TYPE_CHECKING:
    from streamclust.lab.upload import Job, Teller

Progress = Callable[[str, float], None]
_UNFORESEEN = (
    ArithmeticError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What a library may raise of a recording that no check of ours foresaw."""
WITHOUT_TORCH: Final = "gmm"
"""The method where torch is not there, or does not fit into the address space."""


def run(job: Job, folder: Path, teller: Teller) -> int:
    """Work, and tell the outcome; returns 0."""
    try:
        teller.tell(done=_done(job, folder, teller.progress))
    except StreamclustError as error:
        teller.tell(error=str(error)[:500])
    except MemoryError:
        teller.tell(error=f"it needs more memory than the {job.memory_bytes >> 20} MiB that an upload may have")
    except _UNFORESEEN as error:
        full = isinstance(error, OSError) and error.errno == ENOSPC
        words = (
            "the disk is too full now; try again later" if full else f"it cannot be worked on ({type(error).__name__})"
        )
        teller.tell(error=words, detail=repr(error)[:300])
    return 0


def _done(job: Job, folder: Path, report: Progress) -> dict[str, Any]:
    report("reading", 0.0)
    asked = Asked(job.label, job.rate, Limits(job.max_samples, job.max_rate))
    recording = read((folder / "input.bin").read_bytes(), job.format, asked)
    report("reading", 1.0)
    wanted = _wanted(job)
    if wanted.mode == "learn":
        return upload_learn.write(folder, recording, wanted, job.stream, SystemClock())
    outcome = upload_work.work(recording, wanted, report, SystemClock(), partial(_ready, job.memory_bytes))
    return _written(folder / "out", outcome, recording, report)


def _wanted(job: Job) -> Wanted:
    try:
        spec = None if job.spec is None else ProfileSpec.model_validate(job.spec)
        windows = None if job.windows is None else WindowsSpec.model_validate(job.windows)
    except ValidationError as error:
        raise ValueError("the daemon's settings") from error
    mode: Any = job.mode
    clusters: Any = job.clusters
    channels: Any = job.channels
    return Wanted(
        mode, job.profile, clusters, job.seconds, spec, windows, None if job.model is None else Path(job.model),
        job.known or {}, channels,
    )  # fmt: skip


def _ready(memory_bytes: int, *, learns: bool) -> str:
    """Settle the address space for the work itself, after torch was loaded where a fit may want it; return the method.

    Torch takes more address space than memory, so there is more of it for as long as it is loaded; where even that is not enough,
    windows are clustered without it.
    """
    method = WITHOUT_TORCH
    if learns and find_spec("torch") is not None:
        jail.allow_memory()
        try:
            _load_torch()
            method = "auto"
        except (ImportError, OSError, MemoryError):
            pass  # the smaller method does without
    jail.settle_memory(memory_bytes)
    return method


def _load_torch() -> None:
    import torch

    torch.set_num_threads(1)


def _written(out: Path, outcome: Outcome, recording: Recording, report: Progress) -> dict[str, Any]:
    report("drawing", 0.0)
    with np.errstate(all="ignore"):
        clusters = upload_output.infos(outcome)
        whole = upload_output.result(outcome, clusters)
        upload_output.write(out, outcome, whole)
        report("drawing", 0.2)
        upload_pictures.write_windows(out, outcome, whole)
        if recording.traces:
            upload_pictures.write_waves(out, recording.traces)
            upload_pictures.write_spectrograms(out, outcome)
        report("drawing", 0.5)
        upload_pictures.write_image(out, outcome, whole)
        report("report", 0.0)
        upload_output.write_report(out, outcome)
    report("report", 1.0)
    return upload_output.summary(whole)
