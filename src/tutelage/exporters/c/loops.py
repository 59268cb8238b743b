"""What needs loops of its own in C: what looks at several numbers at once."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.c.convolutions import conv
from tutelage.exporters.c.graph import INSTEAD, Index, Node
from tutelage.exporters.c.layers import gemm
from tutelage.exporters.c.spelling import nest, number, shifted

if TYPE_CHECKING:
    from tutelage.exporters.c.writer import Writer

Loops = Callable[["Writer", Node], str]
"""``(writer, node)``: the statement that fills the node's output."""


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


def _reduce(begin: str, step: str, end: str = "a") -> Loops:
    def said(w: "Writer", node: Node) -> str:
        given = w.constant(node.inputs[1]) if len(node.inputs) > 1 else None
        every = range(len(w.shape(node.inputs[0])))
        along = _along(w, node, every if given is None else given.ravel().tolist())
        number = w.kind(node.output)
        into = w.slot(node.output, along.index)
        return (
            f"{along.outer}{{ {number} a = {begin.replace('$', along.first)}; "
            f"{along.inner}{{ const {number} v = {along.value}; {step} }} "
            f"{into} = {end.replace('#', str(along.n))}; }}"
        )

    return said


def _arg(sign: str) -> Loops:
    def said(w: "Writer", node: Node) -> str:
        axis = int(node.about.get("axis", 0)) % len(w.shape(node.inputs[0]))
        along = _along(w, node, [axis])
        number = w.kind(node.inputs[0])
        into = w.slot(node.output, along.index)
        return (
            f"{along.outer}{{ int b = 0; {number} a = {along.first}; {along.inner}"
            f"if ({along.value} {sign} a) {{ a = {along.value}; b = r{axis}; }} "
            f"{into} = b; }}"
        )

    return said


def _softmax(w: "Writer", node: Node) -> str:
    axis = int(node.about.get("axis", -1)) % len(w.shape(node.output))
    along = _along(w, node, [axis])
    place = w.slot(node.output, along.inside)
    over = along.inner
    return (
        f"{along.outer}{{ float most = {along.first}, sum = 0.0f; "
        f"{over}most = fmaxf(most, {along.value}); "
        f"{over}sum += {place} = expf({along.value} - most); {over}{place} /= sum; }}"
    )


def _normalised(w: "Writer", node: Node, axes: Sequence[int], gain: str, bias: str) -> str:
    """Write y = gain (x - mean) / sqrt(variance + epsilon) + bias, over ``axes``."""
    along = _along(w, node, axes)
    place = w.slot(node.output, along.inside)
    epsilon = number(np.float64(node.about.get("epsilon", 1e-5)))
    # Sums of thousands of numbers, one after the other, are too coarse in float.
    return (
        f"{along.outer}{{ double mean = 0.0, variance = 0.0; "
        f"{along.inner}mean += {along.value}; mean /= {along.n}; "
        f"{along.inner}{{ const double d = {along.value} - mean; variance += d * d; }} "
        f"const double by = 1.0 / sqrt(variance / {along.n} + {epsilon}); "
        f"{along.inner}{place} = (float)(({along.value} - mean) * by) * {gain} + {bias}; }}"
    )


def _layer_norm(w: "Writer", node: Node) -> str:
    sides = len(w.shape(node.output))
    axes = range(int(node.about.get("axis", -1)) % sides, sides)
    inside = [f"r{k}" if k in axes else f"i{k}" for k in range(sides)]
    gain, bias, *_ = (*(w.broadcast(name, inside) for name in node.inputs[1:]), "0.0f")
    return _normalised(w, node, axes, gain, bias)


def _instance_norm(w: "Writer", node: Node) -> str:
    gain, bias = (w.at(name, ["i1"]) for name in node.inputs[1:])
    return _normalised(w, node, range(2, len(w.shape(node.output))), gain, bias)


def _concat(w: "Writer", node: Node) -> str:
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
    lines = []
    for sides, value, place in parts:
        head = nest({f"i{k}": side for k, side in enumerate(sides) if side > 1})
        lines.append(f"{head}{w.slot(node.output, place)} = {value};")
    return "\n    ".join(lines)


def _pool(w: "Writer", node: Node) -> str:
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
    into = w.slot(node.output, ["0", "c", "oy", "ox"])
    return (
        f"for (int c = 0; c < {sides[1]}; c++) for (int oy = 0; oy < {out[2]}; oy++) "
        f"for (int ox = 0; ox < {out[3]}; ox++) {{ float a = -INFINITY; "
        f"for (int ky = 0; ky < {kernel[0]}; ky++) for (int kx = 0; kx < {kernel[1]}; kx++) {{ "
        f"const int y = oy * {strides[0]} - {pads[0]} + ky * {apart[0]}; "
        f"const int x = ox * {strides[1]} - {pads[1]} + kx * {apart[1]}; "
        f"if (y >= 0 && y < {sides[2]} && x >= 0 && x < {sides[3]}) a = fmaxf(a, {value}); }} "
        f"{into} = a; }}"
    )


LOOPS: Mapping[str, Loops] = {
    "Gemm": gemm,
    "MatMul": gemm,
    "Conv": conv,
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
