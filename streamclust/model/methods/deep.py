"""Deep embedded clustering in torch: an autoencoder, then its encoder pulled towards the sharpened memberships.

The formulas are those of `streamclust.model.dec`, which computes the target; here they are written so that
gradients pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from streamclust.core.types import F32, F64
from streamclust.model import dec
from streamclust.model.assigner import Assigner, Head
from streamclust.model.methods import nets
from streamclust.model.methods.common import Checked, Deadline, FitSettings, Report, Stop
from streamclust.model.methods.kmeans import centred
from streamclust.model.mixture import isotropic

BATCH = 256
UPDATE_STEPS = 140
"""The target is made anew after every epoch, and at least after so many steps (Xie 2016: 160, Guo 2017: 140)."""
_EPOCHS, _LEAST_STEPS, _MOST_STEPS = 100, 1000, 4000
"""Of the autoencoder alone: many rows need fewer epochs, few rows more."""
_PRETRAIN_RATE = 1e-3
_CLUSTER_RATE = 1e-3
_QUIET_UPDATES = 2


class Objective(NamedTuple):
    """Weights of the two terms of the loss (Guo 2017, eq. 4); DEC is (0, 1)."""

    reconstruction: float
    divergence: float


class Trained(NamedTuple):
    """What training left."""

    assigner: Assigner
    stop: Stop
    history: tuple[float, ...]
    """Mean divergence at each update of the target."""
    unexplained: float
    """Share of the rows' variance that the autoencoder leaves after its own training."""


class _Model(NamedTuple):
    """Encoder and decoder, the rows that they see, and their scale."""

    encoder: nets.Net
    decoder: nets.Net
    rows: torch.Tensor
    weights: torch.Tensor
    by: nets.Standard


def widths(inputs: int, dimensions: int) -> tuple[int, ...]:
    """Widths of the encoder: that of Xie (2016), 500-500-2000, for wide rows, smaller ones below 257 and 65 values."""
    if inputs <= 64:
        return (inputs, 128, 128, 256, dimensions)
    if inputs <= 256:
        return (inputs, 256, 256, 512, dimensions)
    return (inputs, 500, 500, 2000, dimensions)


def log_q(z: torch.Tensor, centroids: torch.Tensor, dof: float) -> torch.Tensor:
    """Logarithm of `dec.membership` (Xie 2016, eq. 1), shape (N, K)."""
    d2 = (z[:, None] - centroids).square().sum(dim=2)
    found: torch.Tensor = functional.log_softmax(-0.5 * (dof + 1.0) * torch.log1p(d2 / dof), dim=1)
    return found


