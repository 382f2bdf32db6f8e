"""Architectures of encoders as ONNX graphs: bytes of a ModelProto, written by hand, with standard operators only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import CorruptModel
from streamclust.core.types import F32

INPUT = "x"
OUTPUT = "y"
_IR, _OPSET = 8, 17
_FLOAT, _INT64 = 1, 7
_VARINT, _BYTES, _FIXED32 = 0, 2, 5
_A_FLOAT, _A_INT, _A_INTS = 1, 2, 7
_QUIET = 1e-30
"""Added to the mean square of a waveform before its root: silence stays silence."""

SHARPNESS, LEVEL = (1e-3, 1e6), (1e-36, 1e36)
"""Least and most of these settings of a kernel bank; far within what float32 holds."""
MOST_DILATION = 1 << 16
_SMALL = 1 << 10
"""Cells of an image that is averaged by one product."""

Shape = tuple[int, ...]
Tensors = Mapping[str, F32]


def area_pooling(length: int, cells: int) -> F32:
    """Return the matrix (length, cells) that averages a line over `cells` equal parts; for any two lengths >= 1."""
    edges = np.arange(cells + 1) * (length / cells)
    low, high = np.maximum.outer(np.arange(length), edges[:-1]), np.minimum.outer(np.arange(1, length + 1), edges[1:])
    overlap = np.maximum(high - low, 0.0)
    return np.ascontiguousarray(overlap / overlap.sum(axis=0), np.float32)


def interpolation(cells: int, length: int) -> F32:
    """Return the matrix (cells, length) that draws a line through the cells' centres, constant beyond the outer ones."""
    at = (np.arange(length) + 0.5) * (cells / length) - 0.5
    return np.ascontiguousarray(
        np.maximum(1.0 - np.abs(np.clip(at, 0, cells - 1) - np.arange(cells)[:, None]), 0.0), np.float32
    )


def dilations(architecture: Mapping[str, Any], length: int) -> list[int]:
    """Dilations of a kernel bank that a waveform of `length` samples has room for; at least one."""
    reach = int(architecture["length"]) - 1
    return [d for at, d in enumerate(architecture["dilations"]) if at == 0 or reach * d < length]


def width(architecture: Mapping[str, Any], tensors: Tensors, shape: Shape) -> int:
    """Values that an encoder makes of one channel.

    Raises
    ------
    CorruptModel
        The architecture is not known.
    """
    if architecture.get("family") == "pyramid":
        return len(tensors["latent.bias"])
    if architecture.get("family") == "kernel-bank":
        return sum(len(tensors[f"latent.{d}.bias"]) for d in dilations(architecture, shape[-1]))
    raise CorruptModel(f"encoder: family must be pyramid or kernel-bank (got {architecture.get('family')!r})")


def encoder_model(architecture: Mapping[str, Any], tensors: Tensors, shape: Shape) -> bytes:
    """Model of (rows, 1, *shape) -> (rows, E): one row is one channel of one window; any number of rows.

    Parameters
    ----------
    architecture
        ``family`` pyramid (shape (F, T)) or kernel-bank (shape (n,)), and its sizes.
    tensors
        The weights by name.
    shape
        Static shape of one channel.

    Raises
    ------
    CorruptModel
        The architecture is not known.
    """
    columns = width(architecture, tensors, shape)
    graph = Graph(f"{architecture['family']} encoder")
    if architecture["family"] == "pyramid":
        _pyramid(graph, architecture, tensors, shape)
    else:
        _kernel_bank(graph, architecture, tensors, shape)
    return graph.model((1, *shape), (columns,))


def decoder_model(architecture: Mapping[str, Any], tensors: Tensors, shape: Shape) -> bytes:
    """Model of (rows, E) -> (rows, 1, F, T), of a pyramid.

    Raises
    ------
    CorruptModel
        This encoder has no decoder.
    """
    sizes = architecture.get("decoder")
    if architecture.get("family") != "pyramid" or not isinstance(sizes, Mapping):
        raise CorruptModel("encoder: must have a decoder to reconstruct (got one without)")
    graph = Graph("pyramid decoder")
    (rows, columns), channels = sizes["grid"], int(sizes["channels"])
    _check_chain(tensors, [f"decoder.conv{at}" for at in range(3)], channels)
    h = graph.affine(INPUT, tensors["decoder.latent.weight"], tensors["decoder.latent.bias"])
    h = graph.add("Reshape", [graph.add("Relu", [h]), graph.ints("grid", [-1, channels, rows, columns])])
    steps = [(rows, columns), *(_half(shape) for _ in range(1)), shape]
    for at, (before, after) in enumerate(pairwise(steps)):
        h = graph.add("Relu", [graph.convolve(h, tensors, f"decoder.conv{at}")])
        h = graph.both_axes(h, interpolation(before[0], after[0]).T, interpolation(before[1], after[1]))
    graph.add("Identity", [graph.convolve(h, tensors, f"decoder.conv{len(steps) - 1}")], OUTPUT)
    return graph.model((len(tensors["latent.bias"]),), (1, *shape))


