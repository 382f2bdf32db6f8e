"""What the retrain loop is compared with: no retraining, scikit-learn's MiniBatchKMeans, River's DBSTREAM and STREAMKMeans."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from river.cluster import DBSTREAM, STREAMKMeans
from sklearn.cluster import MiniBatchKMeans

from streamclust.core.types import F64

_RADII = 12


class Rival(Protocol):
    """Clusters embeddings that come day by day."""

    def place(self, z: F64) -> NDArray[np.int64]:
        """Ids of rows (N, D), shape (N,)."""

    def learn(self, z: F64) -> None:
        """Take the rows of a day, (N, D)."""


class KMeans:
    """MiniBatchKMeans, begun on the first rows with ten starts; `partial_fit` once a day."""

    def __init__(self, first: F64, clusters: int, seed: int) -> None:
        self._fit = MiniBatchKMeans(clusters, n_init=10, random_state=seed, batch_size=256).fit(first)

    def place(self, z: F64) -> NDArray[np.int64]:
        """As `Rival.place`."""
        return np.asarray(self._fit.predict(z), np.int64)

    def learn(self, z: F64) -> None:
        """As `Rival.learn`."""
        self._fit.partial_fit(z)


class Dbstream:
    """DBSTREAM; of radii around that of the clusters, the one that finds as many clusters in the first rows as there are."""

    def __init__(self, first: F64, clusters: int, seed: int) -> None:
        del seed
        inside = KMeans(first, clusters, 0)
        centre = np.stack([first[inside.place(first) == k].mean(axis=0) for k in np.unique(inside.place(first))])
        usual = float(np.median(np.sqrt(np.square(first[:, None] - centre).sum(axis=2).min(axis=1))))
        radii = usual * np.geomspace(0.3, 3, _RADII)
        tried = [self._begun(float(radius), first) for radius in radii]
        gaps = [abs(len(np.unique(self._placed(one, first))) - clusters) for one in tried]
        self._model = tried[int(np.argmin(gaps))]

    def place(self, z: F64) -> NDArray[np.int64]:
        """As `Rival.place`."""
        return self._placed(self._model, z)

    def learn(self, z: F64) -> None:
        """As `Rival.learn`."""
        for row in z:
            self._model.learn_one(_named(row))

    @staticmethod
    def _begun(radius: float, first: F64) -> DBSTREAM:
        model = DBSTREAM(
            clustering_threshold=radius,
            fading_factor=0.001,
            cleanup_interval=50,
            intersection_factor=0.3,
            minimum_weight=2,
        )
        for row in first:
            model.learn_one(_named(row))
        return model

    @staticmethod
    def _placed(model: DBSTREAM, z: F64) -> NDArray[np.int64]:
        return np.array([model.predict_one(_named(row)) for row in z], np.int64)


class Streamkmeans:
    """STREAMKMeans, begun around the mean of the first rows."""

    def __init__(self, first: F64, clusters: int, seed: int) -> None:
        scale = float(first.std(axis=0).mean())
        self._mean = first.mean(axis=0)
        self._model = STREAMKMeans(chunk_size=25, n_clusters=clusters, halflife=0.5, sigma=scale, seed=seed)
        self.learn(first)

    def place(self, z: F64) -> NDArray[np.int64]:
        """As `Rival.place`."""
        return np.array([self._model.predict_one(_named(row)) for row in z - self._mean], np.int64)

    def learn(self, z: F64) -> None:
        """As `Rival.learn`."""
        for row in z - self._mean:
            self._model.learn_one(_named(row))


def _named(row: F64) -> dict[int, float]:
    return dict(enumerate(row.tolist()))
