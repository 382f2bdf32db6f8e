"""A network that reproduces given coordinates and memberships, for methods that cannot place new rows themselves."""

from __future__ import annotations

import numpy as np
import torch

from streamclust.core.types import F64
from streamclust.model.assigner import Head, Mixture
from streamclust.model.methods import nets
from streamclust.model.methods.common import Checked, Deadline, Report
from streamclust.model.methods.deep import divergence

_HIDDEN = (256, 256, 256)
_BATCH = 512
_STEPS = 2000
_RATE = 2e-3
_MEMBERSHIP_SHARE = 0.4
"""Share of the steps, at the end, in which the memberships count too."""


def distil(
    data: Checked,
    coordinates: F64,
    mixture: Mixture,
    rng: np.random.Generator,
    run: tuple[int | None, Deadline, Report],
) -> Head:
    """Head whose embeddings reproduce the coordinates (N, D), and whose memberships theirs under the mixture.

    Mean squared error first (coordinates should have variance 1), then that plus the divergence of the
    memberships; `run` is the number of steps (None: 2000), the deadline and the report.
    """
    asked, over, report = run
    steps = asked or _STEPS
    by = nets.standard(data.rows)
    rows, wanted = nets.scaled(data.rows, by), torch.from_numpy(coordinates.astype(np.float32))
    weights = torch.from_numpy(data.weights.astype(np.float32))
    with torch.no_grad():
        p = nets.log_memberships(wanted, mixture).exp()
    net = nets.new((data.rows.shape[1], *_HIDDEN, coordinates.shape[1]), rng)
    optimiser = torch.optim.Adam(net.parameters, _RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps + 1)
    for step in range(steps):
        if over():
            break
        if step % 50 == 0:
            report("distillation", step / steps)
        batch = nets.indices(rng.integers(len(rows), size=min(_BATCH, len(rows))))
        z = net(rows[batch])
        share = weights[batch]
        loss = ((z - wanted[batch]).square().mean(dim=1) * share).sum() / share.sum()
        if step >= (1.0 - _MEMBERSHIP_SHARE) * steps:
            loss = loss + divergence(p[batch], nets.log_memberships(z, mixture), share)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    report("distillation", 1.0)
    return nets.to_head(net, by)
