"""Pretrained convolutional encoders: reading their weights, and running them in ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import safetensors
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from streamclust.core.errors import CorruptModel, ModelError
from streamclust.core.types import F32
from streamclust.model import onnx_graph

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FORMAT = 1
"""Version of the encoder files; a newer one is refused."""

Kind = Literal["spectrogram", "waveform"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_FOLDER = "encoders"
_SUFFIX = ".safetensors"
_CELLS: Mapping[Kind, int] = {"spectrogram": 1 << 16, "waveform": 1 << 13}
"""About this many input values go through the network together, so that they stay in the cache; changes no result."""
_MOST_HEADER = 1 << 20
_UNFIT = (KeyError, TypeError, ValueError, ArithmeticError, MemoryError)
"""What building a graph raises when an architecture is no such thing: a stride of 0, a grid of 1e13 cells."""


@dataclass(frozen=True, slots=True, eq=False)
class EncoderWeights:
    """One encoder: what it is made of, as plain values.

    Parameters
    ----------
    name
        As `load` finds it.
    kind
        What goes in: normalised spectrograms, or prepared waveforms.
    architecture
        Sizes, as `onnx_graph` reads them; JSON values.
    tensors
        Weights by name.
    card
        What people want to know of it; JSON values.

    Raises
    ------
    CorruptModel
        A tensor is not finite float32, or the kind is not known.
    """

    name: str
    kind: Kind
    architecture: Mapping[str, Any]
    tensors: Mapping[str, F32]
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values and freeze the arrays."""
        if self.kind not in KINDS:
            raise CorruptModel(f"encoder {self.name}: kind must be one of {', '.join(KINDS)} (got {self.kind!r})")
        for name, tensor in self.tensors.items():
            if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
                raise CorruptModel(f"encoder {self.name}: tensor {name} must be finite float32 (got {tensor.dtype})")
            tensor.flags.writeable = False

    @property
    def parameters(self) -> int:
        """Count of numbers in the tensors."""
        return sum(tensor.size for tensor in self.tensors.values())

    @property
    def digest(self) -> str:
        """SHA-256 over architecture and tensors; two encoders with the same digest make the same rows."""
        total = hashlib.sha256(json.dumps([self.kind, self.architecture], sort_keys=True, default=dict).encode())
        for name in sorted(self.tensors):
            total.update(f"{name}{self.tensors[name].shape}".encode() + self.tensors[name].tobytes())
        return total.hexdigest()

    def at_level(self, waves: F32) -> EncoderWeights:
        """Return this waveform encoder for signals as loud as these: their median root mean square is its level.

        Without a level each waveform is brought to unit root mean square by itself, and loudness is not seen.

        Parameters
        ----------
        waves
            Prepared waveforms of the training set, shape (N, C, n); silent and missing ones do not count.

        Raises
        ------
        ModelError
            This is no waveform encoder, or no waveform varies.
        """
        if self.kind != "waveform":
            raise ModelError(f"encoder {self.name}: must be a waveform encoder to have a level (got {self.kind})")
        rms = waves.std(axis=-1, dtype=np.float64)
        heard = rms[np.isfinite(rms) & (rms > 0)]
        if not heard.size:
            raise ModelError(f"encoder {self.name}: must be given waveforms that vary (got none)")
        return replace(self, architecture={**self.architecture, "level": float(np.median(heard))})


