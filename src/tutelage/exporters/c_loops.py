"""What needs loops of its own in C: layers, and what looks at several numbers at once."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.c_graph import INSTEAD, Index, Layer, Node, nest, shifted
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


def _conv(w: "Writer", node: Node) -> None:
    x, by, *bias = node.inputs
    weight, scales = w.weights(by, 0)
    bits = w.quantised(x) if scales is not None else None
    source = bits[0] if bits else x
    sides = w.shape(source)
    if int(node.about.get("group", 1)) != 1 or len(sides) not in (3, 4):
        raise UserError(f"the policy uses a convolution of groups or volumes: {INSTEAD}")
    flat = len(sides) == 3  # along one side only
    usual = len(sides) - 2
    strides, apart = (list(node.about.get(n) or [1] * usual) for n in ("strides", "dilations"))
    pads = list(node.about.get("pads") or [0] * 2 * usual)
    if flat:
        strides, apart, pads = [1, *strides], [1, *apart], [0, pads[0], 0, pads[1]]
    channels, (height, width) = sides[1], (1, sides[2]) if flat else sides[2:]
    kernel = (1, weight.shape[2]) if flat else weight.shape[2:]
    rows, columns = (1, w.shape(node.output)[2]) if flat else w.shape(node.output)[2:]
    pixels = rows * columns
    if source not in w.lazy:
        w.materialised(source)
    number = w.kind(source) if bits else "float"
    seen = w.at(source, ["0", "c", "x"] if flat else ["0", "c", "y", "x"])
    if any(pads):
        blank = str(bits[2]) if bits else "0.0f"
        seen = f"(y >= 0 && y < {height} && x >= 0 && x < {width}) ? {seen} : {blank}"
    K = channels * kernel[0] * kernel[1]
    at_once = 1 if bits else ROWS
    w.program.stack = max(w.program.stack, K * (1 if bits else 4 * at_once) + 64 * 4)
    last, stored = w.result(node)
    value = stored("r", ["0", "m", "o"] if flat else ["0", "m", "0", "o"])
    into = w.store(last)
    at = "m" if bits else "(m + j)"
    stores = [(f"{into}[{at} * {pixels} + o + {t}]", value) for t in range(at_once)]
    flattened = np.ascontiguousarray(weight.reshape(weight.shape[0], -1))
    layer = Layer(flattened, scales, _added(w, bias), bits[1:] if bits else None, pixels)
    begin = (
        f"const int i = o + t < {pixels} ? o + t : {pixels - 1}, "
        if at_once > 1
        else "const int i = o, "
    )
    w.say(
        f"for (int o = 0; o < {pixels}; o += {at_once}) {{\n    {number} p[{at_once * K}];\n"
        f"    int n = 0;\n    for (int t = 0; t < {at_once}; t++) {{\n"
        f"        {begin}oy = i / {columns}, ox = i % {columns};\n"
        f"        for (int c = 0; c < {channels}; c++) "
        f"for (int ky = 0; ky < {kernel[0]}; ky++) {{\n"
        f"            const int y = oy * {strides[0]} - {pads[0]} + ky * {apart[0]};\n"
        f"            (void)y;\n"
        f"            for (int kx = 0; kx < {kernel[1]}; kx++) {{\n"
        f"                const int x = ox * {strides[1]} - {pads[1]} + kx * {apart[1]};\n"
        f"                p[n++] = {seen};\n            }}\n        }}\n    }}\n"
        f"    {w.multiplied(node, layer, 'p', stores)}\n    }}"
    )


@dataclass(frozen=True)
class Along:
    """Loops that look along some sides of a tensor, ``r0, r1, …`` within ``i0, i1, …``."""

    outer: str
    inner: str
    value: str
    """What is looked at."""
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
    inside = [f"r{k}" if k == axis else f"i{k}" for k in range(len(w.shape(node.output)))]
    place = f"{w.store(node.output)}[{w.flat(node.output, inside)}]"
    over = along.inner
    w.say(
        f"{along.outer}{{ float most = {along.first}, sum = 0.0f; "
        f"{over}most = fmaxf(most, {along.value}); "
        f"{over}sum += {place} = expf({along.value} - most); {over}{place} /= sum; }}"
    )


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
    "MaxPool": _pool,
    "ReduceSum": _reduce("0", "a += v;"),
    "ReduceMean": _reduce("0", "a += v;", "a / #"),
    "ReduceMax": _reduce("$", "if (v > a) a = v;"),
    "ReduceMin": _reduce("$", "if (v < a) a = v;"),
    "ArgMax": _arg(">"),
    "ArgMin": _arg("<"),
}
