"""Features in, embeddings and memberships out: the head and the mixture that a method fits, in numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamclust.core.errors import CorruptModel
from streamclust.core.types import F32, F64
from streamclust.model.dec import log_student_kernel, normalised_exp


class Layer(NamedTuple):
    """One affine map: y = weight @ x + bias."""

    weight: F32
    """Shape (out, in)."""
    bias: F32
    """Shape (out,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Features (N, P) to embeddings (N, D): affine layers with x * sigmoid(x) between them (none after the last)."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        """Check that the layers fit together.

        Raises
        ------
        CorruptModel
            A shape is wrong, or a value is not finite.
        """
        if not self.layers:
            raise CorruptModel("head: must have at least one layer (got none)")
        width = self.layers[0].weight.shape[1] if self.layers[0].weight.ndim == 2 else -1
        for at, layer in enumerate(self.layers):
            if layer.weight.ndim != 2 or layer.weight.shape[1] != width or layer.bias.shape != layer.weight.shape[:1]:
                raise CorruptModel(f"head layer {at}: must map {width} values (got {layer.weight.shape})")
            if not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
                raise CorruptModel(f"head layer {at}: must be finite (got NaN or infinity)")
            width = layer.weight.shape[0]

    @property
    def inputs(self) -> int:
        """P."""
        return int(self.layers[0].weight.shape[1])

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.layers[-1].weight.shape[0])

    def __call__(self, features: F32 | F64) -> F64:
        """Embed rows (N, P) -> (N, D); in float64, so that a row does not depend on the others in the call."""
        x = np.asarray(features, np.float64)
        for at, layer in enumerate(self.layers):
            if at:
                x = x / (1.0 + np.exp(-np.clip(x, -500.0, 500.0)))
            x = x @ layer.weight.astype(np.float64).T + layer.bias
        return x


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """K kernels in the embedding: Student-t with a covariance each, or DEC's isotropic ones.

    Parameters
    ----------
    means
        Shape (K, D).
    whiten
        Shape (K, D, D): L with L.T @ L = inverse covariance; squared distance is |L (z - mean)|^2.
    log_weights
        Shape (K,): logarithm of the mixing proportions and of |det L|, what is added to a kernel's logarithm;
        all zero for DEC's kernel.
    dof
        Degrees of freedom of the Student-t, > 0.
    exponent
        (dof + D) / 2 for a density (Peel & McLachlan 2000, eq. 3), (dof + 1) / 2 for DEC's q (Xie 2016, eq. 1).
    """

    means: F32
    whiten: F32
    log_weights: F32
    dof: float = 1.0
    exponent: float = 1.0

    def __post_init__(self) -> None:
        """Check shapes and values.

        Raises
        ------
        CorruptModel
            One is wrong.
        """
        if self.means.ndim != 2 or not self.means.size:
            raise CorruptModel(f"mixture means: must be (K, D) with K, D >= 1 (got {self.means.shape})")
        count, dimensions = self.means.shape
        if self.whiten.shape != (count, dimensions, dimensions) or self.log_weights.shape != (count,):
            raise CorruptModel(
                f"mixture: whiten and log_weights must be {(count, dimensions, dimensions)} and {(count,)} "
                f"(got {self.whiten.shape}, {self.log_weights.shape})"
            )
        if not all(np.isfinite(a).all() for a in (self.means, self.whiten, self.log_weights)):
            raise CorruptModel("mixture: must be finite (got NaN or infinity)")
        if not (0 < self.dof < float("inf") and 0 < self.exponent < float("inf")):
            raise CorruptModel(f"mixture: dof and exponent must be > 0 (got {self.dof}, {self.exponent})")

    @property
    def clusters(self) -> int:
        """K."""
        return len(self.means)

    def squared_distances(self, z: F32 | F64) -> F64:
        """Squared Mahalanobis distances to each kernel, shape (N, K)."""
        points = np.asarray(z, np.float64)
        out = np.empty((len(points), len(self.means)))
        for k, (mean, whiten) in enumerate(zip(self.means, self.whiten, strict=True)):
            white = (points - mean) @ whiten.astype(np.float64).T
            out[:, k] = np.einsum("nd,nd->n", white, white)
        return out

    def log_kernels(self, d2: F64) -> F64:
        """Logarithm of each kernel, up to a constant common to all; (N, K) from squared distances (N, K)."""
        return log_student_kernel(d2, self.dof, self.exponent) + self.log_weights


@dataclass(frozen=True, slots=True, eq=False)
class Assigner:
    """What a clustering method leaves behind: enough to place any new window.

    `temperature` divides the log kernels before they are normalised, so that the largest membership
    behaves like a confidence (Guo et al. 2017, "On calibration of modern neural networks", eq. 9).
    """

    head: Head
    mixture: Mixture
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check that head and mixture have the same embedding.

        Raises
        ------
        CorruptModel
            They have not, or the temperature is not a number > 0.
        """
        if self.head.dimensions != self.mixture.means.shape[1]:
            raise CorruptModel(f"mixture: must have D = {self.head.dimensions} (got {self.mixture.means.shape[1]})")
        if not 0 < self.temperature < float("inf"):
            raise CorruptModel(f"temperature: must be > 0 (got {self.temperature})")

    def embed(self, features: F32 | F64) -> F64:
        """Embeddings (N, D) of features (N, P)."""
        return self.head(features)

    def memberships(self, z: F32 | F64) -> F64:
        """Soft memberships (N, K) of embeddings (N, D); rows sum to 1."""
        return self.memberships_of(self.mixture.squared_distances(z))

    def memberships_of(self, d2: F64) -> F64:
        """Soft memberships (N, K) of squared distances (N, K)."""
        return normalised_exp(self.mixture.log_kernels(d2) / self.temperature)

    def arrays(self) -> Mapping[str, F32]:
        """Every array by name, for safetensors; the scalars are the caller's to keep."""
        named = {"mixture.means": self.mixture.means, "mixture.whiten": self.mixture.whiten}
        named["mixture.log_weights"] = self.mixture.log_weights
        for at, layer in enumerate(self.head.layers):
            named[f"head.{at}.weight"], named[f"head.{at}.bias"] = layer.weight, layer.bias
        return named


def linear(weight: F32, bias: F32) -> Head:
    """Return a head of one affine layer: weight (D, P), bias (D,)."""
    return Head((Layer(weight, bias),))
