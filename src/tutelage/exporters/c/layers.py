"""Layers in C: what multiplies by a matrix of constants, as it is or moved over an image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.c.graph import INSTEAD, Index, Node
from tutelage.exporters.c.quantised import read_as_bytes, weights
from tutelage.types import Array

if TYPE_CHECKING:
    from tutelage.exporters.c.writer import Writer

WIDE, WIDTH, ROWS = 32, 16, 4
"""Results of a layer that are summed up at once; with several rows, of so many at once."""


@dataclass(frozen=True)
class Layer:
    """What a layer multiplies by and adds."""

    name: str
    weight: Array
    """``[M,K]``."""
    bias: Array
    """``[M]``, float32."""
    scales: Array | None
    """``[M]``, if the weights are bytes."""
    bits: tuple[float, int] | None
    """The scale and zero of what goes in, if that is bytes as well."""

    def floats(self) -> Array:
        """Return ``weight[M,K]`` in floating point."""
        weight = self.weight.astype(np.float32)
        return weight if self.scales is None else weight * self.scales[:, None]


def gemm(w: "Writer", node: Node) -> str:
    """Return y = alpha W x + beta b."""
    x, by, *bias = node.inputs
    transposed = bool(node.about.get("transB", 0))
    weight, scales = weights(w, by, 0 if transposed else 1)
    weight = weight if transposed else weight.T
    if node.about.get("transA", 0) or weight.ndim != 2 or math.prod(w.shape(x)[:-1]) != 1:
        raise UserError(f"the policy multiplies matrices that C has no loop for here: {INSTEAD}")
    alpha, beta = (np.float32(node.about.get(name, 1.0)) for name in ("alpha", "beta"))
    if alpha != 1.0 and scales is not None:
        scales = alpha * scales
    elif alpha != 1.0:
        weight = alpha * weight
    bits = read_as_bytes(w, x) if scales is not None else None
    source = w.materialised(bits[0] if bits else x)
    added = beta * _bias(w, bias, len(weight))
    layer = Layer(node.output, weight, added, scales, bits[1:] if bits else None)
    at = "m" if bits else "m + j"
    into, value = w.result(node, [*["0"] * (len(w.shape(node.output)) - 1), "m + j"])
    if bits:
        return _of_bytes(w, layer, source, f"{into}[{at}]", value)
    return _of_floats(w, layer, source, [f"{into}[{at}]"], value)


def _bias(w: "Writer", bias: Sequence[str], size: int) -> Array:
    """Return what a layer adds, ``[M]``."""
    added = w.constant(bias[0]) if bias else np.zeros(1)
    if added is None:
        raise UserError(f"a layer adds what is no constant: {INSTEAD}")
    return np.broadcast_to(added.ravel(), (size,)).astype(np.float32)


@dataclass(frozen=True)
class Window:
    """How a convolution moves over an image; along one side only, the image has one row."""

    sides: Sequence[int]
    """Of the image: rows and columns."""
    kernel: Sequence[int]
    strides: Sequence[int]
    apart: Sequence[int]
    pads: Sequence[int]
    """Before and behind: above, left, below, right."""
    out: Sequence[int]
    """Of the result: rows and columns."""
    flat: bool

    @property
    def pixels(self) -> int:
        """How many results there are of each channel."""
        return math.prod(self.out)

    def at(self, axis: int) -> str:
        """Return the row (0) or column (1) of the image at ``oy, ox`` of the result."""
        o, k = ("oy", "ky") if axis == 0 else ("ox", "kx")
        return f"{o} * {self.strides[axis]} - {self.pads[axis]} + {k} * {self.apart[axis]}"

    def seen(self, w: "Writer", source: str, channel: str, blank: str) -> str:
        """Return the number of a channel at ``y, x``; ``blank`` is what lies beyond the edge."""
        value = w.at(source, ["0", channel, *([] if self.flat else ["y"]), "x"])
        if not any(self.pads):
            return value
        height, width = self.sides
        return f"((y >= 0 && y < {height} && x >= 0 && x < {width}) ? {value} : {blank})"

    def index(self, channel: str) -> Index:
        """Return the index of a channel of the result, its pixels counted by ``o``."""
        return ["0", channel, "o"] if self.flat else ["0", channel, "0", "o"]


def _window(w: "Writer", node: Node, source: str, weight: Array) -> Window:
    sides = w.shape(source)
    if len(sides) not in (3, 4):
        raise UserError(f"the policy uses a convolution of volumes: {INSTEAD}")
    usual = len(sides) - 2
    strides, apart = (list(node.about.get(n) or [1] * usual) for n in ("strides", "dilations"))
    pads = list(node.about.get("pads") or [0] * 2 * usual)
    image, kernel, out = sides[2:], weight.shape[2:], w.shape(node.output)[2:]
    if usual == 1:
        image, kernel, out = (1, *image), (1, *kernel), (1, *out)
        strides, apart, pads = [1, *strides], [1, *apart], [0, pads[0], 0, pads[1]]
    return Window(image, kernel, strides, apart, pads, out, usual == 1)


def conv(w: "Writer", node: Node) -> str:
    """Return a convolution, of all channels or of groups of them."""
    x, by, *bias = node.inputs
    weight, scales = weights(w, by, 0)
    bits = read_as_bytes(w, x) if scales is not None else None
    source = bits[0] if bits else x
    window = _window(w, node, source, weight)
    if source not in w.lazy:
        w.materialised(source)
    M, channels = weight.shape[:2]
    layer = Layer(
        node.output,
        np.ascontiguousarray(weight.reshape(M, -1)),
        _bias(w, bias, M),
        scales,
        bits[1:] if bits else None,
    )
    blank = str(bits[2]) if bits else "0.0f"
    groups = int(node.about.get("group", 1))
    channel = "c" if groups == 1 else f"m / {M // groups} * {channels} + c"
    seen = window.seen(w, source, channel, blank)
    into, value = w.result(node, window.index("m"))
    if groups > 1:
        return _grouped(w, layer, window, channels, seen, into, value)
    return _dense(w, layer, window, channels, seen, w.kind(source), into, value)


def _dense(
    w: "Writer",
    layer: Layer,
    window: Window,
    channels: int,
    seen: str,
    kind: str,
    into: str,
    value: str,
) -> str:
    """Return a convolution of all channels: what is seen is gathered, then multiplied as a row."""
    pixels, columns, K = window.pixels, window.out[1], layer.weight.shape[1]
    if layer.bits is not None:
        at_once, pixel = 1, "o"
        product = _of_bytes(w, layer, "p", f"{into}[m * {pixels} + o + 0]", value)
    else:
        kind, at_once, pixel = "float", ROWS, f"o + t < {pixels} ? o + t : {pixels - 1}"
        places = [f"{into}[(m + j) * {pixels} + o + {t}]" for t in range(ROWS)]
        product = _of_floats(w, layer, "p", places, value, rows=pixels)
    return (
        f"for (int o = 0; o < {pixels}; o += {at_once}) {{\n    {kind} p[{at_once * K}];\n"
        f"    int n = 0;\n    for (int t = 0; t < {at_once}; t++) {{\n"
        f"        const int i = {pixel}, oy = i / {columns}, ox = i % {columns};\n"
        f"        for (int c = 0; c < {channels}; c++) "
        f"for (int ky = 0; ky < {window.kernel[0]}; ky++) {{\n"
        f"            const int y = {window.at(0)};\n"
        f"            (void)y;\n"
        f"            for (int kx = 0; kx < {window.kernel[1]}; kx++) {{\n"
        f"                const int x = {window.at(1)};\n"
        f"                p[n++] = {seen};\n            }}\n        }}\n    }}\n"
        f"    {product}\n    }}"
    )


def _grouped(
    w: "Writer", layer: Layer, window: Window, channels: int, seen: str, into: str, value: str
) -> str:
    """Return a convolution each of whose results looks at the ``channels`` of its group only."""
    M, K = layer.weight.shape
    b = w.table(f"{layer.name}_b", layer.bias)
    if layer.scales is not None and layer.bits is not None:
        scale, zero = layer.bits
        s = w.table(f"{layer.name}_s", np.float32(scale) * layer.scales)
        number, weight = "int32_t", layer.weight
        seen, came_to = f"({seen} - {zero})", f"(float)a * {s}[m] + {b}[m]"
    else:
        number, weight, came_to = "float", layer.floats(), f"a + {b}[m]"
    table = w.table(f"{layer.name}_w", weight)
    return (
        f"for (int m = 0; m < {M}; m++) for (int o = 0; o < {window.pixels}; o++) {{\n"
        f"        const int oy = o / {window.out[1]}, ox = o % {window.out[1]};\n"
        f"        {number} a = 0;\n        int n = m * {K};\n"
        f"        for (int c = 0; c < {channels}; c++) "
        f"for (int ky = 0; ky < {window.kernel[0]}; ky++) "
        f"for (int kx = 0; kx < {window.kernel[1]}; kx++, n++) {{\n"
        f"            const int y = {window.at(0)}, x = {window.at(1)};\n"
        f"            (void)y; (void)x;\n"
        f"            a += {seen} * {table}[n];\n        }}\n"
        f"        const float r = {came_to};\n"
        f"        {into}[m * {window.pixels} + o] = {value};\n    }}"
    )


def _of_bytes(w: "Writer", layer: Layer, x: str, place: str, value: str) -> str:
    """Return y_m = s_x s_m sum_k (x_k - zero) w_mk + b_m, a sum of int32 each; ``value`` is put."""
    assert layer.scales is not None
    assert layer.bits is not None
    scale, zero = layer.bits
    M, K = layer.weight.shape
    begin = (-zero * layer.weight.astype(np.int64).sum(axis=1)).astype(np.int32)
    b = w.table(f"{layer.name}_b", layer.bias)
    z, weight = w.table(f"{layer.name}_z", begin), w.table(f"{layer.name}_w", layer.weight)
    s = w.table(f"{layer.name}_s", np.float32(scale) * layer.scales)
    return (
        f"for (int m = 0; m < {M}; m++) {{\n"
        f"        const int8_t *w = {weight} + m * {K};\n"
        f"        int32_t a = {z}[m];\n"
        f"        for (int k = 0; k < {K}; k++) a += {x}[k] * w[k];\n"
        f"        const float r = (float)a * {s}[m] + {b}[m];\n"
        f"        {place} = {value};\n    }}"
    )


def _of_floats(
    w: "Writer", layer: Layer, x: str, places: Sequence[str], value: str, rows: int = 1
) -> str:
    """Return y_m = sum_k x_k w_mk + b_m of one x, or of several of ``rows``: a place for each.

    A block of results is summed up at once, and the weights lie in blocks as well.
    """
    M, K = layer.weight.shape
    n = len(places)
    width = WIDE if n == 1 else WIDTH
    floats = layer.floats()
    blocks = [np.ascontiguousarray(floats[m : m + width].T).ravel() for m in range(0, M, width)]
    b = w.table(f"{layer.name}_b", layer.bias)
    weight = w.table(f"{layer.name}_w", np.concatenate(blocks))
    values = ", ".join(f"v{t} = {x}[{f'{t} * {K} + ' * (n > 1)}k]" for t in range(n))
    begins = " = ".join(f"a{t}[j]" for t in range(n))
    adds = " ".join(f"a{t}[j] += v{t} * u;" for t in range(n))
    kept = "".join(
        f"        {f'if (o + {t} < {rows}) ' * (t > 0)}"
        f"{{ const float r = a{t}[j]; {place} = {value}; }}\n"
        for t, place in enumerate(places)
    )

    def block(start: int, end: int, size: int) -> str:
        sums = ", ".join(f"a{t}[{size}]" for t in range(n))
        return (
            f"for (int m = {start}; m < {end}; m += {size}) {{\n"
            f"        float {sums};\n        const float *w = {weight} + m * {K};\n"
            f"        for (int j = 0; j < {size}; j++) {begins} = {b}[m + j];\n"
            f"        for (int k = 0; k < {K}; k++, w += {size}) {{\n"
            f"            const float {values};\n"
            f"            for (int j = 0; j < {size}; j++) "
            f"{{ const float u = w[j]; {adds} }}\n        }}\n"
            f"        for (int j = 0; j < {size}; j++) {{\n{kept}        }}\n    }}"
        )

    whole = M - M % width
    bounds = ((0, whole, width), (whole, M, M - whole))
    return "\n    ".join(block(*one) for one in bounds if one[0] < one[1])
