"""A model as a directory of its own: written by ``fit``, read by ``assign`` and ``evaluate``; and scores of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import UsageError
from streamclust.core.types import F32
from streamclust.lab.data import Dataset
from streamclust.model.bundle import MANIFEST, TENSORS, Bundle, from_bytes
from streamclust.model.score import Scorer
from streamclust.store.durable import make_dir, write_file

NOVEL_ABOVE = 0.995
"""A window with a higher novelty is novel."""


@dataclass(frozen=True, slots=True, eq=False)
class Assigned:
    """What a model says of N windows; windows that cannot have a cluster have -1 and NaN."""

    labels: NDArray[np.int64]
    """Shape (N,): index into `Bundle.clusters`, or -1."""
    memberships: F32
    """Shape (N, K), or NaN."""
    embeddings: F32
    """Shape (N, D), or NaN."""
    novelty: F32
    """Shape (N,), or NaN."""


def check_out(out: Path) -> None:
    """Return when a model may be written to `out`.

    Raises
    ------
    UsageError
        There is something else.
    """
    blocking = next((path for path in (out, *out.parents) if path.is_file()), None)
    if blocking is not None:
        raise UsageError(f"--out: must be a directory (got the file {blocking})")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise UsageError(f"--out: must be new, empty, or hold an earlier model (got {out})")


def write(out: Path, files: Mapping[str, bytes]) -> None:
    """Write a model's files, the manifest last: it carries the hash of the tensors.

    Raises
    ------
    SinkUnavailable, DurabilityError
        The disk does not take them.
    """
    make_dir(out)
    for name in sorted(files, key=lambda name: name == MANIFEST):
        write_file(out / name, files[name])


def read(where: Path) -> Bundle:
    """Read a model.

    Raises
    ------
    UsageError
        There is none.
    CorruptModel
        It is damaged, or of another format.
    """
    if not (where / MANIFEST).is_file():
        raise UsageError(f"--model: must be a directory with {MANIFEST} (got {where})")
    return from_bytes({name: (where / name).read_bytes() for name in (MANIFEST, TENSORS) if (where / name).is_file()})


def assigned(bundle: Bundle, data: Dataset) -> Assigned:
    """Score all windows of a data set.

    Raises
    ------
    ModelError
        The windows have another shape or profile than the model's.
    """
    rows = np.flatnonzero(data.assignable)
    wave = None if data.wave is None else data.wave[rows]
    scorer = Scorer(bundle, data.profile, NOVEL_ABOVE)
    scores = scorer.score(data.logp[rows], [data.streams[row] for row in rows], wave)
    labels = np.full(len(data), -1, np.int64)
    labels[rows] = scores.cluster
    wide = [_spread(part, rows, len(data)) for part in (scores.memberships, scores.embeddings, scores.novelty)]
    return Assigned(labels, *wide)


def _spread(part: F32, rows: NDArray[np.intp], count: int) -> F32:
    """Rows (R, ...) at their places among `count`, NaN elsewhere."""
    out = np.full((count, *part.shape[1:]), np.nan, np.float32)
    out[rows] = part
    return out
