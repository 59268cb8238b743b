"""What needs loops of its own in C: layers, and what looks at several numbers at once."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.c_graph import INSTEAD, Index, Layer, Node, nest, number, shifted
from tutelage.types import Array

if TYPE_CHECKING:
    from tutelage.exporters.c_source import Writer

WIDE, WIDTH, ROWS = 32, 16, 4
"""Results of a layer that are summed up at once; with several rows, of so many at once."""


def _gemm(w: "Writer", node: Node) -> None:
    x, by, *bias = node.inputs
    transposed = bool(node.about.get("transB", 0))
    weight, scales = w.weights(by, 0 if transposed else 1)
    weight = weight if transposed else weight.T
    alpha, beta = (float(node.about.get(name, 1.0)) for name in ("alpha", "beta"))
    if node.about.get("transA", 0) or weight.ndim != 2 or math.prod(w.shape(x)[:-1]) != 1:
        raise UserError(f"the policy multiplies matrices that C has no loop for here: {INSTEAD}")
    if alpha != 1.0 and scales is not None:
        scales = np.float32(alpha) * scales
    elif alpha != 1.0:
        weight = np.float32(alpha) * weight
    bits = w.quantised(x) if scales is not None else None
    source = w.materialised(bits[0] if bits else x)
    added = _added(w, bias)
    last, stored = w.result(node)
    value = stored("r", [*["0"] * (len(w.shape(node.output)) - 1), "m + j"])
    into = w.store(last)
    at = "m" if bits else "m + j"
    layer = Layer(
        weight, scales, None if added is None else beta * added, bits[1:] if bits else None
    )
    w.say(w.multiplied(node, layer, source, [(f"{into}[{at}]", value)]))


def _added(w: "Writer", bias: Sequence[str]) -> Array | None:
    added = w.constant(bias[0]) if bias else None
    if bias and added is None:
        raise UserError(f"a layer adds what is no constant: {INSTEAD}")
    return added


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


def _conv(w: "Writer", node: Node) -> None:
    x, by, *bias = node.inputs
    weight, scales = w.weights(by, 0)
    bits = w.quantised(x) if scales is not None else None
    source = bits[0] if bits else x
    window = _window(w, node, source, weight)
    if source not in w.lazy:
        w.materialised(source)
    blank = str(bits[2]) if bits else "0.0f"
    flattened = np.ascontiguousarray(weight.reshape(weight.shape[0], -1))
    layer = Layer(flattened, scales, _added(w, bias), bits[1:] if bits else None, window.pixels)
    groups = int(node.about.get("group", 1))
    if groups == 1:
        _dense(w, node, layer, window, window.seen(w, source, "c", blank), w.kind(source))
    else:
        ours, theirs = weight.shape[0] // groups, weight.shape[1]
        channel = f"m / {ours} * {theirs} + c"
        _grouped(w, node, layer, window, window.seen(w, source, channel, blank), theirs)


def _dense(w: "Writer", node: Node, layer: Layer, window: Window, seen: str, kind: str) -> None:
    """Write a convolution of all channels: what is seen is gathered, and multiplied as rows are."""
    pixels, bits = window.pixels, layer.bits
    K = layer.weight.shape[1]
    channels = K // math.prod(window.kernel)
    number, at_once = (kind, 1) if bits else ("float", ROWS)
    last, stored = w.result(node)
    value = stored("r", window.index("m"))
    into = w.store(last)
    at = "m" if bits else "(m + j)"
    stores = [(f"{into}[{at} * {pixels} + o + {t}]", value) for t in range(at_once)]
    last_pixel = f"o + t < {pixels} ? o + t : {pixels - 1}" if at_once > 1 else "o"
    w.say(
        f"for (int o = 0; o < {pixels}; o += {at_once}) {{\n    {number} p[{at_once * K}];\n"
        f"    int n = 0;\n    for (int t = 0; t < {at_once}; t++) {{\n"
        f"        const int i = {last_pixel}, oy = i / {window.out[1]}, ox = i % {window.out[1]};\n"
        f"        for (int c = 0; c < {channels}; c++) "
        f"for (int ky = 0; ky < {window.kernel[0]}; ky++) {{\n"
        f"            const int y = {window.at(0)};\n"
        f"            (void)y;\n"
        f"            for (int kx = 0; kx < {window.kernel[1]}; kx++) {{\n"
        f"                const int x = {window.at(1)};\n"
        f"                p[n++] = {seen};\n            }}\n        }}\n    }}\n"
        f"    {w.multiplied(node, layer, 'p', stores)}\n    }}"
    )


def _grouped(
    w: "Writer", node: Node, layer: Layer, window: Window, seen: str, channels: int
) -> None:
    """Write a convolution each of whose results looks at the ``channels`` of its group only."""
    last, stored = w.result(node)
    value = stored("r", window.index("m"))
    into = w.store(last)
    M, K = layer.weight.shape
    biases = np.zeros(M) if layer.bias is None else np.broadcast_to(layer.bias.ravel(), (M,))
    name = node.output
    b = w.table(f"{name}_b", biases.astype(np.float32))
    if layer.scales is not None and layer.bits is not None:
        scale, zero = layer.bits
        number, weights = "int32_t", layer.weight
        s = w.table(f"{name}_s", np.float32(scale) * layer.scales)
        seen, came_to = f"({seen} - {zero})", f"(float)a * {s}[m] + {b}[m]"
    else:
        number, weights, came_to = "float", layer.weight.astype(np.float32), f"a + {b}[m]"
        if layer.scales is not None:
            weights = weights * layer.scales[:, None]
    table = w.table(f"{name}_w", weights)
    w.say(
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


@dataclass(frozen=True)
class Along:
    """Loops that look along some sides of a tensor, ``r0, r1, …`` within ``i0, i1, …``."""

    outer: str
    inner: str
    inside: Index
    value: str
    """What is looked at, which is there."""
    first: str
    """The first of these."""
    index: Index
    """Of the result, whether it keeps the sides or not."""
    n: int


def _along(w: "Writer", node: Node, axes: Iterable[int]) -> Along:
    source = node.inputs[0]
    sides = w.shape(source)
    over = sorted(axis % len(sides) for axis in axes)
    w.materialised(source)
    inside = [f"{'r' if k in over else 'i'}{k}" for k in range(len(sides))]
    first = ["0" if k in over else i for k, i in enumerate(inside)]
    whole = len(w.shape(node.output)) == len(sides)
    return Along(
        nest({i: side for i, side in zip(inside, sides, strict=True) if i[0] == "i"}),
        nest({f"r{k}": sides[k] for k in over}),
        inside,
        w.at(source, inside),
        w.at(source, first),
        first if whole else [i for k, i in enumerate(first) if k not in over],
        math.prod(sides[k] for k in over),
    )


def _reduce(begin: str, step: str, end: str = "a") -> Callable[["Writer", Node], None]:
    def said(w: "Writer", node: Node) -> None:
        given = w.constant(node.inputs[1]) if len(node.inputs) > 1 else None
        every = range(len(w.shape(node.inputs[0])))
        along = _along(w, node, every if given is None else given.ravel().tolist())
        number = w.kind(node.output)
        into = w.store(node.output)
        w.say(
            f"{along.outer}{{ {number} a = {begin.replace('$', along.first)}; "
            f"{along.inner}{{ const {number} v = {along.value}; {step} }} "
            f"{into}[{w.flat(node.output, along.index)}] = {end.replace('#', str(along.n))}; }}"
        )

    return said


def _arg(sign: str) -> Callable[["Writer", Node], None]:
    def said(w: "Writer", node: Node) -> None:
        axis = int(node.about.get("axis", 0)) % len(w.shape(node.inputs[0]))
        along = _along(w, node, [axis])
        number = w.kind(node.inputs[0])
        into = w.store(node.output)
        w.say(
            f"{along.outer}{{ int b = 0; {number} a = {along.first}; {along.inner}"
            f"if ({along.value} {sign} a) {{ a = {along.value}; b = r{axis}; }} "
            f"{into}[{w.flat(node.output, along.index)}] = b; }}"
        )

    return said


def _softmax(w: "Writer", node: Node) -> None:
    axis = int(node.about.get("axis", -1)) % len(w.shape(node.output))
    along = _along(w, node, [axis])
    place = f"{w.store(node.output)}[{w.flat(node.output, along.inside)}]"
    over = along.inner
    w.say(
        f"{along.outer}{{ float most = {along.first}, sum = 0.0f; "
        f"{over}most = fmaxf(most, {along.value}); "
        f"{over}sum += {place} = expf({along.value} - most); {over}{place} /= sum; }}"
    )


def _normalised(w: "Writer", node: Node, axes: Sequence[int], gain: str, bias: str) -> None:
    """Write y = gain (x - mean) / sqrt(variance + epsilon) + bias, over ``axes``."""
    along = _along(w, node, axes)
    place = f"{w.store(node.output)}[{w.flat(node.output, along.inside)}]"
    epsilon = number(np.float64(node.about.get("epsilon", 1e-5)))
    # Sums of thousands of numbers, one after the other, are too coarse in float.
    w.say(
        f"{along.outer}{{ double mean = 0.0, variance = 0.0; "
        f"{along.inner}mean += {along.value}; mean /= {along.n}; "
        f"{along.inner}{{ const double d = {along.value} - mean; variance += d * d; }} "
        f"const double by = 1.0 / sqrt(variance / {along.n} + {epsilon}); "
        f"{along.inner}{place} = (float)(({along.value} - mean) * by) * {gain} + {bias}; }}"
    )


def _layer_norm(w: "Writer", node: Node) -> None:
    sides = len(w.shape(node.output))
    axes = range(int(node.about.get("axis", -1)) % sides, sides)
    inside = [f"r{k}" if k in axes else f"i{k}" for k in range(sides)]
    gain, bias = (w.broadcast(name, inside) for name in (*node.inputs[1:], "")[:2])
    _normalised(w, node, axes, gain, bias)


def _instance_norm(w: "Writer", node: Node) -> None:
    gain, bias = (w.at(name, ["i1"]) for name in node.inputs[1:])
    _normalised(w, node, range(2, len(w.shape(node.output))), gain, bias)


def _concat(w: "Writer", node: Node) -> None:
    axis = int(node.about.get("axis", 0)) % len(w.shape(node.output))
    for name in node.inputs:
        if w.constant(name) is None and name not in w.lazy:
            w.materialised(name)
    parts, start = [], 0
    for name in node.inputs:
        sides = w.shape(name)
        index = [f"i{k}" if side > 1 else "0" for k, side in enumerate(sides)]
        value = w.at(name, index)
        place = list(index)
        place[axis] = shifted(index[axis], start, 1)
        parts.append((sides, value, place))
        start += sides[axis]
    into = w.store(node.output)
    lines = []
    for sides, value, place in parts:
        head = nest({f"i{k}": side for k, side in enumerate(sides) if side > 1})
        lines.append(f"{head}{into}[{w.flat(node.output, place)}] = {value};")
    w.say("\n    ".join(lines))


def _pool(w: "Writer", node: Node) -> None:
    source = node.inputs[0]
    sides, out = w.shape(source), w.shape(node.output)
    kernel = node.about["kernel_shape"]
    strides = node.about.get("strides") or [1, 1]
    apart = node.about.get("dilations") or [1, 1]
    pads = node.about.get("pads") or [0] * 4
    if len(sides) != 4:
        raise UserError(f"the policy pools along {len(sides) - 2} sides: {INSTEAD}")
    w.materialised(source)
    value = w.at(source, ["0", "c", "y", "x"])
    into = w.store(node.output)
    w.say(
        f"for (int c = 0; c < {sides[1]}; c++) for (int oy = 0; oy < {out[2]}; oy++) "
        f"for (int ox = 0; ox < {out[3]}; ox++) {{ float a = -INFINITY; "
        f"for (int ky = 0; ky < {kernel[0]}; ky++) for (int kx = 0; kx < {kernel[1]}; kx++) {{ "
        f"const int y = oy * {strides[0]} - {pads[0]} + ky * {apart[0]}; "
        f"const int x = ox * {strides[1]} - {pads[1]} + kx * {apart[1]}; "
        f"if (y >= 0 && y < {sides[2]} && x >= 0 && x < {sides[3]}) a = fmaxf(a, {value}); }} "
        f"{into}[{w.flat(node.output, ['0', 'c', 'oy', 'ox'])}] = a; }}"
    )


LOOPS: Mapping[str, Callable[["Writer", Node], None]] = {
    "Gemm": _gemm,
    "MatMul": _gemm,
    "Conv": _conv,
    "Concat": _concat,
    "Softmax": _softmax,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "MaxPool": _pool,
    "ReduceSum": _reduce("0", "a += v;"),
    "ReduceMean": _reduce("0", "a += v;", "a / #"),
    "ReduceMax": _reduce("$", "if (v > a) a = v;"),
    "ReduceMin": _reduce("$", "if (v < a) a = v;"),
    "ArgMax": _arg(">"),
    "ArgMin": _arg("<"),
}
