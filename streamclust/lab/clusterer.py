"""`Clusterer`: windows in arrays, scikit-learn's manners, the same engine as the commands and the daemon."""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from streamclust.core.auto_profile import named
from streamclust.core.errors import UsageError
from streamclust.core.profiles import PROFILES
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32
from streamclust.lab import models
from streamclust.lab.arrays import Arrays, checked
from streamclust.lab.data import Dataset, collected, open_arrays

STREAM = "array"
"""Stream id of windows that come in an array."""
_PARAMETERS = ("fs", "profile", "clusters", "method", "seed", "time_budget_s")


class Clusterer:
    """Cluster windows of signals, without labels.

    Parameters
    ----------
    fs
        Sampling rate, Hz.
    profile
        ``auto`` makes one for the length and rate of the windows; or a built-in name, or a `ProfileSpec`.
    clusters
        Their number, or ``auto``.
    method
        A name of `streamclust.train.methods`, or ``auto``.
    seed
        Of every random choice: the same data and seed give the same model.
    time_budget_s
        Training stops when this is over; None is no limit.

    Attributes
    ----------
    labels_
        Shape (N,): index into `cluster_names_`; -1 for windows that cannot be clustered (constant, NaN).
    memberships_
        Shape (N, K).
    embeddings_
        Shape (N, D).
    cluster_names_
        K lasting ids.
    n_features_in_
        Samples of a window.
    profile_
        The profile in use, and `chosen_`, a sentence about it.
    result_
        All that the fit says (`streamclust.train.fit.FitResult`); `bundle_` is its model.

    Examples
    --------
    >>> import numpy as np
    >>> from streamclust import Clusterer
    >>> rng = np.random.default_rng(0)
    >>> time = np.arange(128) / 100
    >>> X = rng.normal(size=(80, 128)) + 5 * np.sin(2 * np.pi * np.repeat([5, 20], 40)[:, None] * time)
    >>> model = Clusterer(fs=100.0, clusters=2, method="kmeans").fit(X)
    >>> len(set(model.labels_[:40])), len(set(model.labels_[40:])), len(set(model.labels_))
    (1, 1, 2)
    >>> model.predict_proba(X[:3]).shape
    (3, 2)
    """

    _estimator_type = "clusterer"

    def __init__(
        self,
        fs: float = 100.0,
        *,
        profile: str | ProfileSpec = "auto",
        clusters: int | Literal["auto"] = "auto",
        method: str = "auto",
        seed: int = 0,
        time_budget_s: float | None = None,
    ) -> None:
        self.fs = fs
        self.profile = profile
        self.clusters = clusters
        self.method = method
        self.seed = seed
        self.time_budget_s = time_budget_s

    def __repr__(self) -> str:
        """As it would be made."""
        return f"Clusterer({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"

    def __sklearn_tags__(self) -> Any:
        """Say what scikit-learn asks of an estimator."""
        from sklearn.utils import InputTags, Tags, TargetTags

        inputs = InputTags(two_d_array=True, three_d_array=True, allow_nan=True)
        return Tags(estimator_type="clusterer", target_tags=TargetTags(required=False), input_tags=inputs)

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 — scikit-learn calls it so
        """Return the parameters of the constructor."""
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **params: Any) -> Self:
        """Change parameters; what was fitted stays until the next fit.

        Raises
        ------
        ValueError
            There is no such parameter.
        """
        for name, value in params.items():
            if name not in _PARAMETERS:
                raise ValueError(f"Clusterer has the parameters {', '.join(_PARAMETERS)} (got {name})")
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002, N803 — scikit-learn's names; labels are never looked at
        """Fit a model.

        Parameters
        ----------
        X
            Windows, shape (N, n) or (N, C, n).

        Raises
        ------
        UsageError
            `X` is not that, or a parameter cannot be.
        ModelError
            The windows make no clusters.
        """
        from streamclust.train.fit import FitOptions, fit

        x = checked(X)
        options = FitOptions(
            clusters=_clusters(self.clusters),
            method=_method(self.method),
            seed=_whole("seed", self.seed, 0),
            time_budget_s=None if self.time_budget_s is None else _positive("time_budget_s", self.time_budget_s),
        )
        data = self._windows(x, _profile(self.profile))
        self.result_ = fit(data.training(), options)
        self.bundle_ = self.result_.bundle
        self.profile_, self.chosen_ = data.profile, data.chosen
        self.cluster_names_ = self.bundle_.clusters
        self.n_features_in_ = x.shape[2]
        found = models.assigned(self.bundle_, data)
        self.labels_, self.memberships_, self.embeddings_ = found.labels, found.memberships, found.embeddings
        return self

    def fit_predict(self, X: Any, y: Any = None) -> NDArray[np.int64]:  # noqa: N803 — scikit-learn's name
        """Fit, and return the clusters (N,) of the same windows."""
        return self.fit(X, y).labels_

    def fit_transform(self, X: Any, y: Any = None) -> F32:  # noqa: N803 — scikit-learn's name
        """Fit, and return the embeddings (N, D) of the same windows."""
        return self.fit(X, y).embeddings_

    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: N803 — scikit-learn's name
        """Return the cluster (N,) of each window, an index into `cluster_names_`; -1 for what cannot be clustered."""
        return self._assigned(X).labels

    def predict_proba(self, X: Any) -> F32:  # noqa: N803 — scikit-learn's name
        """Return the memberships (N, K); NaN for what cannot be clustered."""
        return self._assigned(X).memberships

    def transform(self, X: Any) -> F32:  # noqa: N803 — scikit-learn's name
        """Return the embeddings (N, D); NaN for what cannot be clustered."""
        return self._assigned(X).embeddings

    def novelty(self, X: Any) -> F32:  # noqa: N803 — scikit-learn's name
        """Return how far each window lies outside the training data, shape (N,), 0 to 1."""
        return self._assigned(X).novelty

    def save(self, where: str | Path) -> None:
        """Write the model to a directory, as ``streamclust fit`` does.

        Raises
        ------
        UsageError
            There is something else, or nothing was fitted.
        """
        self._fitted()
        models.check_out(Path(where))
        models.write(Path(where), self.bundle_.to_bytes())

    def _assigned(self, X: Any) -> models.Assigned:  # noqa: N803 — scikit-learn's name
        self._fitted()
        return models.assigned(self.bundle_, self._windows(checked(X), self.profile_))

    def _fitted(self) -> None:
        if not hasattr(self, "bundle_"):
            raise UsageError("Clusterer: must be fitted first (got an unfitted one)")

    def _windows(self, x: NDArray[Any], profile: ProfileSpec | None) -> Dataset:
        return collected(open_arrays(Arrays(STREAM, x, _positive("fs", self.fs)), profile))


