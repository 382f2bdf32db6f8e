"""The clustering methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from streamclust.model.methods import dec, gmm, idec, kmeans, manifold, umap_gmm
from streamclust.model.methods.common import Fit

METHODS: Mapping[str, Fit] = MappingProxyType(
    {
        "kmeans": kmeans.fit,
        "gmm": gmm.fit,
        "dec": dec.fit,
        "idec": idec.fit,
        "umap_gmm": umap_gmm.fit,
        "manifold": manifold.fit,
    }
)
"""Name -> method; each keeps what `common.Fit` promises."""
NAMES: tuple[str, ...] = tuple(METHODS)
