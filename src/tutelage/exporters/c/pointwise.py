"""What works number by number in C: an expression, and no loop of its own."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.c.graph import INSTEAD, Index, Node
from tutelage.exporters.c.quantised import dequantise, quantise
from tutelage.exporters.c.spelling import number, shifted

if TYPE_CHECKING:
    from tutelage.exporters.c.writer import Writer

Pointwise = Callable[["Writer", Node, Index], str]
"""``(writer, node, index)``: what the node's output is at an index."""


def _infix(sign: str) -> Pointwise:
    def said(w: "Writer", node: Node, index: Index) -> str:
        x, y = (w.broadcast(name, index) for name in node.inputs)
        return f"({x} {sign} {y})"

    return said


def _call(text: str) -> Pointwise:
    """Return a function of one number; ``F`` stands for the suffix of C's float functions."""

    def said(w: "Writer", node: Node, index: Index) -> str:
        f = "f" if w.kind(node.output) == "float" else ""
        return text.replace("F(", f"{f}(").replace("$", w.broadcast(node.inputs[0], index))

    return said


def _two(name: str) -> Pointwise:
    def said(w: "Writer", node: Node, index: Index) -> str:
        kind = w.kind(node.output)
        first, *rest = (w.broadcast(one, index) for one in node.inputs)
        f = {"float": f"f{name}f", "double": f"f{name}"}.get(kind, f"p_{name}")
        for other in rest:
            first = f"{f}({first}, {other})"
        return first

    return said


def _power(w: "Writer", node: Node, index: Index) -> str:
    exponent = w.constant(node.inputs[1])
    x = w.broadcast(node.inputs[0], index)
    if exponent is not None and exponent.size == 1 and float(exponent.ravel()[0]) == 2.0:
        return f"p_square{'f' if w.kind(node.output) == 'float' else ''}({x})"
    f = "powf" if w.kind(node.output) == "float" else "pow"
    return f"{f}({x}, {w.broadcast(node.inputs[1], index)})"


def _clip(w: "Writer", node: Node, index: Index) -> str:
    text = w.broadcast(node.inputs[0], index)
    f = "f" if w.kind(node.output) == "float" else ""
    for function, bound in zip((f"fmax{f}", f"fmin{f}"), node.inputs[1:], strict=False):
        if bound:  # either may be left out
            text = f"{function}({text}, {w.broadcast(bound, index)})"
    return text


def _where(w: "Writer", node: Node, index: Index) -> str:
    test, x, y = (w.broadcast(name, index) for name in node.inputs)
    return f"({test} ? {x} : {y})"


def _cast(w: "Writer", node: Node, index: Index) -> str:
    x = w.broadcast(node.inputs[0], index)
    if w.net.dtypes[node.output] == "bool":
        return f"({x} != 0)"
    return f"(({w.kind(node.output)}){x})"


def _elu(w: "Writer", node: Node, index: Index) -> str:
    alpha = number(np.float32(node.about.get("alpha", 1.0)))
    return f"p_elu({w.broadcast(node.inputs[0], index)}, {alpha})"


def _leaky(w: "Writer", node: Node, index: Index) -> str:
    slope = number(np.float32(node.about.get("alpha", 0.01)))
    return f"p_leaky({w.broadcast(node.inputs[0], index)}, {slope})"


def _ones(w: "Writer", node: Node, index: Index) -> str:
    """Return the same number: only sides of one have come or gone."""
    sides = zip(w.shape(node.output), index, strict=True)
    left = iter([i for side, i in sides if side > 1])
    return w.at(node.inputs[0], ["0" if n == 1 else next(left) for n in w.shape(node.inputs[0])])


def _expand(w: "Writer", node: Node, index: Index) -> str:
    return w.broadcast(node.inputs[0], index)


def _transpose(w: "Writer", node: Node, index: Index) -> str:
    order = node.about.get("perm") or range(len(index))[::-1]
    inside = [""] * len(index)
    for axis, i in zip(order, index, strict=True):
        inside[axis] = i
    return w.at(node.inputs[0], inside)


def _slice(w: "Writer", node: Node, index: Index) -> str:
    given = [w.constant(name) for name in node.inputs[1:]]
    if any(one is None for one in given):
        raise UserError(f"the policy slices by what is no constant: {INSTEAD}")
    starts, _, *rest = [one.ravel().tolist() for one in given if one is not None]
    sides = w.shape(node.inputs[0])
    axes = rest[0] if rest else list(range(len(starts)))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    inside = list(index)
    for start, axis, step in zip(starts, axes, steps, strict=True):
        if step < 1:
            raise UserError(f"the policy slices backwards: {INSTEAD}")
        begin = min(start if start >= 0 else start + sides[axis], sides[axis])
        inside[axis] = shifted(inside[axis], begin, step)
    return w.at(node.inputs[0], inside)


