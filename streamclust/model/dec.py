"""The formulas of deep embedded clustering: kernels, membership, target, divergence, as numpy computes them.

`model.methods.deep` has twins of three of them in torch, for gradients, which tests compare with these; the constant of
the t density is in `model.mixture`.

Xie, Girshick, Farhadi (2016): Unsupervised Deep Embedding for Clustering Analysis, ICML 33.
Guo, Gao, Liu, Yin (2017): Improved Deep Embedded Clustering with Local Structure Preservation, IJCAI 26.
Peel, McLachlan (2000): Robust mixture modelling using the t distribution, Statistics and Computing 10.
"""

from __future__ import annotations

import numpy as np

from streamclust.core.types import F32, F64


def squared_distances(z: F32 | F64, centroids: F32 | F64) -> F64:
    """Squared Euclidean distances, shape (N, K), by differences: exact zeros stay zero.

    Parameters
    ----------
    z
        Embeddings, shape (N, D).
    centroids
        Shape (K, D).
    """
    points, centres = np.asarray(z, np.float64), np.asarray(centroids, np.float64)
    out = np.empty((len(points), len(centres)))
    for k, centre in enumerate(centres):
        difference = points - centre
        out[:, k] = np.einsum("nd,nd->n", difference, difference)
    return out


def log_student_kernel(d2: F64, dof: float, exponent: float) -> F64:
    """Logarithm of (1 + d2 / dof)^-exponent, elementwise.

    With exponent (dof + 1) / 2 the kernel of DEC (Xie 2016, eq. 1); with (dof + D) / 2 and d2 the squared
    Mahalanobis distance that of the t density in D dimensions (Peel & McLachlan 2000, eq. 3).
    """
    return np.asarray(-exponent * np.log1p(d2 / dof), np.float64)


def normalised_exp(log_kernel: F64) -> F64:
    """Rows of exp(log_kernel) (N, K), each divided by its sum.

    Computed by logarithms, so that a window infinitely far in practice still gets a finite row.
    """
    kernel = np.exp(log_kernel - log_kernel.max(axis=1, keepdims=True))
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True), np.float64)


def membership_of_distances(d2: F64, dof: float = 1.0) -> F64:
    """Student-t membership of squared distances (Xie 2016, eq. 1); rows sum to 1.

    Parameters
    ----------
    d2
        Squared distances to the centroids, shape (N, K), finite, >= 0.
    dof
        Degrees of freedom (alpha in the paper), > 0.
    """
    return normalised_exp(log_student_kernel(d2, dof, 0.5 * (dof + 1.0)))


def membership(z: F32 | F64, centroids: F32 | F64, dof: float = 1.0) -> F64:
    """Soft assignment q (Xie 2016, eq. 1).

    q_ij = (1 + |z_i - mu_j|^2 / dof)^(-(dof + 1) / 2), divided by the sum over j.

    Parameters
    ----------
    z
        Embeddings, shape (N, D).
    centroids
        Shape (K, D).
    dof
        Degrees of freedom (alpha in the paper), > 0; the paper uses 1.

    Returns
    -------
    Shape (N, K), rows sum to 1.
    """
    return membership_of_distances(squared_distances(z, centroids), dof)


def target(q: F64, rho: float = 1.0) -> F64:
    """Sharpened membership p that the encoder is pulled towards (Xie 2016, eq. 3).

    p_ij = (q_ij^2 / f_j^rho), divided by the sum over j, with f_j = sum_i q_ij.

    The cluster frequency f is a sum over *the rows given*: pass the whole buffer, not a
    mini-batch, or every batch gets its own target. A cluster without any membership stays so.

    Parameters
    ----------
    q
        Membership of the whole buffer, shape (N, K), rows sum to 1.
    rho
        1 is the paper's, which assumes classes of equal size; 0 leaves their sizes alone.

    Returns
    -------
    Shape (N, K), rows sum to 1.
    """
    frequency = q.sum(axis=0)
    weight = np.power(frequency, -rho, out=np.zeros_like(frequency), where=frequency > 0)
    sharpened = np.square(q) * weight
    return np.asarray(sharpened / sharpened.sum(axis=1, keepdims=True), np.float64)


def kl(p: F64, q: F64) -> float:
    """Kullback-Leibler divergence KL(P || Q) = sum_i sum_j p_ij log(p_ij / q_ij) (Xie 2016, eq. 2).

    A sum over rows, not a mean; 0 log 0 is 0; infinite where q is 0 and p is not.

    Parameters
    ----------
    p, q
        Target and membership, both of shape (N, K), rows sum to 1.
    """
    used = p > 0
    if np.any(q[used] == 0):
        return float("inf")
    return float(np.sum(p[used] * np.log(p[used] / q[used])))


def unexplained(x: F64 | F32, reconstruction: F64 | F32) -> float:
    """Share of the variance of `x` (N, ...) that its reconstruction leaves: mean squared error / Var(x).

    IDEC's reconstruction term (Guo 2017, eq. 6) on a scale that means the same on every data set; 0 for
    a perfect reconstruction, 1 for the mean of `x`, infinite when `x` is constant and was not met.
    """
    points, again = np.asarray(x, np.float64), np.asarray(reconstruction, np.float64)
    error = float(np.mean(np.square(points - again)))
    variance = float(np.mean(np.square(points - points.mean(axis=0))))
    if variance > 0:
        return error / variance
    return 0.0 if error == 0 else float("inf")