def _profile(name: str | ProfileSpec) -> ProfileSpec | None:
    """Return a profile by its name; None for ``auto``."""
    if isinstance(name, ProfileSpec):
        return name
    if isinstance(name, str) and name == "auto":
        return None
    found = named(name) if isinstance(name, str) else None
    if found is None:
        raise UsageError(f"profile: must be auto or one of {', '.join(sorted(PROFILES))} (got {name})")
    return found


def _method(name: Any) -> str:
    """Return the name of a method."""
    from streamclust.train.methods import NAMES

    if not isinstance(name, str) or name not in {"auto", *NAMES}:
        raise UsageError(f"method: must be auto or one of {', '.join(NAMES)} (got {name!r})")
    return name


def _clusters(value: Any) -> int | Literal["auto"]:
    """Return a number of clusters, or ``auto``."""
    if isinstance(value, str) and value == "auto":
        return "auto"
    return _whole("clusters", value, 2, "auto or ")


def _whole(name: str, value: Any, least: int, other: str = "") -> int:
    """Return a whole number of at least `least`; `other` says what else there may be."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral) or value < least:
        raise UsageError(f"{name}: must be {other}a whole number >= {least} (got {value!r})")
    return int(value)


def _positive(name: str, value: Any) -> float:
    """Return a finite number > 0."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real) or not 0 < float(value) < float("inf"):
        raise UsageError(f"{name}: must be a finite number > 0 (got {value!r})")
    return float(value)
