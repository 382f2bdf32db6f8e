"""Torch twins of the encoder's graphs: the pyramid and its decoder to learn with, the kernel bank, and the losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import nn

from streamclust.core.types import F32
from streamclust.model.onnx_graph import area_pooling, interpolation
from streamclust.train.recipe import KernelBank, Pyramid

Tensor = torch.Tensor
NORM_EPS = 1e-5


class PyramidNet(nn.Module):
    """Spectrograms (B, 1, F, T) of any size to (B, E): convolutions with ReLU, every stage pooled on a grid, one affine map.

    Normalisation uses fixed statistics, found once by `calibrate`: a batch holds windows of one length, and its
    own statistics are not those of another length. `tensors` folds it into the convolutions.
    """

    def __init__(self, sizes: Pyramid) -> None:
        super().__init__()
        self.sizes = sizes
        widths = (1, *sizes.channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride, padding=1)
            for before, after, stride in zip(widths, sizes.channels, sizes.strides, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, NORM_EPS, momentum=None) for width in sizes.channels)
        self.latent = nn.Linear(sum(sizes.channels) * sizes.grid[0] * sizes.grid[1], sizes.dimensions)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Set the statistics of every normalisation to their means over the batches."""
        self.train()
        for x in batches:
            self.pooled(x)
        self.eval()

    def pooled(self, x: Tensor) -> Tensor:
        """Rows (B, P): what the last affine map gets."""
        parts = []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = torch.relu(norm(convolution(x)))
            left = _constant(area_pooling(x.shape[2], self.sizes.grid[0]).T, x)
            parts.append((left @ x @ _constant(area_pooling(x.shape[3], self.sizes.grid[1]), x)).flatten(1))
        return torch.cat(parts, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Latent rows (B, E)."""
        out: Tensor = self.latent(self.pooled(x))
        return out

    def tensors(self) -> dict[str, F32]:
        """Weights by the names that `onnx_graph` reads, normalisation folded in."""
        found: dict[str, F32] = {}
        for at, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            of = convolution.state_dict() | {f"norm.{name}": value for name, value in norm.state_dict().items()}
            factor = of["norm.weight"] / torch.sqrt(of["norm.running_var"] + NORM_EPS)
            found[f"conv{at}.weight"] = array(of["weight"] * factor[:, None, None, None])
            found[f"conv{at}.bias"] = array((of["bias"] - of["norm.running_mean"]) * factor + of["norm.bias"])
        return found | {"latent.weight": array(self.latent.weight), "latent.bias": array(self.latent.bias)}


class DecoderNet(nn.Module):
    """Latent rows (B, E) to spectrograms (B, 1, F, T): a small image, drawn larger twice, with convolutions between."""

    def __init__(self, sizes: Pyramid) -> None:
        super().__init__()
        self.sizes = sizes
        channels, (rows, columns) = sizes.decoder_channels, sizes.decoder_grid
        self.latent = nn.Linear(sizes.dimensions, channels * rows * columns)
        half = max(1, channels // 2)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1)
            for before, after in ((channels, channels), (channels, half), (half, 1))
        )

    def forward(self, z: Tensor, shape: tuple[int, int]) -> Tensor:
        """Spectrograms of `shape`."""
        h = torch.relu(self.latent(z)).view(-1, self.sizes.decoder_channels, *self.sizes.decoder_grid)
        first, second, last = self.convolutions
        h = _resize(torch.relu(first(h)), (-(-shape[0] // 2), -(-shape[1] // 2)))
        out: Tensor = last(_resize(torch.relu(second(h)), shape))
        return out

    def tensors(self) -> dict[str, F32]:
        """Weights by the names that `onnx_graph` reads."""
        found = {"decoder.latent.weight": array(self.latent.weight), "decoder.latent.bias": array(self.latent.bias)}
        for at, convolution in enumerate(self.convolutions):
            found |= {f"decoder.conv{at}.{name}": array(value) for name, value in convolution.state_dict().items()}
        return found


def projector(width: int) -> nn.Sequential:
    """Return the small network between pooled rows and the losses of pairs; thrown away after training (Chen 2020, SimCLR)."""
    return nn.Sequential(nn.Linear(width, 256), nn.LayerNorm(256), nn.ReLU(), nn.Linear(256, 128))


def architecture(sizes: Pyramid) -> dict[str, Any]:
    """Return the sizes as `onnx_graph` reads them."""
    decoder = {"channels": sizes.decoder_channels, "grid": list(sizes.decoder_grid)}
    return {"family": "pyramid", "strides": list(sizes.strides), "grid": list(sizes.grid), "decoder": decoder}


def bank_architecture(sizes: KernelBank) -> dict[str, Any]:
    """Return the sizes as `onnx_graph` reads them."""
    return {
        "family": "kernel-bank",
        "length": sizes.length,
        "dilations": list(sizes.dilations),
        "sharpness": sizes.sharpness,
    }


def kernels(sizes: KernelBank) -> F32:
    """Kernels (K, 1, 9) of unit length: six of -1 and three of 2 each (MiniRocket, Dempster 2021), every second or so."""
    every = np.full((84, 1, 9), -1.0, np.float32)
    for row, places in enumerate(combinations(range(9), 3)):
        every[row, 0, list(places)] = 2.0
    chosen = np.arange(sizes.kernels) * 84 // sizes.kernels
    return np.ascontiguousarray(every[chosen] / np.float32(np.sqrt(18)))


def bank_rows(waves: F32, dilation: int, sizes: KernelBank) -> F32:
    """Softened shares of time above each threshold: waveforms (B, n) of a level of 1 -> (B, thresholds x kernels)."""
    x = torch.from_numpy(np.ascontiguousarray(waves, np.float32))[:, None]
    x = x - x.mean(dim=2, keepdim=True)
    x = x / torch.sqrt(0.5 * x.square().mean(dim=2, keepdim=True) + 0.5)
    reach = (sizes.length - 1) // 2 * dilation
    h = nn.functional.conv1d(x, torch.from_numpy(kernels(sizes)), padding=reach, dilation=dilation)
    return array(torch.cat([torch.sigmoid((h - t) * sizes.sharpness).mean(dim=2) for t in sizes.thresholds], dim=1))


def unexplained(x: Tensor, drawn: Tensor) -> Tensor:
    """Share of the variance of x that `drawn` leaves."""
    return (x - drawn).square().mean() / x.var().clamp_min(1e-6)


def contrastive(a: Tensor, b: Tensor, temperature: float = 0.2) -> Tensor:
    """NT-Xent loss of pairs of rows (B, D): each must find its partner among 2 B - 1 (Chen 2020, eq. 1)."""
    z = nn.functional.normalize(torch.cat([a, b]))
    similar = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), float("-inf"))
    partner = torch.arange(len(z), device=z.device).roll(len(a))
    return nn.functional.cross_entropy(similar, partner)


def redundancy(a: Tensor, b: Tensor) -> Tensor:
    """VICReg loss of pairs of rows (B, D): invariance, variance, covariance (Bardes 2022, eq. 6), over 10."""
    total = 25 * (a - b).square().mean()
    for z in (a, b):
        centred = z - z.mean(dim=0)
        total = total + 12.5 * torch.relu(1 - torch.sqrt(centred.var(dim=0) + 1e-4)).mean()
        covariance = centred.T @ centred / (len(z) - 1)
        total = total + (covariance - torch.diag(torch.diag(covariance))).square().sum() / z.shape[1]
    return total / 10


PAIR_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"contrastive": contrastive, "redundancy": redundancy}
"""Objectives on two views, by name."""


def array(tensor: Tensor) -> F32:
    """Return a tensor as a contiguous float32 array in main memory."""
    out: F32 = np.array(tensor.detach().cpu().numpy(), np.float32, order="C")
    return out


def _resize(h: Tensor, shape: tuple[int, int]) -> Tensor:
    left, right = interpolation(h.shape[2], shape[0]).T, interpolation(h.shape[3], shape[1])
    return _constant(left, h) @ h @ _constant(right, h)


def _constant(matrix: F32, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(matrix)).to(like.device)
