"""Which parts of the features a model looks at, and by which method: the choice, and heads that leave parts out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
"""Of windows that may be aligned to something, fits to the pooled view must agree by this much more for it to be taken."""
ROWS_A_FEATURE = 5
"""With fewer windows for each feature, the whole view must agree by `POOLED_MARGIN` more: it has several times as many."""
MIXTURE_MARGIN = 0.4
"""The same for a plain mixture: it is often stable in what it gets wrong (0.83 on patterns of which it found nothing),
and networks that are trained for a comparison only are less stable than they would be."""
LEAST_FOR_HALVES = 20
"""Windows a cluster that there must be for fits to halves of them to be compared."""
FEW_WINDOWS = 500
"""With fewer, one halving is chance: where fits by a quick method agreed by 1.00 in five of six, they did by -0.01 in the sixth."""
HALVINGS = 5
"""So often few windows are halved then. Networks are trained for minutes instead: they are compared once."""
QUICK = frozenset({"kmeans", "gmm"})
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
    why: str = ""
    """Why nothing was compared, where it could have been."""


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


def pooled_margin(rows: int, width: int, *, continuous: bool) -> float:
    """By how much fits to the pooled view must agree more than fits to the whole of `width` features.

    None of windows that lie side by side on a grid, which are aligned to nothing.
    """
    if rows < ROWS_A_FEATURE * width:
        return -POOLED_MARGIN
    return 0.0 if continuous else POOLED_MARGIN


def continuous(streams: Sequence[str], start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> bool:
    """Whether most of N windows begin before, or when, the one before them in their stream ends."""
    names = np.asarray(streams, dtype=np.str_)
    order = np.lexsort((start_ns, names))
    same = names[order][1:] == names[order][:-1]
    meets = start_ns[order][1:] <= end_ns[order][:-1]
    return bool(same.any()) and float(meets[same].mean()) > 0.5


def candidates(asked: str, blocks: tuple[Block, ...]) -> Mapping[str, tuple[str, NDArray[np.intp]]]:
    """Return what is compared: each view by the method that judges it, and a mixture where it may be the choice.

    By name: the method, and the columns that it sees. The first is taken unless another one is clearly better.
    """
    seen, method = views(blocks), _first(asked)
    judge = method if method in JUDGES else "manifold" if find_spec("torch") else "gmm"
    found = {name: (judge, columns) for name, columns in seen.items()}
    if asked == "auto" and method != "gmm":
        found["gmm"] = ("gmm", seen[WHOLE])
    return found


def halvings(rows: int, asked: str, blocks: tuple[Block, ...]) -> int:
    """How often so many windows are halved to compare the candidates."""
    return HALVINGS if rows < FEW_WINDOWS and {by for by, _ in candidates(asked, blocks).values()} <= QUICK else 1


def unchosen(asked: str, rows: int, blocks: tuple[Block, ...], clusters: int | None, why: str = "") -> Choice:
    """Return what is taken of so many rows when nothing is compared: the whole view, and the first method."""
    enough = rows >= LEAST_FOR_HALVES * (clusters or PROVISIONAL_CLUSTERS)
    simple = "gmm" if asked == "auto" else asked
    return Choice(_first(asked) if enough else simple, WHOLE, views(blocks)[WHOLE], {}, why)


def choose(  # noqa: PLR0913 — what a choice depends on
    asked: str,
    features: F32,
    blocks: tuple[Block, ...],
    clusters: int | None,
    fit: Fit,
    rng: np.random.Generator,
    *,
    margin: float = POOLED_MARGIN,
) -> Choice:
    """Choose the view, and the method where `asked` is ``auto``, by the stability of fits to random halves.

    Few windows are halved more than once, see `halvings`.

    Parameters
    ----------
    features
        Shape (N, P), in the columns of `blocks`.
    clusters
        None when their number is not known yet.

    margin
        Of the pooled view, see `pooled_margin`.

    Raises
    ------
    ModelError
        Nothing could be fitted.
    """
    seen = views(blocks)
    compared = candidates(asked, blocks)
    margins = {POOLED: margin, "gmm": MIXTURE_MARGIN}
    count = clusters or PROVISIONAL_CLUSTERS
    if len(compared) == 1 or len(features) < LEAST_FOR_HALVES * count:
        return unchosen(asked, len(features), blocks, clusters)

    def candidate(name: str) -> Callable[[F32, int, np.random.Generator], Assigner]:
        by, columns = compared[name]
        return lambda rows, k, own: widened(fit(by, rows[:, columns], k, own), columns, rows.shape[1])

    times = halvings(len(features), asked, blocks)
    made = {name: candidate(name) for name in compared}
    best, table = choose_method(features, count, made, rng, margins, halvings=times)
    view = best if best in seen else WHOLE
    return Choice("gmm" if best == "gmm" else _first(asked), view, seen[view], table)


def widened(assigner: Assigner, columns: NDArray[np.intp], width: int) -> Assigner:
    """Return the same assigner for features of `width` columns, of which it looks at some."""
    if len(columns) == width:
        return assigner
    first = assigner.head.layers[0]
    weight = np.zeros((len(first.weight), width), np.float32)
    weight[:, columns] = first.weight
    return replace(assigner, head=Head((Layer(weight, first.bias), *assigner.head.layers[1:])))


def _first(asked: str) -> str:
    """Return the method that is taken unless another one is clearly better."""
    return asked if asked != "auto" else "manifold" if find_spec("torch") else "gmm"