def _half(shape: Shape) -> Shape:
    return tuple(-(-n // 2) for n in shape)


def _pyramid(graph: Graph, architecture: Mapping[str, Any], tensors: Tensors, shape: Shape) -> None:
    """Convolutions with ReLU; every stage averaged over the cells of a grid; all that through one affine map."""
    rows, columns = architecture["grid"]
    _check_chain(tensors, [f"conv{at}" for at in range(len(architecture["strides"]))], 1)
    h, parts = INPUT, []
    for at, stride in enumerate(architecture["strides"]):
        h = graph.add("Relu", [graph.convolve(h, tensors, f"conv{at}", stride)])
        shape = tuple(-(-n // stride) for n in shape)
        pooled = _averaged(graph, h, shape, (area_pooling(shape[0], rows), area_pooling(shape[1], columns)))
        parts.append(graph.add("Flatten", [pooled], axis=1))
    graph.affine(graph.add("Concat", parts, axis=1), tensors["latent.weight"], tensors["latent.bias"], OUTPUT)


def _averaged(graph: Graph, h: str, shape: Shape, cells: tuple[F32, F32]) -> str:
    """Average images (N, C, F, T) over the cells of a grid; small ones by one product: two for each image cost more."""
    if shape[0] * shape[1] > _SMALL:
        return graph.both_axes(h, cells[0].T, cells[1])
    flat = graph.add("Reshape", [h, graph.ints("flat", [0, 0, -1])])
    return graph.add("MatMul", [flat, graph.floats("cells", np.kron(*cells))])


def _check_chain(tensors: Tensors, names: Sequence[str], channels: int) -> None:
    """Check that each convolution takes what the one before makes: ONNX Runtime notices only when it runs."""
    for name in names:
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        if weight.ndim != 4 or weight.shape[1] != channels or bias.shape != weight.shape[:1]:
            raise CorruptModel(
                f"encoder: {name} must take {channels} channels; architecture and tensors must agree "
                f"(got {weight.shape} and {bias.shape})"
            )
        channels = len(weight)


def _check_bank(architecture: Mapping[str, Any], tensors: Tensors) -> None:
    """Check the settings of a kernel bank: those that only distort the result pass every other check."""
    kernels, thresholds, length = tensors["kernels"], tensors["thresholds"], architecture["length"]
    if type(length) is not int or length % 2 == 0 or kernels.ndim != 3 or kernels.shape[1:] != (1, length):
        raise CorruptModel(f"encoder: kernels must be (K, 1, length), length odd (got {kernels.shape}, {length!r:.20})")
    if thresholds.ndim != 1 or not thresholds.size:
        raise CorruptModel(f"encoder: thresholds must be (T,), T >= 1 (got {thresholds.shape})")
    steps = architecture["dilations"]
    if not steps or not all(type(step) is int and 1 <= step <= MOST_DILATION for step in steps):
        raise CorruptModel(f"encoder: dilations must be 1..{MOST_DILATION} (got {steps!r:.80})")
    settings = {"sharpness": (architecture["sharpness"], SHARPNESS), "level": (architecture.get("level"), LEVEL)}
    for name, (value, (least, most)) in settings.items():
        if (value is None and name == "level") or (type(value) in (int, float) and least <= value <= most):
            continue
        raise CorruptModel(f"encoder: {name} must be {least:g}..{most:g} (got {value!r:.20})")


def _kernel_bank(graph: Graph, architecture: Mapping[str, Any], tensors: Tensors, shape: Shape) -> None:
    """Share of the time that each kernel's response exceeds each threshold (MiniRocket, Dempster 2021), softened.

    The waveform's mean is removed. It is divided by the root of half its own mean square and half the square of
    the architecture's ``level``: quiet windows stay quiet, and however loud one is, its shape is seen; without
    a level, by its own root mean square. A sigmoid in place of the step keeps the result continuous, so that
    rounding moves nothing.
    """
    _check_bank(architecture, tensors)
    x = graph.add("Sub", [INPUT, graph.add("ReduceMean", [INPUT], axes=[2], keepdims=1)])
    level = architecture.get("level")
    if level is not None:
        x = graph.add("Mul", [x, graph.floats("1 / level", np.float32(1 / float(level)))])
    power = graph.add("ReduceMean", [graph.add("Mul", [x, x])], axes=[2], keepdims=1)
    if level is not None:
        power = graph.add("Mul", [power, graph.floats("half", np.float32(0.5))])
    floor = graph.floats("floor", np.float32(_QUIET if level is None else 0.5))
    x = graph.add("Div", [x, graph.add("Sqrt", [graph.add("Add", [power, floor])])])
    sharpness = graph.floats("sharpness", np.float32(architecture["sharpness"]))
    kernels = graph.floats("kernels", tensors["kernels"])
    thresholds = [graph.floats(f"threshold{at}", value) for at, value in enumerate(tensors["thresholds"])]
    reach, parts = (int(architecture["length"]) - 1) // 2, []
    for dilation in dilations(architecture, shape[-1]):
        pads = [reach * dilation] * 2
        h = graph.add("Conv", [x, kernels], dilations=[dilation], pads=pads, strides=[1])
        shares = []
        for threshold in thresholds:
            over = graph.add("Mul", [graph.add("Sub", [h, threshold]), sharpness])
            shares.append(graph.add("ReduceMean", [graph.add("Sigmoid", [over])], axes=[2], keepdims=0))
        rows = graph.add("Concat", shares, axis=1)
        parts.append(graph.affine(rows, tensors[f"latent.{dilation}.weight"], tensors[f"latent.{dilation}.bias"]))
    graph.add("Concat", parts, OUTPUT, axis=1)


class Graph:
    """A graph under construction: nodes and constants, as protobuf fields (onnx.proto3, IR version 8)."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[bytes] = []
        self._constants: dict[str, bytes] = {}

    def floats(self, name: str, value: NDArray[Any] | np.floating[Any]) -> str:
        """Add a float32 constant and return its name, which is made unique."""
        return self._constant(name, np.asarray(value, "<f4"), _FLOAT)

    def ints(self, name: str, value: Sequence[int]) -> str:
        """Add an int64 constant (N,) and return its name, which is made unique."""
        return self._constant(name, np.asarray(value, "<i8"), _INT64)

    def add(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: float | Sequence[int]) -> str:
        """Add a node with one output and return the output's name."""
        name = output or f"h{len(self._nodes)}"
        fields = [_text(1, name_in) for name_in in inputs]
        fields += [_text(2, name), _text(3, f"n{len(self._nodes)}"), _text(4, operator)]
        fields += [_block(5, _attribute(key, value)) for key, value in attributes.items()]
        self._nodes.append(b"".join(fields))
        return name

    def affine(self, h: str, weight: F32, bias: F32, output: str = "") -> str:
        """Rows (N, P) -> rows @ weight.T + bias."""
        return self.add("Gemm", [h, self.floats("weight", weight), self.floats("bias", bias)], output, transB=1)

    def convolve(self, h: str, tensors: Tensors, name: str, stride: int = 1) -> str:
        """Images through ``name.weight`` (out, in, k, k) and ``name.bias``, zeros beyond the border."""
        weight = tensors[f"{name}.weight"]
        around = [side // 2 for side in weight.shape[2:]] * 2
        inputs = [h, self.floats(f"{name}.weight", weight), self.floats(f"{name}.bias", tensors[f"{name}.bias"])]
        return self.add("Conv", inputs, pads=around, strides=[stride, stride])

    def both_axes(self, h: str, left: F32, right: F32) -> str:
        """Images (.., F, T) -> left @ image @ right."""
        h = self.add("MatMul", [h, self.floats("right", right)])
        return self.add("MatMul", [self.floats("left", np.ascontiguousarray(left)), h])

    def model(self, shape: Shape, made: Shape) -> bytes:
        """Return the model: x (rows, *shape) -> y (rows, *made), float32."""
        graph = [_block(1, node) for node in self._nodes]
        graph += [_text(2, self._name), *(_block(5, tensor) for tensor in self._constants.values())]
        graph += [_block(11, _value(INPUT, shape)), _block(12, _value(OUTPUT, made))]
        head = _number(1, _IR) + _text(2, "streamclust") + _block(7, b"".join(graph))
        return head + _block(8, _text(1, "") + _number(2, _OPSET))

    def _constant(self, name: str, value: NDArray[Any], kind: int) -> str:
        unique = f"{name}#{len(self._constants)}"
        dims = b"".join(_number(1, n) for n in value.shape)
        self._constants[unique] = dims + _number(2, kind) + _text(8, unique) + _block(9, value.tobytes())
        return unique


def _attribute(name: str, value: float | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, _A_INT)
    if isinstance(value, float):
        return _text(1, name) + _key(2, _FIXED32) + np.float32(value).tobytes() + _number(20, _A_FLOAT)
    return _text(1, name) + b"".join(_number(8, n) for n in value) + _number(20, _A_INTS)


def _value(name: str, shape: Shape) -> bytes:
    """ValueInfoProto of a float tensor with any number of rows."""
    dims = [_block(1, _text(2, "rows")), *(_block(1, _number(1, n)) for n in shape)]
    tensor = _number(1, _FLOAT) + _block(2, b"".join(dims))
    return _text(1, name) + _block(2, _block(1, tensor))


def _text(field: int, value: str) -> bytes:
    return _block(field, value.encode())


def _block(field: int, value: bytes) -> bytes:
    return _key(field, _BYTES) + bytes(_varint(len(value))) + value


def _number(field: int, value: int) -> bytes:
    return _key(field, _VARINT) + bytes(_varint(value % (1 << 64)))


def _key(field: int, wire: int) -> bytes:
    return bytes(_varint(field << 3 | wire))


def _varint(value: int) -> Iterator[int]:
    """Seven bits a byte, least significant first."""
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
