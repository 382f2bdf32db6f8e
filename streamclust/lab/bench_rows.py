"""The rows of a comparison: what each one runs on a labelled set, and what it scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.clock import Clock
from streamclust.core.errors import MissingExtra, StreamclustError
from streamclust.core.types import F32, F64
from streamclust.lab import evaluate
from streamclust.lab.bench_sets import LabelledSet
from streamclust.model.features import ENCODER, SPECTROGRAM, WAVEFORM, WAVEFORM_ENCODER
from streamclust.model.methods.common import FitSettings
from streamclust.train.fit import FitOptions, TrainingData, fit
from streamclust.train.methods import METHODS, NAMES
from streamclust.train.prepare import prepare, wanted

SCORES = ("nmi", "acc", "balanced_acc", "ari")
DEFAULT, DEFAULT_K_AUTO = "default", "default_k_auto"
COMPONENTS = 16
"""Principal components that the baselines see."""
IMAGE_DIMENSIONS = 10
"""Of embeddings of images, as in the published tables."""
IMAGE_STEPS = 2000
"""Of the autoencoder of dec and idec on images, about."""
IMAGE_EPOCHS = 30
"""Of the clustering phase of dec and idec on images, at most."""
WIDEST, NARROWED = 256, 64
"""Images of more pixels than the first are given to dec and idec as so many principal components: hours else."""
ROW_ERRORS = (StreamclustError, ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, MemoryError)
"""What may go wrong in one row without ending the others."""

_BASELINES = MappingProxyType(
    {
        "kmeans_raw": "k-means, PCA-16 of samples",
        "gmm_raw": "GMM, PCA-16 of samples",
        "kmeans_spectrogram": "k-means, PCA-16 of log spectrogram",
        "gmm_spectrogram": "GMM, PCA-16 of log spectrogram",
        f"kmeans_{SPECTROGRAM}_block": "k-means, PCA-16 of the encoder's input",
        f"kmeans_{ENCODER}_block": "k-means, PCA-16 of the encoder's embedding",
        f"kmeans_{WAVEFORM}_block": "k-means, PCA-16 of the waveform encoder's input",
        f"kmeans_{WAVEFORM_ENCODER}_block": "k-means, PCA-16 of the waveform encoder's embedding",
    }
)
TITLES: Mapping[str, str] = MappingProxyType(
    {
        **_BASELINES,
        **{name: f"`{name}`" for name in NAMES},
        DEFAULT: "**default**, k given",
        DEFAULT_K_AUTO: "**default**, k auto",
    }
)
"""Row -> what a person reads; in the order of the table."""


@dataclass(frozen=True, slots=True)
class Run:
    """One row on one set with one seed: scores, or why there are none."""

    set: str
    row: str
    seed: int
    windows: int
    classes: int
    clusters: int = 0
    """How many the row was given or found."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Name of `SCORES` -> value."""
    faked: Mapping[str, float] = field(default_factory=dict)
    """Source (station, ...) -> NMI of the clusters against it; beside it that of the classes, as ``classes:station``."""
    notes: Mapping[str, float | str] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)


class _Made(NamedTuple):
    labels: NDArray[Any]
    """Shape (N,)."""
    clusters: int
    notes: Mapping[str, float | str] = MappingProxyType({})


