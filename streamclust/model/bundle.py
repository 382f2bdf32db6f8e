"""The frozen model: every number that inference needs, to bytes and back; never pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from streamclust.core.errors import CorruptModel, ProfileMismatch
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32

FORMAT = 1
TENSORS = "model.safetensors"
MANIFEST = "model.json"
_ARRAYS = (
    "components",
    "mean",
    "centroids",
    "noise_median",
    "noise_spread",
    "fallback_median",
    "fallback_spread",
    "calibration",
)
_KEYS = {
    "format": int,
    "kind": str,
    "profile": str,
    "profile_digest": str,
    "shape": list,
    "clusters": list,
    "noise_streams": list,
    "scale": float,
    "energy_weight": float,
    "tensors_sha256": str,
    "card": dict,
}


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """One model's content; its version is the store's business. All arrays float32, finite, read-only.

    Alphabet: C channels, F bins, T segments, D dimensions, K clusters, S streams, Q quantiles;
    P = C * F * T + 1 features: the normalised spectrogram, then the weighted log energy.

    Raises
    ------
    CorruptModel
        A shape, type or range is wrong.
    """

    profile: str
    """Label of the profile, as ``seismic/1``."""
    profile_digest: str
    """`ProfileSpec.digest` of the profile that it was made with."""
    shape: tuple[int, int, int]
    """(C, F, T) of one window's spectrogram."""
    components: F32
    """Shape (D, P), orthonormal rows: features to embedding."""
    mean: F32
    """Shape (P,): subtracted from the features first."""
    energy_weight: float
    """Factor of the log energy as a feature; 0 leaves it out."""
    centroids: F32
    """Shape (K, D)."""
    clusters: tuple[str, ...]
    """K lasting ids, in the order of the centroids."""
    scale: float
    """Standard deviation, per dimension of the embedding, of training windows around their centroid, > 0."""
    noise_streams: tuple[str, ...]
    """S streams that have a noise profile of their own."""
    noise_median: F32
    """Shape (S, F): log power."""
    noise_spread: F32
    """Shape (S, F), > 0."""
    fallback_median: F32
    """Shape (F,): for any other stream."""
    fallback_spread: F32
    """Shape (F,), > 0."""
    calibration: F32
    """Shape (Q,), ascending: evenly spaced quantiles of the distances, in feature space, of training
    windows to their centroid."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """What people want to know of it; JSON values."""
    kind: str = "baseline"
    """The method that made it."""

    def __post_init__(self) -> None:
        """Check every shape and freeze the arrays."""
        _check(self)
        for name in _ARRAYS:
            getattr(self, name).flags.writeable = False

    def require(self, profile: ProfileSpec) -> None:
        """Return when the model was made with `profile`.

        Raises
        ------
        ProfileMismatch
            It was made with another one.
        """
        if profile.digest != self.profile_digest:
            msg = (
                f"model: its profile must be {profile.label} ({profile.digest[:12]}) "
                f"(got {self.profile}, {self.profile_digest[:12]})"
            )
            raise ProfileMismatch(msg)

    def to_bytes(self) -> Mapping[str, bytes]:
        """File name -> content; the manifest carries the hash of the tensors. Same model, same bytes."""
        tensors = save({name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS})
        manifest = {
            "format": FORMAT,
            "kind": self.kind,
            "profile": self.profile,
            "profile_digest": self.profile_digest,
            "shape": list(self.shape),
            "clusters": list(self.clusters),
            "noise_streams": list(self.noise_streams),
            "scale": self.scale,
            "energy_weight": self.energy_weight,
            "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
            "card": dict(self.card),
        }
        text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
        return {TENSORS: tensors, MANIFEST: text.encode() + b"\n"}


def from_bytes(files: Mapping[str, bytes]) -> Bundle:
    """Read what `Bundle.to_bytes` wrote; other files in `files` are not looked at.

    Raises
    ------
    CorruptModel
        A file is missing, is not what it claims to be, or has another format version.
    """
    for name in (TENSORS, MANIFEST):
        if name not in files:
            _corrupt(name, "a file of that name", "none")
    manifest = _manifest(files[MANIFEST])
    digest = hashlib.sha256(files[TENSORS]).hexdigest()
    if digest != manifest["tensors_sha256"]:
        _corrupt(TENSORS, f"sha256 {manifest['tensors_sha256'][:12]}", digest[:12])
    arrays = _tensors(files[TENSORS])
    return Bundle(
        kind=manifest["kind"],
        profile=manifest["profile"],
        profile_digest=manifest["profile_digest"],
        shape=tuple(manifest["shape"]),
        clusters=tuple(manifest["clusters"]),
        noise_streams=tuple(manifest["noise_streams"]),
        scale=manifest["scale"],
        energy_weight=manifest["energy_weight"],
        card=manifest["card"],
        **arrays,
    )


def _corrupt(where: str, expected: str, got: object) -> NoReturn:
    msg = f"{where}: must be {expected} (got {str(got)[:80]})"
    raise CorruptModel(msg)


def _no_constant(name: str) -> NoReturn:
    _corrupt(MANIFEST, "JSON without NaN and Infinity", name)


def _manifest(content: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        msg = f"{MANIFEST}: must be JSON (got {str(error)[:80]})"
        raise CorruptModel(msg) from error
    if not isinstance(manifest, dict):
        _corrupt(MANIFEST, "an object", type(manifest).__name__)
    if manifest.get("format") != FORMAT:
        _corrupt(f"{MANIFEST}: format", str(FORMAT), manifest.get("format"))
    for key, kind in _KEYS.items():
        if type(manifest.get(key)) is not kind:
            _corrupt(f"{MANIFEST}: {key}", kind.__name__, type(manifest.get(key)).__name__)
    return manifest


def _tensors(content: bytes) -> dict[str, F32]:
    try:
        arrays = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        msg = f"{TENSORS}: must be safetensors (got {str(error)[:80]})"
        raise CorruptModel(msg) from error
    if set(arrays) != set(_ARRAYS):
        _corrupt(TENSORS, ", ".join(_ARRAYS), sorted(arrays))
    return dict(arrays)


def _check(bundle: Bundle) -> None:
    _check_names(bundle)
    if len(bundle.shape) != 3 or not all(type(n) is int and n > 0 for n in bundle.shape):
        _corrupt("shape", "three positive whole numbers", bundle.shape)
    channels, bins, segments = bundle.shape
    features = channels * bins * segments + 1
    dimensions = bundle.components.shape[0] if bundle.components.ndim == 2 else 0
    streams, clusters = len(bundle.noise_streams), len(bundle.clusters)
    quantiles = max(2, bundle.calibration.size)
    shapes = {
        "components": (max(1, dimensions), features),
        "mean": (features,),
        "centroids": (clusters, dimensions),
        "noise_median": (streams, bins),
        "noise_spread": (streams, bins),
        "fallback_median": (bins,),
        "fallback_spread": (bins,),
        "calibration": (quantiles,),
    }
    for name, shape in shapes.items():
        array = getattr(bundle, name)
        if array.dtype != np.float32 or array.shape != shape:
            _corrupt(name, f"float32 of shape {shape}", f"{array.dtype} of shape {array.shape}")
        if not np.isfinite(array).all():
            _corrupt(name, "finite", "NaN or infinity")
    _check_values(bundle)


def _check_names(bundle: Bundle) -> None:
    for name in ("clusters", "noise_streams"):
        ids = getattr(bundle, name)
        if not all(isinstance(text, str) and 0 < len(text) <= 256 for text in ids) or len(set(ids)) != len(ids):
            _corrupt(name, "distinct texts of 1 to 256 characters", ids)
    if not bundle.clusters:
        _corrupt("clusters", "at least one id", "none")


def _check_values(bundle: Bundle) -> None:
    if not 0 < bundle.scale < float("inf"):
        _corrupt("scale", "a finite number > 0", bundle.scale)
    if not 0 <= bundle.energy_weight < float("inf"):
        _corrupt("energy_weight", "a finite number >= 0", bundle.energy_weight)
    if not (bundle.noise_spread > 0).all() or not (bundle.fallback_spread > 0).all():
        _corrupt("noise_spread, fallback_spread", "> 0", "0 or less")
    if bundle.calibration[0] < 0 or (np.diff(bundle.calibration) < 0).any():
        _corrupt("calibration", "ascending from 0 or more", "another order")
