"""Which parts of the features a model looks at, and by which method: the choice, and heads that leave parts out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.types import F32
from streamclust.model.assigner import Assigner, Head, Layer
from streamclust.model.features import POOLED, Block
from streamclust.train.choose import choose_method

WHOLE = "whole"
PROVISIONAL_CLUSTERS = 5
"""Clusters with which views and methods are compared while their number is not known."""
POOLED_MARGIN = 0.15
"""Fits to the pooled view must agree by this much more for it to be taken."""
MIXTURE_MARGIN = 0.3
"""The same for a plain mixture: it is often stable in what it gets wrong (0.83 on patterns of which it found nothing)."""
LEAST_FOR_HALVES = 20
"""Windows a cluster that there must be for fits to halves of them to be compared."""
JUDGES = ("kmeans", "gmm", "manifold")
"""Methods that judge a view for themselves; for the others, which take long, `manifold` does."""

Fit = Callable[[str, F32, int, np.random.Generator], Assigner]
"""Method, features (N, P), clusters, rng -> what it leaves behind."""


class Choice(NamedTuple):
    """A method, and the part of the features that it sees."""

    method: str
    view: str
    columns: NDArray[np.intp]
    """Of the features, ascending."""
    stability: Mapping[str, float]
    """Candidate -> adjusted Rand index of fits to random halves; empty when nothing was compared."""


def views(blocks: tuple[Block, ...]) -> Mapping[str, NDArray[np.intp]]:
    """Columns of each view: `whole`, and `pooled` where there is such a block.

    Windows of a grid begin at no event: that something comes early or late in the window says nothing then, but
    it is what the whole view sees first. The pooled one does not see it.
    """
    widths = [len(block.components) for block in blocks]
    starts = np.concatenate([[0], np.cumsum(widths)])
    found = {WHOLE: np.arange(int(starts[-1]))}
    for block, start, width in zip(blocks, starts, widths, strict=False):
        if block.name == POOLED:
            found[POOLED] = np.arange(int(start), int(start) + width)
    return found


def choose(
    asked: str, features: F32, blocks: tuple[Block, ...], clusters: int | None, fit: Fit, rng: np.random.Generator
) -> Choice:
    """Choose the view, and the method where `asked` is ``auto``, by the stability of fits to random halves.

    Parameters
    ----------
    features
        Shape (N, P), in the columns of `blocks`.
    clusters
        None when their number is not known yet.

    Raises
    ------
    ModelError
        Nothing could be fitted.
    """
    seen = views(blocks)
    method = asked if asked != "auto" else "manifold" if find_spec("torch") else "gmm"
    judge = method if method in JUDGES else "manifold" if find_spec("torch") else "gmm"
    candidates = {name: (judge, columns) for name, columns in seen.items()}
    margins = {POOLED: POOLED_MARGIN, "gmm": MIXTURE_MARGIN}
    if asked == "auto" and method != "gmm":
        candidates["gmm"] = ("gmm", seen[WHOLE])
    count = clusters or PROVISIONAL_CLUSTERS
    if len(candidates) == 1 or len(features) < LEAST_FOR_HALVES * count:
        return Choice(method if len(features) >= LEAST_FOR_HALVES * count else _simple(asked), WHOLE, seen[WHOLE], {})

    def candidate(name: str) -> Callable[[F32, int, np.random.Generator], Assigner]:
        by, columns = candidates[name]
        return lambda rows, k, own: widened(fit(by, rows[:, columns], k, own), columns, rows.shape[1])

    best, table = choose_method(features, count, {name: candidate(name) for name in candidates}, rng, margins)
    view = best if best in seen else WHOLE
    return Choice("gmm" if best == "gmm" else method, view, seen[view], table)


def widened(assigner: Assigner, columns: NDArray[np.intp], width: int) -> Assigner:
    """Return the same assigner for features of `width` columns, of which it looks at some."""
    if len(columns) == width:
        return assigner
    first = assigner.head.layers[0]
    weight = np.zeros((len(first.weight), width), np.float32)
    weight[:, columns] = first.weight
    return replace(assigner, head=Head((Layer(weight, first.bias), *assigner.head.layers[1:])))


def _simple(asked: str) -> str:
    """Return what is fitted to few windows."""
    return "gmm" if asked == "auto" else asked