def divergence(p: torch.Tensor, log_of_q: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """`dec.kl` divided by the number of rows (Xie 2016, eq. 2), each row by its weight."""
    each = torch.special.xlogy(p, p) - p * log_of_q
    mean: torch.Tensor = (each.sum(dim=1) * weights).sum() / weights.sum()
    return mean


def unexplained(x: torch.Tensor, again: torch.Tensor, variance: float, weights: torch.Tensor) -> torch.Tensor:
    """`dec.unexplained` of a batch, by the variance of all rows; each row by its weight."""
    each = (x - again).square().mean(dim=1)
    share: torch.Tensor = (each * weights).sum() / (weights.sum() * variance)
    return share


def target(q: F64, weights: F64, rho: float) -> F64:
    """`dec.target` of the whole buffer (Xie 2016, eq. 3), with f_j = sum_i w_i q_ij.

    A factor of a row cancels in its own target, so weighted memberships give weighted frequencies.
    """
    return dec.target(q * weights[:, None], rho)


def train(
    data: Checked,
    clusters: int,
    rng: np.random.Generator,
    settings: FitSettings,
    objective: Objective,
    run: tuple[Assigner | None, Deadline, Report],
) -> Trained:
    """Autoencoder, first centroids, clustering phase; `run` is the start, the deadline and the report.

    The latent is linear, and scaled so that rows are 1 from their centroid on average (root mean
    square): the width of the kernel then means the same on every data set.

    Raises
    ------
    ModelError
        Fewer distinct rows than clusters.
    """
    start, over, report = run
    sizes = widths(data.rows.shape[1], min(settings.dimensions, 10))
    model = _model(data, sizes, rng, None if start is None else start.head)
    left = _pretrained(model, rng, settings, over, report)
    z = nets.outputs(model.encoder, model.rows)
    first = centred(z, clusters, rng, settings.restarts, data, over)
    factor = 1.0 / (first.width * np.sqrt(z.shape[1]))
    nets.rescale_output(model.encoder, factor)
    with torch.no_grad():
        model.decoder.weights[0] /= factor
    centroids = torch.tensor(first.centroids * factor, dtype=torch.float32, requires_grad=True)
    stop, history = _clustered(model, centroids, rng, settings, objective, (over, report))
    mixture = isotropic(centroids.detach().numpy(), 1.0, settings.dof)
    return Trained(Assigner(nets.to_head(model.encoder, model.by), mixture), stop, history, left)


def _model(data: Checked, sizes: tuple[int, ...], rng: np.random.Generator, head: Head | None) -> _Model:
    by = nets.standard(data.rows)
    encoder = nets.new(sizes, rng)
    if head is not None and nets.same_shape(head, sizes):
        encoder = nets.from_head(head, by)
    weights = torch.from_numpy(data.weights.astype(np.float32))
    return _Model(encoder, nets.new(sizes[::-1], rng), nets.scaled(data.rows, by), weights, by)


def _batches(count: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    """Row numbers of one epoch, shuffled; a last batch below half the size is left out."""
    order = rng.permutation(count)
    size = min(BATCH, count)
    for at in range(0, count, size):
        if count - at >= size // 2 or at == 0:
            yield nets.indices(order[at : at + size])


def _pretrained(
    model: _Model, rng: np.random.Generator, settings: FitSettings, over: Deadline, report: Report
) -> float:
    """Train the autoencoder on reconstruction alone; the unexplained share at the end."""
    steps = max(1, len(model.rows) // BATCH)
    epochs = settings.pretrain_epochs or min(max(_EPOCHS, _LEAST_STEPS // steps), max(1, _MOST_STEPS // steps))
    optimiser = torch.optim.Adam([*model.encoder.parameters, *model.decoder.parameters], _PRETRAIN_RATE)
    for epoch in range(epochs):
        report("autoencoder", epoch / epochs)
        for batch in _batches(len(model.rows), rng):
            if over():
                break
            x = model.rows[batch]
            loss = unexplained(x, model.decoder(model.encoder(x)), 1.0, model.weights[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    report("autoencoder", 1.0)
    return dec.unexplained(model.rows.numpy(), _again(model))


def _again(model: _Model) -> F32:
    z = torch.from_numpy(nets.outputs(model.encoder, model.rows).astype(np.float32))
    return nets.outputs(model.decoder, z).astype(np.float32)


def _clustered(
    model: _Model,
    centroids: torch.Tensor,
    rng: np.random.Generator,
    settings: FitSettings,
    objective: Objective,
    run: tuple[Deadline, Report],
) -> tuple[Stop, tuple[float, ...]]:
    """Clustering phase; the target comes from all rows before every epoch, or every `UPDATE_STEPS` of it."""
    over, report = run
    trained = [*model.encoder.parameters, centroids]
    if objective.reconstruction:
        trained += model.decoder.parameters
    optimiser = torch.optim.Adam(trained, _CLUSTER_RATE)
    weights = model.weights.double().numpy()
    history: list[float] = []
    labels, quiet, p = np.empty(0, np.intp), 0, torch.empty(0)
    for epoch in range(settings.epochs):
        report("clustering", epoch / settings.epochs)
        for step, batch in enumerate(_batches(len(model.rows), rng)):
            if over():
                return Stop.TIME, tuple(history)
            if step % UPDATE_STEPS == 0:
                q = dec.membership(nets.outputs(model.encoder, model.rows), centroids.detach().numpy(), settings.dof)
                sharpened = target(q, weights, settings.rho)
                history.append(float(np.average(_each_kl(sharpened, q), weights=weights)))
                changed = 1.0 if not len(labels) else float(np.average(q.argmax(axis=1) != labels, weights=weights))
                labels, p = q.argmax(axis=1), torch.from_numpy(sharpened.astype(np.float32))
                quiet = quiet + 1 if changed < settings.tol else 0
                if quiet >= _QUIET_UPDATES:
                    return Stop.LABELS, tuple(history)
            loss = _loss(model, centroids, batch, p, (objective, settings.dof))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    report("clustering", 1.0)
    return Stop.EPOCHS, tuple(history)


def _loss(
    model: _Model, centroids: torch.Tensor, batch: torch.Tensor, p: torch.Tensor, how: tuple[Objective, float]
) -> torch.Tensor:
    """Loss of one batch (Guo 2017, eq. 4); `how` is the weights of its terms and the degrees of freedom."""
    objective, dof = how
    x, weights = model.rows[batch], model.weights[batch]
    z = model.encoder(x)
    loss = objective.divergence * divergence(p[batch], log_q(z, centroids, dof), weights)
    if objective.reconstruction:
        loss = loss + objective.reconstruction * unexplained(x, model.decoder(z), 1.0, weights)
    return loss


def _each_kl(p: F64, q: F64) -> F64:
    """KL(p_i || q_i) of each row (N,)."""
    return np.asarray(np.sum(p * (np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(q, 1e-300))), axis=1), np.float64)
