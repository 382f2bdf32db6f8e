"""Small fully connected networks in torch, and their way to and from a `Head`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from streamclust.core.types import F32, F64
from streamclust.model.assigner import Head, Layer, Mixture

_CHUNK = 8192


class Net(NamedTuple):
    """Affine layers with x * sigmoid(x) between them, none after the last: the twin of `Head`."""

    weights: list[torch.Tensor]
    biases: list[torch.Tensor]

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (N, P) to (N, D)."""
        for at, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rows = functional.linear(functional.silu(rows) if at else rows, weight, bias)
        return rows

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Everything that is trained."""
        return [*self.weights, *self.biases]


class Standard(NamedTuple):
    """Where rows lie and how far they spread, so that a network sees values around 1."""

    mean: F32
    """Shape (P,)."""
    deviation: float
    """Square root of the mean variance of the columns."""


def standard(rows: F32) -> Standard:
    """Mean and deviation of rows (N, P) that are not all alike."""
    mean = rows.mean(axis=0, dtype=np.float64)
    variance = float(np.square(rows - mean).mean())
    return Standard(mean.astype(np.float32), float(np.sqrt(variance)))


def scaled(rows: F32, by: Standard) -> torch.Tensor:
    """Rows (N, P) as the network sees them."""
    return torch.from_numpy(np.ascontiguousarray((rows - by.mean) / by.deviation, np.float32))


def new(sizes: Sequence[int], rng: np.random.Generator) -> Net:
    """Return a network of these widths; weights uniform within 1 / sqrt(inputs), as torch does."""
    weights, biases = [], []
    for inputs, outputs in pairwise(sizes):
        bound = 1.0 / np.sqrt(inputs)
        weights.append(_trained(rng.uniform(-bound, bound, (outputs, inputs))))
        biases.append(_trained(rng.uniform(-bound, bound, outputs)))
    return Net(weights, biases)


def from_head(head: Head, by: Standard) -> Net:
    """Return the network that gives on scaled rows what the head gives on the rows."""
    weights = [layer.weight.astype(np.float64) for layer in head.layers]
    biases = [layer.bias.astype(np.float64) for layer in head.layers]
    biases[0] = biases[0] + weights[0] @ by.mean
    weights[0] = weights[0] * by.deviation
    return Net([_trained(weight) for weight in weights], [_trained(bias) for bias in biases])


def to_head(net: Net, by: Standard) -> Head:
    """Return the head that gives on rows what the network gives on scaled rows."""
    weights = [weight.detach().double().numpy() for weight in net.weights]
    biases = [bias.detach().double().numpy() for bias in net.biases]
    weights[0] = weights[0] / by.deviation
    biases[0] = biases[0] - weights[0] @ by.mean
    pairs = zip(weights, biases, strict=True)
    return Head(tuple(Layer(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in pairs))


def same_shape(head: Head, sizes: Sequence[int]) -> bool:
    """Whether a head has these widths."""
    return tuple(sizes) == (head.inputs, *(len(layer.bias) for layer in head.layers))


def outputs(net: Net, rows: torch.Tensor) -> F64:
    """Network's values (N, D) for all rows, in parts."""
    with torch.no_grad():
        parts = [net(rows[at : at + _CHUNK]) for at in range(0, len(rows), _CHUNK)]
    return torch.cat(parts).double().numpy()


def rescale_output(net: Net, factor: float) -> None:
    """Multiply what the network gives by a factor."""
    with torch.no_grad():
        net.weights[-1] *= factor
        net.biases[-1] *= factor


def log_memberships(z: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """Logarithm of the memberships (N, K) that `Assigner` gives embeddings (N, D), to train through."""
    means, whiten = torch.from_numpy(mixture.means), torch.from_numpy(mixture.whiten)
    white = torch.einsum("kij,nkj->nki", whiten, z[:, None] - means)
    kernel = -mixture.exponent * torch.log1p(white.square().sum(dim=2) / mixture.dof)
    return functional.log_softmax(kernel + torch.from_numpy(mixture.log_weights), dim=1)


def indices(rows: NDArray[np.int64]) -> torch.Tensor:
    """Row numbers as torch wants them."""
    return torch.from_numpy(np.ascontiguousarray(rows, np.int64))


def _trained(values: NDArray[np.float64]) -> torch.Tensor:
    return torch.tensor(np.asarray(values, np.float32), requires_grad=True)
