"""Convolutions in C: layers that are moved over an image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    write = _of_bytes if bits else _of_floats
    return write(w, layer, window, seen, blank, into, value)


def _padded(window: Window, seen: str, blank: str) -> str:
    """Return what is seen at ``y, x``, and ``blank`` beyond the edge."""
    height, width = window.sides
    inside = f"y >= 0 && y < {height} && x >= 0 && x < {width}"
    return f"(({inside}) ? {seen} : {blank})" if any(window.pads) else seen


def _band(window: Window, layer: Layer, columns: int, place: str, seen: str, blank: str) -> str:
    """Return loops that put what a row of so many results looks at into ``p``, edges included.

    ``place`` is where ``seen`` goes, in the row ``n`` of all channels' rows, column ``$``.
    """
    above, left, below, _ = window.pads
    wide = window.span(columns)
    end = min(wide, window.sides[1] + left)
    inside = f"if (y >= 0 && y < {window.sides[0]}) " if above or below else ""
    blanks = f"for (int i = 0; i < {wide}; i++) {place.replace('$', 'i')} = {blank};\n        "
    channels = layer.weight.shape[1] // math.prod(window.kernel)
    return (
        f"for (int c = 0, n = 0; c < {channels}; c++) "
        f"for (int ky = 0; ky < {window.kernel[0]}; ky++, n++) {{\n"
        f"        const int y = {window.at(0)};\n        (void)y;\n"
        f"        {blanks if inside or left or end < wide else ''}"
        f"{inside}for (int x = 0; x < {end - left}; x++) "
        f"{place.replace('$', shifted('x', left, 1))} = {seen};\n    }}"
    )


def _of_floats(
    w: "Writer", layer: Layer, window: Window, seen: str, blank: str, into: str, value: str
) -> str:
    """Return a convolution in floating point, several neighbours in a row at once."""
    (rows, columns), kernel = window.out, window.kernel[1]
    # Fewest results too many; of these, most at once.
    at_once = min(TILES, key=lambda n: (-(-columns // n) * n, -n))
    reached = -(-columns // at_once) * at_once
    wide, bands = window.span(reached), layer.weight.shape[1] // kernel
    beside = range(at_once)
    x = [
        f"p[n * {wide} + k * {window.apart[1]} + (ox + {t}) * {window.strides[1]}]" for t in beside
    ]
    tests = ["" if reached == columns else f"if (ox + {t} < {columns}) " for t in beside]
    places = [window.place(into, "(m + j)", t) for t in beside]
    head = f"for (int n = 0; n < {bands}; n++) for (int k = 0; k < {kernel}; k++)"
    return (
        f"for (int oy = 0; oy < {rows}; oy++) {{\n    float p[{bands * wide}];\n"
        f"    {_band(window, layer, reached, f'p[n * {wide} + $]', seen, blank)}\n"
        f"    for (int ox = 0; ox < {columns}; ox += {at_once}) {{\n"
        f"    {of_floats(w, layer, head, x, [*zip(tests, places, strict=True)], value)}\n"
        f"    }}\n    }}"
    )


def _of_bytes(
    w: "Writer", layer: Layer, window: Window, seen: str, blank: str, into: str, value: str
) -> str:
    """Return a convolution in bytes; what a result looks at lies side by side, column by column."""
    (rows, columns), (M, K), kernel = window.out, layer.weight.shape, window.kernel[1]
    bands = K // kernel
    turned = layer.weight.reshape(M, bands, kernel).transpose(0, 2, 1).reshape(M, K)
    step, apart = window.strides[1] * bands, window.apart[1] * bands
    column = "k" if window.apart[1] == 1 else f"k / {bands} * {apart} + k % {bands}"
    x = f"p[ox * {step} + {column}]"
    product = of_bytes(
        w, replace(layer, weight=np.ascontiguousarray(turned)), x, window.place(into, "m"), value
    )
    return (
        f"for (int oy = 0; oy < {rows}; oy++) {{\n"
        f"    int16_t p[{bands * window.span(columns)}];\n"
        f"    {_band(window, layer, columns, f'p[($) * {bands} + n]', seen, blank)}\n"
        f"    for (int ox = 0; ox < {columns}; ox++) {{\n    {product}\n    }}\n    }}"
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
