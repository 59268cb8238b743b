"""Convolutions in C: layers that are moved over an image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.c.graph import INSTEAD, Index, Node
from tutelage.exporters.c.layers import Layer, added, of_bytes, of_floats, rounded
from tutelage.exporters.c.quantised import of_image, read_as_bytes, weights
from tutelage.exporters.c.spelling import shifted
from tutelage.types import Array

if TYPE_CHECKING:
    from tutelage.exporters.c.writer import Writer

TILES, TILES_OF_BYTES = range(4, 11), range(4, 8)
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
    blank = str(bits[2]) if bits else "0.0f"
    into, value = w.result(node, window.index("m"))
    if groups == 1:
        rows = _rows(window, channels, of_bytes=bits is not None)
        layer = replace(layer, weight=rows.order(weight))
        made = (_of_bytes if bits else _of_floats)(w, layer, window, rows, into, value)
        return _each_row(w, window, rows, source, blank, made)
    seen = window.seen(w, source, channel)
    if any(window.pads):
        height, width = window.sides
        seen = f"((y >= 0 && y < {height} && x >= 0 && x < {width}) ? {seen} : {blank})"
    return _grouped(w, layer, window, channels, seen, into, value)


@dataclass(frozen=True)
class Rows:
    """How what a row of results looks at lies in ``p``: in blocks of columns.

    A block has the rows, of each the channels, of each some columns. Bytes lie in blocks as wide as
    a stride, so that all that one result looks at lies side by side, and the next one's a block
    further; floats in a single block. From row to row, what is looked at again moves up.
    """

    high: int
    channels: int
    side: int
    """Columns of a block."""
    blocks: int
    run: int
    """Columns of the kernel that lie side by side."""
    fresh: int
    """Rows that come in for each row of results."""
    of_bytes: bool
    at_once: int
    """Results that are summed up at once."""
    reached: int
    """Results of a row, with those too many."""

    @property
    def block(self) -> int:
        """Return the numbers of a block."""
        return self.high * self.channels * self.side

    @property
    def new(self) -> int:
        """Return those of them that come in."""
        return self.fresh * self.channels * self.side

    def order(self, weight: Array) -> Array:
        """Return ``weight[M,C,high,wide]`` as ``[M,K]`` in the order in which ``p`` is read."""
        M = len(weight)
        parts = weight.reshape(M, self.channels, self.high, -1, self.run)
        return np.ascontiguousarray(parts.transpose(0, 3, 2, 1, 4).reshape(M, -1))


def _rows(window: Window, channels: int, *, of_bytes: bool) -> Rows:
    columns, (high, wide), (down, right) = window.out[1], window.kernel, window.strides
    # Fewest results too many; of these, most at once.
    tiles = TILES_OF_BYTES if of_bytes else TILES
    at_once = min(tiles, key=lambda n: (-(-columns // n) * n, -n))
    reached = -(-columns // at_once) * at_once
    side, run = window.span(reached), wide
    if of_bytes:
        side = run = right if wide % right == 0 and window.apart[1] == 1 else 1
    fresh = down if high % down == 0 and window.apart[0] == 1 else high
    blocks = -(-window.span(reached) // side)
    return Rows(high, channels, side, blocks, run, fresh, of_bytes, at_once, reached)


def _each_row(w: "Writer", window: Window, rows: Rows, source: str, blank: str, made: str) -> str:
    """Return a loop over rows of results: ``p`` is brought up to date, then each is ``made``."""
    (height, width), (above, left, below, _) = window.sides, window.pads
    high, block, new, blocks, side = rows.high, rows.block, rows.new, rows.blocks, rows.side
    ahead, old = high // rows.fresh - 1, block - new
    each = f"for (int i = 0; i < {blocks}; i++) for (int j = 0; j < "
    whole = rows.of_bytes and not any(window.pads) and blocks * side <= width
    image = of_image(w, source) if whole else None
    seen = window.seen(w, image[0] if image else source, "c")
    if above or below:
        seen = f"y >= 0 && y < {height} ? {seen} : {blank}"
    at = f"(n * {rows.channels} + c) * {side}"
    if whole:
        place = f"b[i * {new} + {at} + j]" if image else f"p[i * {block} + {old} + {at} + j]"
        put = f"{each}{side}; j++) {{ const int x = i * {side} + j; {place} = {seen}; }}"
    else:
        x = shifted("x", left, 1)
        spread = f"{x} / {side} * {block} + {old} + {at} + {x} % {side}"
        place = spread if rows.of_bytes else f"{old} + {at} + {x}"
        put = f"for (int x = 0; x < {min(blocks * side - left, width)}; x++) p[{place}] = {seen};"
    lines = [
        f"{'int16_t' if rows.of_bytes else 'float'} p[{blocks * block}];",
        f"for (int i = 0; i < {blocks * block}; i++) p[i] = {blank};",
        f"for (int oy = {-ahead}; oy < {window.out[0]}; oy++) {{",
    ]
    if ahead:
        lines += [f"{each}{old}; j++) p[i * {block} + j] = p[i * {block} + {new} + j];"]
    if image:
        lines += [f"uint8_t b[{blocks * new}];"]
    lines += [
        f"for (int n = 0; n < {rows.fresh}; n++) for (int c = 0; c < {rows.channels}; c++) {{",
        f"    const int ky = n + {high - rows.fresh}, y = {window.at(0)};",
        f"    (void)y;\n        {put}",
        "}",
    ]
    if image:
        byte = image[1](f"b[i * {new} + j]")
        lines += [f"{each}{new}; j++) p[i * {block} + {old} + j] = {byte};"]
    if ahead:
        lines += ["if (oy < 0) continue;"]
    return "{\n    " + "\n    ".join([*lines, made, "}"]) + "\n    }"


def _of_bytes(w: "Writer", layer: Layer, window: Window, rows: Rows, into: str, value: str) -> str:
    """Return a row of results in bytes: all of its sums, then what is made of them."""
    columns, apart, block, reached = window.out[1], window.apart[1], rows.block, rows.reached
    beside, M = range(rows.at_once), len(layer.weight)
    column = "k" if apart == 1 else f"k / {block} * {apart * block} + k % {block}"
    step = window.strides[1] // rows.side * block
    x = [f"p[(ox + {t}) * {step} + {column}]" for t in beside]
    kept = " ".join(f"a[m * {reached} + ox + {t}] = a{t};" for t in beside)
    done = rounded(w, layer, f"a[m * {reached} + ox]", window.place(into, "m"), value)
    return (
        f"int32_t a[{M * reached}];\n"
        f"    for (int ox = 0; ox < {columns}; ox += {rows.at_once}) {{\n"
        f"    {of_bytes(w, layer, x, kept)}\n    }}\n"
        f"    for (int m = 0; m < {M}; m++) for (int ox = 0; ox < {columns}; ox++) {{\n"
        f"        {done}\n    }}"
    )


def _of_floats(w: "Writer", layer: Layer, window: Window, rows: Rows, into: str, value: str) -> str:
    """Return a row of results in floating point."""
    columns, beside, run = window.out[1], range(rows.at_once), rows.run
    apart, right = window.apart[1], window.strides[1]
    x = [f"p[n * {rows.side} + k * {apart} + (ox + {t}) * {right}]" for t in beside]
    tests = ["" if rows.reached == columns else f"if (ox + {t} < {columns}) " for t in beside]
    places = [window.place(into, "(m + j)", t) for t in beside]
    head = f"for (int n = 0; n < {rows.high * rows.channels}; n++) for (int k = 0; k < {run}; k++)"
    sums = of_floats(w, layer, head, x, [*zip(tests, places, strict=True)], value)
    return f"for (int ox = 0; ox < {columns}; ox += {rows.at_once}) {{\n    {sums}\n    }}"


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
