"""A trace with the spikes of three neurons, and when which of them fired."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SPIKE_HZ = 24_000.0


class Spikes(NamedTuple):
    """A trace, and when which neuron fired."""

    x: np.ndarray[Any, Any]
    times: np.ndarray[Any, Any]
    neurons: np.ndarray[Any, Any]


def three_neurons(seconds: float = 40.0, seed: int = 0, amplitudes: tuple[float, ...] = (9.0, 7.0, 8.0)) -> Spikes:
    """Spikes of three shapes at random times, with a refractory time, amplitudes that overlap, and coloured noise."""
    rng, fs = np.random.default_rng(seed), SPIKE_HZ
    n, ms = int(seconds * fs), np.arange(-24, 48) / fs * 1e3

    def bump(centre: float, width: float) -> np.ndarray[Any, Any]:
        return np.exp(-0.5 * ((ms - centre) / width) ** 2)

    shapes = (
        -bump(0, 0.10) + 0.35 * bump(0.45, 0.22),
        -bump(0, 0.22) + 0.55 * bump(0.75, 0.30),
        0.45 * bump(-0.28, 0.12) - bump(0, 0.13) + 0.2 * bump(0.5, 0.15),
    )
    x = rng.normal(size=n)
    x[1:] += 0.5 * x[:-1]
    x /= x.std()
    times: list[float] = []
    neurons: list[int] = []
    for k, (shape, amplitude) in enumerate(zip(shapes, amplitudes, strict=True)):
        mine = np.cumsum(rng.exponential(1 / (8, 12, 15)[k], size=int(30 * seconds)) + 0.003)
        for at in mine[(mine > 0.02) & (mine < seconds - 0.02)]:
            i = round(at * fs)
            x[i - 24 : i + 48] += amplitude * rng.normal(1, 0.08) * shape / np.abs(shape).max()
            times.append(i / fs)
            neurons.append(k)
    order = np.argsort(times)
    return Spikes(x, np.array(times)[order], np.array(neurons)[order])