def names() -> tuple[str, ...]:
    """Names of the encoders that come with the package."""
    found = (entry.name for entry in resources.files("streamclust").joinpath(_FOLDER).iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


def load(name: str, kind: Kind = "spectrogram") -> EncoderWeights:
    """Read an encoder that comes with the package; needs no network.

    Raises
    ------
    ModelError
        There is no encoder of this name and kind.
    CorruptModel
        Its file is damaged.
    """
    if name not in names():
        raise ModelError(f"encoder: must be one of {', '.join(names()) or 'none (none is installed)'} (got {name!r})")
    found = from_bytes(resources.files("streamclust").joinpath(_FOLDER, name + _SUFFIX).read_bytes(), name)
    for weights in found:
        if weights.kind == kind:
            return weights
    raise ModelError(f"encoder {name}: kind must be one of {', '.join(w.kind for w in found)} (got {kind!r})")


def to_bytes(encoders: Sequence[EncoderWeights]) -> bytes:
    """One safetensors file of encoders of different kinds and one name; `from_bytes` reads it."""
    tensors = {f"{e.kind}.{name}": np.ascontiguousarray(t) for e in encoders for name, t in e.tensors.items()}
    about = {e.kind: {"architecture": e.architecture, "card": e.card} for e in encoders}
    text = json.dumps(about, sort_keys=True, allow_nan=False, default=dict)
    return _ordered(save_tensors(tensors, {"format": str(FORMAT), "encoders": text}))


def _ordered(data: bytes) -> bytes:
    """Return the same file with its header in order: safetensors writes the metadata in any, other each time."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def from_bytes(data: bytes, name: str) -> tuple[EncoderWeights, ...]:
    """Read what `to_bytes` wrote, as encoders of that name.

    Raises
    ------
    CorruptModel
        The bytes are damaged, incomplete, or of a newer format.
    """
    try:
        tensors = load_tensors(data)
        about = _metadata(data)
        if int(about["format"]) > FORMAT:
            raise CorruptModel(f"encoder {name}: format must be at most {FORMAT} (got {about['format']})")
        entries = json.loads(about["encoders"])
        return tuple(_one(name, kind, entry, tensors) for kind, entry in sorted(entries.items()))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise CorruptModel(f"encoder {name}: must be a whole encoder file (got {error!r:.200})") from error


class Encoder:
    """An encoder at work on one shape of input.

    Parameters
    ----------
    weights
        What to run.
    shape
        Of one channel or of one window: (F, T) or (C, F, T) for spectrograms, (n,) or (C, n) for waveforms.
    threads
        That ONNX Runtime may use; changes no result beyond rounding.

    Raises
    ------
    CorruptModel
        The weights do not fit their architecture.
    """

    def __init__(self, weights: EncoderWeights, shape: tuple[int, ...], threads: int = 1) -> None:
        self.weights = weights
        self._axes = 2 if weights.kind == "spectrogram" else 1
        if len(shape) not in (self._axes, self._axes + 1) or min(shape) < 1:
            raise CorruptModel(f"encoder {weights.name}: must be given the shape of a {weights.kind} (got {shape})")
        self._shape, self._threads = shape[-self._axes :], threads
        try:
            self.dimensions = onnx_graph.width(weights.architecture, weights.tensors, self._shape)
            model = onnx_graph.encoder_model(weights.architecture, weights.tensors, self._shape)
        except _UNFIT as error:
            raise CorruptModel(
                f"encoder {weights.name}: architecture and tensors must agree (got {error!r})"
            ) from error
        self._encoder = _session(model, threads, weights.name)
        self._decoder: InferenceSession | None = None

    def __call__(self, x: F32) -> F32:
        """Rows (N, C * dimensions) of windows (N, C, F, T) or (N, C, n); channels side by side, one set of weights."""
        rows = self._rows(x)
        out = np.empty((len(rows), self.dimensions), np.float32)
        for part in self._chunks(len(rows)):
            out[part] = self._encoder.run(None, {onnx_graph.INPUT: rows[part]})[0]
        return out.reshape(len(x), -1) if len(x) else np.empty((0, x.shape[1] * self.dimensions), np.float32)

    def reconstruct(self, x: F32) -> F32:
        """Spectrograms (N, C, F, T) as the decoder draws them from their rows.

        Raises
        ------
        CorruptModel
            This encoder has no decoder.
        """
        if self._decoder is None:
            weights = self.weights
            try:
                model = onnx_graph.decoder_model(weights.architecture, weights.tensors, self._shape)
            except _UNFIT as error:
                raise CorruptModel(f"encoder {weights.name}: decoder must be whole (got {error!r})") from error
            self._decoder = _session(model, self._threads, weights.name)
        latent = self(x).reshape(-1, self.dimensions)
        out = np.empty((len(latent), 1, *self._shape), np.float32)
        for part in self._chunks(len(latent)):
            out[part] = self._decoder.run(None, {onnx_graph.INPUT: latent[part]})[0]
        return out.reshape(x.shape)

    def _rows(self, x: F32) -> F32:
        if x.ndim != self._axes + 2 or x.shape[2:] != self._shape:
            raise ModelError(f"encoder {self.weights.name}: windows must be (N, C, {self._shape}) (got {x.shape})")
        return np.ascontiguousarray(x, np.float32).reshape(-1, 1, *self._shape)

    def _chunks(self, count: int) -> Iterator[slice]:
        size = max(1, _CELLS[self.weights.kind] // int(np.prod(self._shape)))
        return (slice(first, first + size) for first in range(0, count, size))


def _session(model: bytes, threads: int, name: str) -> InferenceSession:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    errors = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (errors.Fail, errors.InvalidGraph, errors.InvalidArgument, errors.RuntimeException) as error:
        raise CorruptModel(f"encoder {name}: architecture and tensors must agree (got {error!s:.200})") from error


def _metadata(data: bytes) -> Mapping[str, str]:
    """Metadata of a safetensors file whose tensors were read already: 8 bytes of length, then JSON."""
    (length,) = struct.unpack("<Q", data[:8])
    if length > _MOST_HEADER:
        msg = f"a header of {length} bytes"
        raise ValueError(msg)
    return cast("Mapping[str, str]", json.loads(data[8 : 8 + length])["__metadata__"])


def _one(name: str, kind: str, entry: Mapping[str, Any], tensors: Mapping[str, F32]) -> EncoderWeights:
    own = {key.removeprefix(f"{kind}."): t for key, t in tensors.items() if key.startswith(f"{kind}.")}
    return EncoderWeights(name, cast("Kind", kind), entry["architecture"], own, entry["card"])
