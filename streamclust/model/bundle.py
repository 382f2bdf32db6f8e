"""The frozen model: every number that inference needs, to bytes and back; never pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from streamclust.core.auto_profile import section
from streamclust.core.errors import CorruptModel, ProfileMismatch
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner, Head, Layer, Mixture
from streamclust.model.encoder import EncoderWeights, Kind
from streamclust.model.features import ENCODER, WAVEFORM_ENCODER, Block
from streamclust.model.novelty import Tails

FORMAT = 2
TENSORS = "model.safetensors"
MANIFEST = "model.json"
_NOISE = ("noise_median", "noise_spread", "fallback_median", "fallback_spread")
_TAILS = ("distance", "residual", "larger")
KIND_OF = {ENCODER: "spectrogram", WAVEFORM_ENCODER: "waveform"}
"""Block -> the kind of encoder that makes it."""
_MOST_WEIGHT, _MOST_LAYERS = 1e12, 6
"""Largest number in head and mixture, and longest head: what they make of features up to `features.MOST` is finite."""
_BOUNDS = {"dof": (1e-9, 1e15), "exponent": (1e-9, 1e15), "temperature": (1e-6, 1e6)}
_KEYS = {
    "format": int,
    "method": str,
    "profile": dict,
    "shape": list,
    "clusters": list,
    "noise_streams": list,
    "blocks": list,
    "encoders": list,
    "layers": int,
    "dof": float,
    "exponent": float,
    "temperature": float,
    "tensors_sha256": str,
    "table": list,
    "card": dict,
}


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """One model's content; its version is the store's business. All arrays float32, finite, read-only.

    Alphabet: C channels, F bins, T segments, K clusters, S streams.

    Raises
    ------
    CorruptModel
        A shape, type or range is wrong.
    """

    method: str
    """The clustering method that made it."""
    profile: ProfileSpec
    """The profile that it was made with, and the only one that it can be used with."""
    shape: tuple[int, int, int]
    """(C, F, T) of one window's spectrogram."""
    clusters: tuple[str, ...]
    """K lasting ids, in the order of the mixture's kernels."""
    noise_streams: tuple[str, ...]
    """S streams that have a noise profile of their own."""
    noise_median: F32
    """Shape (S, C, F): log power."""
    noise_spread: F32
    """Shape (S, C, F), > 0."""
    fallback_median: F32
    """Shape (C, F): for any other stream."""
    fallback_spread: F32
    """Shape (C, F), > 0."""
    blocks: tuple[Block, ...]
    """The parts of the features, in order."""
    encoders: tuple[EncoderWeights, ...]
    """The pretrained encoders that blocks want, whole, each of its own kind."""
    assigner: Assigner
    """Features to memberships."""
    tails: Tails
    """Calibration of novelty."""
    unknown_tails: Tails | None = None
    """The same for streams without a noise profile of their own; None: no difference."""
    table: tuple[Mapping[str, Any], ...] = ()
    """What people want to know of each cluster, in the order of `clusters`; JSON values."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """What people want to know of the model; JSON values."""

    def __post_init__(self) -> None:
        """Check every shape and freeze the arrays."""
        _check(self)
        for array in self.arrays().values():
            array.flags.writeable = False

    def require(self, profile: ProfileSpec) -> None:
        """Return when the model was made with `profile`.

        Raises
        ------
        ProfileMismatch
            It was made with another one.
        """
        if profile.digest != self.profile.digest:
            own = self.profile
            raise ProfileMismatch(
                f"model: its profile must be {profile.label} ({profile.digest[:12]}) "
                f"(got {own.label}, {own.digest[:12]}{_difference(own, profile)}); fit it with that profile, or configure "
                f"the model's own: {section(own)}"
            )

    def novelty(self, distance: F64, residual: F64, streams: Sequence[str]) -> F64:
        """Novelty (N,), 0 to 1, of windows at a distance from their centroid, with a residual, of N streams."""
        found = self.tails(distance, residual)
        if self.unknown_tails is None:
            return found
        known = set(self.noise_streams)
        at = np.array([stream not in known for stream in streams], np.bool_)
        found[at] = self.unknown_tails(distance[at], residual[at])
        return found

    def to_bytes(self) -> Mapping[str, bytes]:
        """File name -> content; the manifest carries the hash of the tensors. Same model, same bytes."""
        tensors = save({name: np.ascontiguousarray(array) for name, array in self.arrays().items()})
        manifest = {
            "format": FORMAT,
            "method": self.method,
            "profile": self.profile.model_dump(mode="json"),
            "shape": list(self.shape),
            "clusters": list(self.clusters),
            "noise_streams": list(self.noise_streams),
            "blocks": [{"name": b.name, "scale": b.scale, "residual": b.residual} for b in self.blocks],
            "encoders": [{"name": e.name, "kind": e.kind, "architecture": dict(e.architecture)} for e in self.encoders],
            "layers": len(self.assigner.head.layers),
            "dof": self.assigner.mixture.dof,
            "exponent": self.assigner.mixture.exponent,
            "temperature": self.assigner.temperature,
            "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
            "table": [dict(row) for row in self.table],
            "card": dict(self.card),
        }
        text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
        return {TENSORS: tensors, MANIFEST: text.encode() + b"\n"}

    def arrays(self) -> dict[str, F32]:
        """Every array by name, as safetensors holds them."""
        arrays: dict[str, F32] = {name: getattr(self, name) for name in _NOISE}
        arrays |= self.assigner.arrays()
        for prefix, tails in (("tails", self.tails), ("unknown_tails", self.unknown_tails)):
            arrays |= {} if tails is None else {f"{prefix}.{name}": getattr(tails, name) for name in _TAILS}
        for at, block in enumerate(self.blocks):
            arrays[f"block.{at}.mean"], arrays[f"block.{at}.components"] = block.mean, block.components
        for encoder in self.encoders:
            arrays |= {f"encoder.{encoder.kind}.{name}": array for name, array in encoder.tensors.items()}
        return arrays


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
        wanted = manifest["tensors_sha256"][:12]
        _corrupt(
            TENSORS, f"the file that {MANIFEST} was written with, sha256 {wanted}", f"a damaged one, {digest[:12]}"
        )
    arrays = _Arrays(_tensors(files[TENSORS]))
    try:
        profile = ProfileSpec.model_validate_json(json.dumps(manifest["profile"]))
    except ValidationError as error:
        raise CorruptModel(f"{MANIFEST}: profile: must be a profile (got {error.error_count()} problems)") from error
    bundle = Bundle(
        method=manifest["method"],
        profile=profile,
        shape=tuple(manifest["shape"]),
        clusters=tuple(manifest["clusters"]),
        noise_streams=tuple(manifest["noise_streams"]),
        blocks=_blocks(manifest["blocks"], arrays),
        encoders=tuple(_encoder(entry, arrays) for entry in manifest["encoders"]),
        assigner=_assigner(manifest, arrays),
        tails=Tails(*(arrays.take(f"tails.{name}") for name in _TAILS)),
        unknown_tails=_unknown_tails(arrays),
        table=tuple(manifest["table"]),
        card=manifest["card"],
        **{name: arrays.take(name) for name in _NOISE},
    )
    arrays.require_empty()
    return bundle


class _Arrays:
    """Tensors by name, each to be taken once."""

    def __init__(self, arrays: dict[str, F32]) -> None:
        self._arrays = arrays

    def take(self, name: str) -> F32:
        if name not in self._arrays:
            _corrupt(TENSORS, f"to hold {name}", "none of that name")
        array = self._arrays.pop(name)
        if array.dtype != np.float32:
            _corrupt(name, "float32", array.dtype)
        return array

    def with_prefix(self, prefix: str) -> dict[str, F32]:
        return {name.removeprefix(prefix): self.take(name) for name in sorted(self._arrays) if name.startswith(prefix)}

    def require_empty(self) -> None:
        if self._arrays:
            _corrupt(TENSORS, "no other tensor", min(self._arrays))


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
        found = manifest.get("format")
        age = "" if type(found) is not int else ", of a newer version" if found > FORMAT else ", of an older version"
        _corrupt(f"{MANIFEST}: format", f"{FORMAT}", f"{found}{age}")
    for key, kind in _KEYS.items():
        if type(manifest.get(key)) is not kind:
            _corrupt(f"{MANIFEST}: {key}", kind.__name__, type(manifest.get(key)).__name__)
    return manifest


def _tensors(content: bytes) -> dict[str, F32]:
    try:
        return dict(load(content))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        msg = f"{TENSORS}: must be safetensors (got {str(error)[:80]})"
        raise CorruptModel(msg) from error


def _blocks(listed: Sequence[Any], arrays: _Arrays) -> tuple[Block, ...]:
    blocks = []
    for at, entry in enumerate(listed):
        if not isinstance(entry, dict) or set(entry) != {"name", "scale", "residual"}:
            _corrupt(f"{MANIFEST}: blocks[{at}]", "name, scale and residual", entry)
        if type(entry["name"]) is not str or type(entry["scale"]) is not float or type(entry["residual"]) is not float:
            _corrupt(f"{MANIFEST}: blocks[{at}]", "a text and two numbers", entry)
        mean, components = arrays.take(f"block.{at}.mean"), arrays.take(f"block.{at}.components")
        blocks.append(Block(entry["name"], mean, components, entry["scale"], entry["residual"]))
    return tuple(blocks)


def _unknown_tails(arrays: _Arrays) -> Tails | None:
    found = arrays.with_prefix("unknown_tails.")
    if found and set(found) != set(_TAILS):
        _corrupt("unknown_tails", ", ".join(_TAILS), ", ".join(found))
    return Tails(**found) if found else None


def _encoder(entry: Any, arrays: _Arrays) -> EncoderWeights:
    if not isinstance(entry, dict) or set(entry) != {"name", "kind", "architecture"}:
        _corrupt(f"{MANIFEST}: encoders", "name, kind and architecture of each", entry)
    if type(entry["name"]) is not str or type(entry["kind"]) is not str or type(entry["architecture"]) is not dict:
        _corrupt(f"{MANIFEST}: encoders", "two texts and an object of each", entry)
    tensors = arrays.with_prefix(f"encoder.{entry['kind']}.")
    return EncoderWeights(entry["name"], cast("Kind", entry["kind"]), entry["architecture"], tensors, {})


def _assigner(manifest: Mapping[str, Any], arrays: _Arrays) -> Assigner:
    layers = [
        Layer(arrays.take(f"head.{at}.weight"), arrays.take(f"head.{at}.bias")) for at in range(manifest["layers"])
    ]
    means, whiten, log_weights = (arrays.take(f"mixture.{name}") for name in ("means", "whiten", "log_weights"))
    mixture = Mixture(means, whiten, log_weights, manifest["dof"], manifest["exponent"])
    return Assigner(Head(tuple(layers)), mixture, manifest["temperature"])


def _check(bundle: Bundle) -> None:
    for name in ("clusters", "noise_streams"):
        ids = getattr(bundle, name)
        if not all(isinstance(text, str) and 0 < len(text) <= 256 for text in ids) or len(set(ids)) != len(ids):
            _corrupt(name, "distinct texts of 1 to 256 characters", ids)
    if len(bundle.clusters) != bundle.assigner.mixture.clusters:
        _corrupt("clusters", f"{bundle.assigner.mixture.clusters} ids, one a kernel", len(bundle.clusters))
    if len(bundle.shape) != 3 or not all(type(n) is int and n > 0 for n in bundle.shape):
        _corrupt("shape", "three positive whole numbers", bundle.shape)
    if len(bundle.table) not in (0, len(bundle.clusters)) or not all(isinstance(row, Mapping) for row in bundle.table):
        _corrupt("table", f"{len(bundle.clusters)} objects", bundle.table)
    kinds = [encoder.kind for encoder in bundle.encoders]
    if len(set(kinds)) != len(kinds):
        _corrupt("encoders", "one of each kind", kinds)
    for name, array in bundle.arrays().items():
        if array.dtype != np.float32:
            _corrupt(name, "float32", array.dtype)
    _check_noise(bundle)
    _check_blocks(bundle)
    _check_ranges(bundle.assigner)


def _check_noise(bundle: Bundle) -> None:
    channels, bins, _ = bundle.shape
    streams = len(bundle.noise_streams)
    shapes = ((streams, channels, bins), (streams, channels, bins), (channels, bins), (channels, bins))
    for name, shape in zip(_NOISE, shapes, strict=True):
        array = getattr(bundle, name)
        if array.dtype != np.float32 or array.shape != shape:
            _corrupt(name, f"float32 of shape {shape}", f"{array.dtype} of shape {array.shape}")
        if not np.isfinite(array).all():
            _corrupt(name, "finite", "NaN or infinity")
    if not (bundle.noise_spread > 0).all() or not (bundle.fallback_spread > 0).all():
        _corrupt("noise_spread, fallback_spread", "> 0", "0 or less")


def _check_blocks(bundle: Bundle) -> None:
    width = sum(len(block.components) for block in bundle.blocks)
    if not bundle.blocks or width != bundle.assigner.head.inputs:
        _corrupt("blocks", f"{bundle.assigner.head.inputs} features, as the head wants", width)
    for block in bundle.blocks:
        known = {"spectrogram": int(np.prod(bundle.shape)), "waveform": bundle.shape[0] * bundle.profile.samples}
        wanted = (known | {"level": 1}).get(block.name, block.mean.size)
        if block.mean.size != wanted:
            _corrupt(f"block {block.name}", f"rows of {wanted} values", block.mean.size)
        if block.name in KIND_OF and KIND_OF[block.name] not in {encoder.kind for encoder in bundle.encoders}:
            _corrupt("encoders", f"of kind {KIND_OF[block.name]}, as a block wants it", "none")


def _check_ranges(assigner: Assigner) -> None:
    """Check that finite features get finite memberships."""
    if len(assigner.head.layers) > _MOST_LAYERS:
        _corrupt("head", f"at most {_MOST_LAYERS} layers", len(assigner.head.layers))
    for name, array in assigner.arrays().items():
        if not (np.abs(array) <= _MOST_WEIGHT).all():
            _corrupt(name, f"within +- {_MOST_WEIGHT:g}", f"{np.abs(array).max():g}")
    for name, (least, most) in _BOUNDS.items():
        value = getattr(assigner if name == "temperature" else assigner.mixture, name)
        if not least <= value <= most:
            _corrupt(name, f"{least:g}..{most:g}", f"{value:g}")


def _difference(own: ProfileSpec, other: ProfileSpec) -> str:
    """Name the settings in which two profiles differ."""
    mine, others = own.model_dump(), other.model_dump()
    return "; they differ in " + ", ".join(sorted(name for name in mine if mine[name] != others[name]))