def _gather(w: "Writer", node: Node, index: Index) -> str:
    picked = w.constant(node.inputs[1])
    axis = int(node.about.get("axis", 0)) % len(w.shape(node.inputs[0]))
    before, after = list(index)[:axis], list(index)[axis:]
    if picked is None:
        raise UserError(f"the policy looks up what it does not know yet: {INSTEAD}")
    side = w.shape(node.inputs[0])[axis]
    picked = np.where(picked < 0, picked + side, picked).astype(np.int32)
    if picked.ndim == 0:
        return w.at(node.inputs[0], [*before, str(int(picked)), *after])
    if picked.ndim != 1:
        raise UserError(f"the policy looks up by a table of {picked.ndim} sides: {INSTEAD}")
    table = w.table(f"{node.output}_i", picked)
    return w.at(node.inputs[0], [*before, f"{table}[{after[0]}]", *after[1:]])


def _gather_whole(w: "Writer", node: Node, index: Index) -> str:
    """Look up along the first axis: what ``x[:, picked]`` becomes between two transpositions."""
    picked = w.constant(node.inputs[1])
    if picked is None or picked.ndim != 2 or picked.shape[1] != 1 or node.about.get("batch_dims"):
        raise UserError(f"the policy looks up along several axes at once: {INSTEAD}")
    along, *rest = index
    side = w.shape(node.inputs[0])[0]
    rows = np.where(picked < 0, picked + side, picked).astype(np.int32).ravel()
    return w.at(node.inputs[0], [f"{w.table(f'{node.output}_i', rows)}[{along}]", *rest])


def _batch_norm(w: "Writer", node: Node, index: Index) -> str:
    """Return (x - mean) / sqrt(variance + eps) * gain + bias of the channel, as one product."""
    known = [w.constant(name) for name in node.inputs[1:]]
    if any(one is None for one in known):
        raise UserError(f"the policy computes what it is normalised by: {INSTEAD}")
    gain, bias, mean, variance = (np.asarray(one, np.float64) for one in known)
    scale = gain / np.sqrt(variance + float(node.about.get("epsilon", 1e-5)))
    parts = {"s": scale, "b": bias - mean * scale}
    times, plus = (
        f"{w.table(f'{node.output}_{name}', values.astype(np.float32))}[{index[1]}]"
        for name, values in parts.items()
    )
    return f"({w.broadcast(node.inputs[0], index)} * {times} + {plus})"


ALIASES = frozenset(("Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten"))
"""What changes a shape and no number."""
POINTWISE: Mapping[str, Pointwise] = {
    **{
        kind: _infix(sign)
        for kind, sign in {
            **{"Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "Greater": ">", "Less": "<"},
            **{"GreaterOrEqual": ">=", "LessOrEqual": "<=", "Equal": "==", "And": "&&", "Or": "||"},
        }.items()
    },
    **{
        kind: _call(text)
        for kind, text in {
            "Relu": "p_relu($)",
            "Tanh": "tanhF($)",
            "Sigmoid": "(1.0f / (1.0f + expF(-$)))",
            "Exp": "expF($)",
            "Log": "logF($)",
            "Sqrt": "sqrtF($)",
            "Neg": "(-$)",
            "Abs": "fabsF($)",
            "Erf": "erfF($)",
            "Floor": "floorF($)",
            "Ceil": "ceilF($)",
            "Round": "rintF($)",
            "Sin": "sinF($)",
            "Cos": "cosF($)",
            "Reciprocal": "(1.0f / $)",
            "Softplus": "p_softplus($)",
            "Not": "(!$)",
        }.items()
    },
    **dict.fromkeys(ALIASES, _ones),
    "Max": _two("max"),
    "Min": _two("min"),
    "Pow": _power,
    "Clip": _clip,
    "Where": _where,
    "Cast": _cast,
    "Elu": _elu,
    "LeakyRelu": _leaky,
    "Expand": _expand,
    "Transpose": _transpose,
    "Slice": _slice,
    "Gather": _gather,
    "GatherND": _gather_whole,
    "BatchNormalization": _batch_norm,
    "QuantizeLinear": quantise,
    "DequantizeLinear": dequantise,
}
CHEAP = ALIASES | {
    *("Add", "Sub", "Mul", "Div", "Cast", "Expand", "Transpose", "Slice", "Gather"),
    "GatherND",
    "DequantizeLinear",
}
"""What may be done again for each number of a result."""
FOLLOWING = frozenset(
    (
        *("Relu", "Tanh", "Sigmoid", "Elu", "LeakyRelu", "Softplus", "Clip", "Max", "Min", "Add"),
        *("Mul", "Sub", "Div", "QuantizeLinear"),
    )
)
"""What may be done to a layer's result before it is stored."""
