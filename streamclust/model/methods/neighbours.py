"""A network that keeps neighbours together: parametric UMAP in torch.

McInnes, Healy, Melville (2018): UMAP, arXiv 1802.03426 (graph: section 3.1; loss: definition 12).
Sainburg, McInnes, Gentner (2021): Parametric UMAP embeddings, Neural Computation 33.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from streamclust.core.types import F32, F64
from streamclust.model.assigner import Head
from streamclust.model.methods import nets
from streamclust.model.methods.common import Checked, Deadline, FitSettings, Report, Stop

MAX_GRAPH_ROWS = 50_000
"""Neighbours are found among at most this many rows, drawn at random: the search takes time by their square."""
HIDDEN = (128, 128, 128)
NEGATIVES = 5
_BATCH = 256
_COVERAGE = 12.5
"""How often an edge of mean weight is drawn."""
_LEAST_STEPS, _MOST_STEPS = 2500, 4500
_WARM_SHARE = 0.25
_RATE = 5e-3
_A, _B = 1.93, 0.79
"""Shape of 1 / (1 + a d^2b) for a least distance of 0 (McInnes 2018, definition 11)."""
_BISECTIONS = 40
_REPORT_EVERY = 50


class Graph(NamedTuple):
    """Weighted edges between rows, each pair both ways."""

    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: F64
    """In (0, 1]."""


class Embedded(NamedTuple):
    """What training left."""

    head: Head
    stop: Stop
    history: tuple[float, ...]
    """Mean loss of every 50 steps."""


def strengths(distances: F64) -> F64:
    """Membership strengths (N, n) of each row's neighbours by their distances, nearest first.

    exp(-(d - rho) / sigma), rho the least distance and sigma such that they sum to log2 n (McInnes
    2018, algorithm 3); sigma is at least 1e-3 of the mean distance.
    """
    away = distances - distances[:, :1]
    wanted = np.log2(distances.shape[1])
    low, high = np.zeros(len(away)), np.full(len(away), np.inf)
    sigma = np.full(len(away), max(float(away.mean()), 1e-30))
    for _ in range(_BISECTIONS):
        large = np.exp(-away / sigma[:, None]).sum(axis=1) > wanted
        high, low = np.where(large, sigma, high), np.where(large, low, sigma)
        sigma = np.where(np.isinf(high), 2.0 * sigma, 0.5 * (low + np.where(np.isinf(high), 0.0, high)))
    least = max(1e-3 * float(distances.mean()), 1e-30)
    return np.asarray(np.exp(-away / np.maximum(sigma, least)[:, None]), np.float64)


def graph(rows: F32, neighbours: int) -> Graph:
    """Fuzzy union of each row's neighbourhood: a + b - ab for the two directions of an edge."""
    from scipy.sparse import csr_matrix
    from sklearn.neighbors import NearestNeighbors

    count = min(neighbours, max(2, len(rows) // 3), len(rows) - 1)
    distances, found = NearestNeighbors(n_neighbors=count + 1).fit(rows).kneighbors(rows)
    weights = strengths(np.asarray(distances[:, 1:], np.float64))
    sources = np.repeat(np.arange(len(rows)), count)
    one_way = csr_matrix((weights.ravel(), (sources, found[:, 1:].ravel())), shape=(len(rows), len(rows)))
    both = (one_way + one_way.T - one_way.multiply(one_way.T)).tocoo()
    return Graph(both.row.astype(np.int64), both.col.astype(np.int64), np.asarray(both.data, np.float64))


def attraction(d2: torch.Tensor) -> torch.Tensor:
    """-log of the closeness 1 / (1 + a d^2b) of neighbours."""
    return torch.log1p(_A * (d2 + 1e-6) ** _B)


def repulsion(d2: torch.Tensor) -> torch.Tensor:
    """-log of one minus the closeness of rows that are no neighbours."""
    closeness = 1.0 / (1.0 + _A * (d2 + 1e-6) ** _B)
    return -torch.log1p(1e-4 - closeness)


def steps_for(edges: Graph) -> int:
    """Return how many steps draw an edge of mean weight 12.5 times, within 2500 and 4500."""
    return int(np.clip(_COVERAGE * len(edges.weights) / _BATCH, _LEAST_STEPS, _MOST_STEPS))


def embed(
    data: Checked,
    dimensions: int,
    rng: np.random.Generator,
    settings: FitSettings,
    run: tuple[Head | None, Deadline, Report],
) -> Embedded:
    """Train the network on drawn edges against rows of other edges; `run` is the start, the deadline and the report.

    An edge is drawn in proportion to its weight times the mean weight of its rows. A start of the same
    shape is carried on for a quarter of the steps, at a quarter of the rate.
    """
    start, over, report = run
    report("neighbours", 0.0)
    by = nets.standard(data.rows)
    kept = np.arange(len(data.rows))
    if len(kept) > MAX_GRAPH_ROWS:
        kept = np.sort(rng.choice(len(kept), MAX_GRAPH_ROWS, replace=False))
    edges = graph(data.rows[kept], settings.neighbours)
    share = data.weights[kept]
    mass = edges.weights * 0.5 * (share[edges.sources] + share[edges.targets])
    sizes = (data.rows.shape[1], *HIDDEN, dimensions)
    steps, rate, net = settings.steps or steps_for(edges), _RATE, nets.new(sizes, rng)
    if start is not None and nets.same_shape(start, sizes):
        steps, rate, net = int(_WARM_SHARE * steps), _WARM_SHARE * rate, nets.from_head(start, by)
    stop, history = _trained(
        net, nets.scaled(data.rows[kept], by), edges._replace(weights=mass), rng, (steps, rate, over, report)
    )
    return Embedded(nets.to_head(net, by), stop, history)


def _trained(
    net: nets.Net,
    rows: torch.Tensor,
    edges: Graph,
    rng: np.random.Generator,
    plan: tuple[int, float, Deadline, Report],
) -> tuple[Stop, tuple[float, ...]]:
    steps, rate, over, report = plan
    optimiser = torch.optim.Adam(net.parameters, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1)
    cumulative = np.cumsum(edges.weights / edges.weights.sum())
    sources, targets = nets.indices(edges.sources), nets.indices(edges.targets)
    history: list[float] = []
    block = 0.0
    for step in range(steps):
        if over():
            return Stop.TIME, tuple(history)
        if step % _REPORT_EVERY == 0:
            report("embedding", step / steps)
        drawn = np.searchsorted(cumulative, rng.random(_BATCH)).clip(max=len(cumulative) - 1)
        at = nets.indices(drawn)
        loss = _loss(net, rows[torch.cat([sources[at], targets[at]])], rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        block += loss.item() / _REPORT_EVERY
        if step % _REPORT_EVERY == _REPORT_EVERY - 1:
            history.append(block)
            block = 0.0
    report("embedding", 1.0)
    return Stop.STEPS, tuple(history)


def _loss(net: nets.Net, pairs: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Cross-entropy of one batch: edges (first half, second half) against pairs of rows of different edges.

    Edges are drawn independently, so moving the second half round by any number of rows gives random pairs.
    """
    here, there = net(pairs).chunk(2)
    loss = attraction((here - there).square().sum(dim=1)).mean()
    moves = rng.choice(len(here) - 1, NEGATIVES, replace=False) + 1
    others = torch.stack([torch.roll(there, int(move), 0) for move in moves])
    return loss + NEGATIVES * repulsion((here - others).square().sum(dim=2)).mean()