def rows_for(found: LabelledSet, methods: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the rows that a set can have, the longest ones first; baselines are always among them.

    Parameters
    ----------
    methods
        Names of methods and defaults; None for all.
    """
    asked = set(TITLES) if methods is None else {*methods, *_BASELINES}
    can = {"kmeans_raw", "gmm_raw", *NAMES}
    if found.data is not None:
        can |= {"kmeans_spectrogram", "gmm_spectrogram", DEFAULT, DEFAULT_K_AUTO, *_blocks(found.data)}
    return tuple(row for row in reversed(tuple(TITLES)) if row in asked & can)


def run_row(found: LabelledSet, row: str, seed: int, clock: Clock) -> Run:
    """Run one row; what goes wrong is in the result."""
    began = clock.monotonic()
    blank = partial(Run, found.name, row, seed, len(found.y), found.classes)
    try:
        made = _how(found, row)(seed)
    except ImportError as error:
        return blank(error=f"{error.name} is not installed")
    except MissingExtra as error:
        missing = row == "umap_gmm" and find_spec("umap") is None
        return blank(error="umap-learn is not installed" if missing else str(error))
    except ROW_ERRORS as error:
        said = " ".join(str(error).split())
        return blank(error=f"{type(error).__name__}: {said}"[:300], seconds=clock.monotonic() - began)
    took = clock.monotonic() - began
    return blank(
        clusters=made.clusters,
        scores=evaluate.with_labels(found.y, made.labels),
        faked=_faked(found, made.labels),
        notes=dict(made.notes),
        seconds=round(took, 2),
    )


def _faked(found: LabelledSet, labels: NDArray[Any]) -> dict[str, float]:
    told: dict[str, float] = {}
    for key, names in found.sources.items():
        told[key] = evaluate.nmi(evaluate.table(names, labels))
        told[f"classes:{key}"] = evaluate.nmi(evaluate.table(names, found.y))
    return told


def _how(found: LabelledSet, row: str) -> Callable[[int], _Made]:
    """Return what a row does with a seed."""
    if row in _BASELINES:
        mixture = row.startswith("gmm")
        return lambda seed: _baseline(_seen(found, row), found.classes, seed, mixture=mixture)
    if found.data is None:
        return partial(_on_images, found, row)
    method = "auto" if row in {DEFAULT, DEFAULT_K_AUTO} else row
    clusters: int | Literal["auto"] = "auto" if row == DEFAULT_K_AUTO else found.classes
    return partial(_whole_fit, found.data, method, clusters)


def _seen(found: LabelledSet, row: str) -> F32:
    """Return what a baseline looks at, shape (N, any)."""
    if row.endswith("_raw") or found.data is None:
        return found.rows
    if row.endswith("_spectrogram"):
        return found.data.logp.reshape(len(found.data.logp), -1)
    rng = np.random.default_rng(0)  # noqa: TID251 — principal components of all windows depend on no seed
    data = found.data
    prepared = prepare(data.logp, data.wave, data.streams, data.profile, rng)
    rows = prepared.features(data.logp, data.wave, data.streams).rows
    at = 0
    for block in prepared.features.blocks:
        if row == f"kmeans_{block.name}_block":
            return rows[:, at : at + len(block.components)]
        at += len(block.components)
    raise ValueError("the windows do not differ in it")


def _blocks(data: TrainingData) -> set[str]:
    """Return the rows that compare an encoder with its input."""
    kinds = {encoder.kind for encoder in wanted(data.profile)}
    pairs = {"spectrogram": (SPECTROGRAM, ENCODER), "waveform": (WAVEFORM, WAVEFORM_ENCODER)}
    return {f"kmeans_{name}_block" for kind in kinds for name in pairs.get(kind, ())}


def _baseline(x: F32, clusters: int, seed: int, *, mixture: bool) -> _Made:
    """k-means or a full-covariance mixture on principal components, all by scikit-learn."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    z: F64 = PCA(min(COMPONENTS, *x.shape), random_state=seed).fit_transform(x.astype(np.float64))
    if not mixture:
        return _Made(KMeans(clusters, n_init=10, random_state=seed).fit_predict(z), clusters)
    floor = 1e-4 * float(z.var(axis=0).mean())
    found = GaussianMixture(clusters, n_init=3, reg_covar=floor, max_iter=300, random_state=seed)
    return _Made(found.fit_predict(z), clusters)


def _on_images(found: LabelledSet, method: str, seed: int) -> _Made:
    """One method on the pixels themselves."""
    rng = np.random.default_rng(seed)  # noqa: TID251 — the owner of the seed
    per_epoch = max(1, len(found.rows) // 256)
    settings = FitSettings(
        dimensions=IMAGE_DIMENSIONS, epochs=IMAGE_EPOCHS, pretrain_epochs=max(1, IMAGE_STEPS // per_epoch)
    )
    rows, notes = found.rows, dict[str, float | str]()
    if method in {"dec", "idec"} and rows.shape[1] > WIDEST:
        from sklearn.decomposition import PCA

        rows = np.asarray(PCA(NARROWED, random_state=seed).fit_transform(rows), np.float32)
        notes["features"] = f"{NARROWED} principal components"
    made = METHODS[method](rows, found.classes, rng, settings)
    return _Made(made.labels, found.classes, {**notes, **made.notes, "stop": made.stop})


def _whole_fit(data: TrainingData, method: str, clusters: int | Literal["auto"], seed: int) -> _Made:
    """`fit` as a user calls it; windows without a cluster count as one more."""
    made = fit(data, FitOptions(clusters, method, seed))
    notes: dict[str, float | str] = {"method": made.method, "stop": made.stop, "why": made.why}
    calibration = made.evidence.get("calibration")
    if isinstance(calibration, Mapping):
        notes["calibration_error"] = calibration["after"]["error"]
    agreement = made.bundle.card.get("notes", {}).get("distilled_agreement")
    if agreement is not None:
        notes["distilled_agreement"] = agreement
    return _Made(made.labels, len(made.bundle.clusters), notes)
