"""Convolutions in C: layers that are moved over an image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.c.graph import INSTEAD, Index, Node
from tutelage.exporters.c.layers import Layer, added, of_bytes, of_floats
from tutelage.exporters.c.quantised import read_as_bytes, weights
from tutelage.exporters.c.spelling import shifted
from tutelage.types import Array

if TYPE_CHECKING:
    from tutelage.exporters.c.writer import Writer

TILES = range(4, 11)
"""Neighbours whose results are summed up at once: registers hold no more."""


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

    def span(self, columns: int) -> int:
        """Return how many columns of the image so many of a row's results look at."""
        return (columns - 1) * self.strides[1] + (self.kernel[1] - 1) * self.apart[1] + 1

    def seen(self, w: "Writer", source: str, channel: str) -> str:
        """Return the number of a channel at ``y, x``, which are within the image."""
        return w.at(source, ["0", channel, *([] if self.flat else ["y"]), "x"])

    def index(self, channel: str) -> Index:
        """Return the index of a channel of the result at ``oy, ox``."""
        return ["0", channel, *([] if self.flat else ["oy"]), "ox"]

    def place(self, into: str, channel: str, beside: int = 0) -> str:
        """Return where that is put, or what is so many columns beside it."""
        at = f"ox + {beside}" if beside else "ox"
        return f"{into}[{channel} * {self.pixels} + oy * {self.out[1]} + {at}]"


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
        added(w, bias, M),
        scales,
        bits[1:] if bits else None,
    )
    groups = int(node.about.get("group", 1))
    channel = "c" if groups == 1 else f"m / {M // groups} * {channels} + c"
    seen = window.seen(w, source, channel)
    blank = str(bits[2]) if bits else "0.0f"
    into, value = w.result(node, window.index("m"))
    if groups > 1:
        return _grouped(w, layer, window, channels, _padded(window, seen, blank), into, value)
    rows, columns = window.out
    # Fewest results too many; of these, most at once.
    at_once = 1 if bits else min(TILES, key=lambda n: (-(-columns // n) * n, -n))
    wide = window.span(-(-columns // at_once) * at_once)
    kind = w.kind(source) if bits else "float"
    product = (
        _of_bytes(w, layer, window, wide, kind, into, value)
        if bits
        else _of_floats(w, layer, window, wide, at_once, into, value)
    )
    return (
        f"for (int oy = 0; oy < {rows}; oy++) {{\n"
        f"    {kind} p[{channels * window.kernel[0] * wide}];\n"
        f"    {_band(window, channels, wide, seen, blank)}\n"
        f"    for (int ox = 0; ox < {columns}; ox += {at_once}) {{\n"
        f"    {product}\n    }}\n    }}"
    )


def _padded(window: Window, seen: str, blank: str) -> str:
    """Return what is seen at ``y, x``, and ``blank`` beyond the edge."""
    height, width = window.sides
    inside = f"y >= 0 && y < {height} && x >= 0 && x < {width}"
    return f"(({inside}) ? {seen} : {blank})" if any(window.pads) else seen


def _band(window: Window, channels: int, wide: int, seen: str, blank: str) -> str:
    """Return loops that copy what a row of results looks at to ``p[c,ky,x]``, edges included."""
    above, left, below, _ = window.pads
    end = min(wide, window.sides[1] + left)
    inside = f"if (y >= 0 && y < {window.sides[0]}) " if above or below else ""
    blanks = f"for (int i = 0; i < {wide}; i++) p[n + i] = {blank};\n        "
    place = f"p[n + {shifted('x', left, 1)}]"
    return (
        f"for (int c = 0, n = 0; c < {channels}; c++) "
        f"for (int ky = 0; ky < {window.kernel[0]}; ky++, n += {wide}) {{\n"
        f"        const int y = {window.at(0)};\n        (void)y;\n"
        f"        {blanks if inside or left or end < wide else ''}"
        f"{inside}for (int x = 0; x < {end - left}; x++) {place} = {seen};\n    }}"
    )


def _of_floats(
    w: "Writer", layer: Layer, window: Window, wide: int, at_once: int, into: str, value: str
) -> str:
    """Return the results of ``at_once`` neighbours from ``ox`` on."""
    columns, kernel = window.out[1], window.kernel[1]
    head = (
        f"for (int n = 0; n < {layer.weight.shape[1] // kernel}; n++) "
        f"for (int k = 0; k < {kernel}; k++)"
    )
    beside = range(at_once)
    x = [f"p[n * {wide} + k * {window.apart[1]} + {_shift(window, t)}]" for t in beside]
    tests = ["" if columns % at_once == 0 else f"if (ox + {t} < {columns}) " for t in beside]
    places = [window.place(into, "(m + j)", t) for t in beside]
    return of_floats(w, layer, head, x, [*zip(tests, places, strict=True)], value)


def _shift(window: Window, beside: int) -> str:
    """Return at which column of ``p`` begins what ``ox``, or what is beside it, looks at."""
    return f"(ox + {beside}) * {window.strides[1]}"


def _of_bytes(
    w: "Writer", layer: Layer, window: Window, wide: int, kind: str, into: str, value: str
) -> str:
    """Return the result at ``ox``: what it looks at, put in a row, is multiplied as one."""
    K, kernel = layer.weight.shape[1], window.kernel[1]
    return (
        f"{kind} q[{K}];\n"
        f"    for (int n = 0; n < {K // kernel}; n++) for (int k = 0; k < {kernel}; k++) "
        f"q[n * {kernel} + k] = p[n * {wide} + k * {window.apart[1]} + {_shift(window, 0)}];\n"
        f"    {of_bytes(w, layer, 'q', window.place(into, 'm'), value)}"
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
        f"for (int m = 0; m < {M}; m++) for (int oy = 0; oy < {window.out[0]}; oy++) "
        f"for (int ox = 0; ox < {window.out[1]}; ox++) {{\n"
        f"        {number} a = 0;\n        int n = m * {K};\n"
        f"        for (int c = 0; c < {channels}; c++) "
        f"for (int ky = 0; ky < {window.kernel[0]}; ky++) "
        f"for (int kx = 0; kx < {window.kernel[1]}; kx++, n++) {{\n"
        f"            const int y = {window.at(0)}, x = {window.at(1)};\n"
        f"            (void)y; (void)x;\n"
        f"            a += {seen} * {table}[n];\n        }}\n"
        f"        const float r = {came_to};\n"
        f"        {window.place(into, 'm')} = {value};\n    }}"
    )
