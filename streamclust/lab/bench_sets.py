"""Labelled windows that methods are compared on: series and images from npz files, and scikit-learn's digits."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import UsageError
from streamclust.core.types import F32
from streamclust.lab import arrays
from streamclust.lab.data import collected, open_arrays
from streamclust.train.fit import TrainingData

DIGITS = "digits"
"""Name of the set that needs no file."""
SOURCES = ("station", "group", "recording", "event")
"""Keys of an npz that say where each window comes from."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """N windows or images and their classes; methods never see the classes."""

    name: str
    rows: F32
    """Shape (N, P): samples of all channels, or pixels from 0 to 1."""
    y: NDArray[np.int64]
    """Shape (N,): classes."""
    chosen: str
    """A sentence: the profile, or what stands for features."""
    sources: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    """Key of `SOURCES` -> (N,) names: clusters that follow these may look right for the wrong reason."""
    data: TrainingData | None = None
    """The windows as a fit takes them; None for images."""

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(np.unique(self.y))


def names(folder: Path | None) -> tuple[str, ...]:
    """Return the sets of a folder, and the digits.

    Raises
    ------
    UsageError
        It is no folder, or has no npz file.
    """
    if folder is None:
        return (DIGITS,)
    found = sorted(path.stem for path in folder.glob("*.npz")) if folder.is_dir() else []
    if not found:
        raise UsageError(f"--data: must be a directory of labelled windows, *.npz (got {folder})")
    return (*found, DIGITS)


def read(name: str, folder: Path | None, most: int | None = None) -> LabelledSet:
    """Read one set; of more windows than `most`, so many are drawn, always the same ones.

    Raises
    ------
    UsageError
        The file cannot be used, or has no labels.
    ImportError
        The digits are wanted, and scikit-learn is not installed.
    """
    if name == DIGITS or folder is None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        return _images(DIGITS, np.asarray(digits.images), np.asarray(digits.target, np.int64), most)
    path = folder / f"{name}.npz"
    found = _small(path)
    if not float(found.get("fs", np.ones(1)).reshape(-1)[0]):
        if "x" not in found or "y" not in found or found["x"].shape[:1] != found["y"].shape:
            raise UsageError(f"{path}: must hold images x (N, H, W) and their labels y (N,)")
        return _images(name, found["x"], found["y"].astype(np.int64), most)
    return _series(path, found, most)


def drawn(count: int, most: int | None) -> NDArray[np.intp]:
    """Return numbers of rows in their order: all, or `most` of them, drawn with seed 0."""
    if most is None or count <= most:
        return np.arange(count)
    rng = np.random.default_rng(0)  # noqa: TID251 — the same rows in every run
    return np.sort(rng.permutation(count)[:most])


def _small(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz: everything of images, all but the windows of series."""
    try:
        with np.load(path, allow_pickle=False) as file:
            wanted = {"fs", "y", *SOURCES} & set(file.files)
            found = {key: file[key] for key in wanted}
            if "fs" in found and not found["fs"].any() and "x" in file.files:
                found["x"] = file["x"]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: must be an npz of plain arrays (got {error})") from error
    return found


def _images(name: str, x: NDArray[Any], y: NDArray[np.int64], most: int | None) -> LabelledSet:
    some = drawn(len(x), most)
    rows = x[some].reshape(len(some), -1).astype(np.float32)
    low, high = float(rows.min()), float(rows.max())
    scaled = (rows - low) / max(high - low, 1e-30)
    return LabelledSet(name, scaled, y[some], f"images of {rows.shape[1]} pixels, scaled to 0 to 1")


def _series(path: Path, found: Mapping[str, NDArray[Any]], most: int | None) -> LabelledSet:
    whole = arrays.read(path)
    if whole.y is None:
        raise UsageError(f"{path}: must hold y, the labels (got none)")
    some = drawn(len(whole.x), most)
    part = arrays.Arrays(whole.label, whole.x[some], whole.rate_hz, whole.y[some], whole.label_names)
    windows = collected(open_arrays(part))
    kept = windows.trainable
    sources = {
        key: found[key].astype(np.str_)[some][kept]
        for key in SOURCES
        if key in found and found[key].shape == (len(whole.x),)
    }
    rows = part.x[kept].reshape(int(kept.sum()), -1).astype(np.float32)
    return LabelledSet(path.stem, rows, whole.y[some][kept], windows.chosen, sources, windows.training())
