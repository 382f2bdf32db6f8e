"""Embeddings on two axes, for pictures: principal components, or UMAP where it is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import numpy as np

from streamclust.core.types import F32, F64


def principal(z: F32) -> tuple[F64, tuple[float, float]]:
    """First two principal components of (N, D): coordinates (N, 2), and their shares of the variance.

    Not `model.pca`: that one refuses rows that are alike, drops axes without variance and samples large sets, and a
    picture needs two axes of all its points. Signs are fixed (the largest weight is positive), so that the same data give the same picture.
    """
    centred = np.asarray(z, np.float64) - np.mean(z, axis=0, dtype=np.float64) if len(z) else np.zeros((0, 2))
    if centred.shape[1] < 2:
        centred = np.pad(centred, ((0, 0), (0, 2 - centred.shape[1])))
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes, kept = vectors[:, :-3:-1], values[:-3:-1]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), (0, 1)])
    total = max(float(values.sum()), np.finfo(np.float64).tiny)
    return centred @ (axes * signs), (float(kept[0] / total), float(kept[1] / total))


def umap(z: F32, seed: int) -> F32 | None:
    """UMAP of (N, D) on two axes (McInnes, Healy and Melville 2018); None where umap-learn is missing or N < 16."""
    if len(z) < 16 or find_spec("umap") is None:
        return None
    mapper = import_module("umap").UMAP(n_components=2, random_state=seed, n_jobs=1)
    found: F32 = np.asarray(mapper.fit_transform(z), np.float32)
    return found
