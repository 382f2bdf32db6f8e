"""How far two partitions of the same windows agree, and which cluster of one is which of the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamclust.core.types import F64

Labels = NDArray[np.int64]


def contingency(a: Labels, b: Labels) -> F64:
    """Windows that have label i in `a` (N,) and j in `b` (N,), shape (max a + 1, max b + 1)."""
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(table, (a, b), 1.0)
    return table


def adjusted_rand(a: Labels, b: Labels) -> float:
    """Return the adjusted Rand index of two partitions (N,); see `adjusted_rand_of`."""
    return adjusted_rand_of(contingency(a, b))


def adjusted_rand_of(table: F64 | Labels) -> float:
    """Return the adjusted Rand index (Hubert, Arabie 1985, eq. 5) of a contingency table: 1 for the same partition.

    About 0 for chance. Two partitions of one cluster each, or of single windows each, are the same partition.
    """

    def pairs(counts: F64 | Labels) -> float:
        return float((counts * (counts - 1.0)).sum() / 2.0)

    together, in_a, in_b = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    every = pairs(np.array([float(table.sum())]))
    expected = in_a * in_b / every if every else 0.0
    most = 0.5 * (in_a + in_b)
    return 1.0 if most == expected else (together - expected) / (most - expected)


def matching(a: Labels, b: Labels, clusters: int) -> Labels:
    """For each label of `b` the label of `a` that it is matched to, shape (clusters,): one to one.

    Hungarian method (Kuhn 1955) on the windows that both labels share.
    """
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((clusters, clusters))
    np.add.at(table, (b, a), 1.0)
    return np.asarray(linear_sum_assignment(-table)[1], np.int64)


def halves(count: int, rng: np.random.Generator) -> tuple[Labels, Labels]:
    """Rows of two random halves of `count` rows, each ascending."""
    order = rng.permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])
