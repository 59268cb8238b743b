"""Eight bits in C: numbers made bytes and back, and the layers that read bytes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.c.graph import INSTEAD, Index, Node
from tutelage.exporters.c.spelling import number
from tutelage.types import Array

if TYPE_CHECKING:
    from tutelage.exporters.c.writer import Writer


def steps(w: "Writer", node: Node) -> tuple[float, int]:
    """Return the scale and the zero that a node makes bytes by, or numbers of bytes."""
    scale, zero = (w.constant(name) for name in node.inputs[1:])
    assert scale is not None
    assert zero is not None
    return float(scale.ravel()[0]), int(zero.ravel()[0])


def quantise(w: "Writer", node: Node, index: Index) -> str:
    """Return a number as a byte; of an image by a table, as long as nothing else is known of it."""
    if not w.local and (image := of_image(w, node.output)) is not None:
        leaf, byte = image
        return byte(w.at(leaf, index))
    scale, zero = steps(w, node)
    name = node.inputs[0]
    before = w.made.get(name)
    # What is below zero becomes the least byte anyway.
    if before and before.kind == "Relu" and zero == -128 and before.inputs[0] in w.local:
        name = before.inputs[0]
    x = w.broadcast(name, index)
    return f"p_byte({x} / {number(np.float32(scale))}, {zero})"


def dequantise(w: "Writer", node: Node, index: Index) -> str:
    """Return the number that a byte stands for."""
    scale, zero = steps(w, node)
    return f"((float)({w.at(node.inputs[0], index)} - {zero}) * {number(np.float32(scale))})"


def of_image(w: "Writer", name: str) -> tuple[str, Callable[[str], str]] | None:
    """Return the image that bytes are made of, each of one, and what makes them, if they are."""
    found = byte_table(w, w.made[name]) if name in w.lazy else None
    if found is None:
        return None
    leaf, values = found
    if (by := line(values)) is not None:
        return leaf, lambda x: f"p_pixel({x}, {', '.join(map(str, by))})"
    return leaf, lambda x: f"{w.table(f'{name}_q', values)}[{x}]"


def byte_table(w: "Writer", node: Node) -> tuple[str, Array] | None:
    """Return the image and the table, where a node is a function of a byte alone."""
    from onnx.reference import ReferenceEvaluator

    leaf = ""
    chain: list[Node] = []
    wanted = [node.output]
    while wanted:
        name = wanted.pop()
        value = w.constant(name)
        if value is not None:
            if value.size != 1:
                return None
        elif name in w.net.inputs and w.net.dtypes[name] == "uint8":
            leaf = name
        elif name in w.made and (name in w.lazy or name == node.output):
            chain.append(w.made[name])
            wanted += w.made[name].inputs
        else:
            return None
    if not leaf:
        return None
    values: dict[str, Any] = {leaf: np.arange(256, dtype=np.uint8)}
    for step in reversed(chain):
        fed = {
            name: values[name] if name in values else np.reshape(w.net.constants[name], ())
            for name in step.inputs
        }
        evaluator: Any = ReferenceEvaluator(step.about["proto"])
        values[step.output] = evaluator.run(None, fed)[0]
    return leaf, values[node.output]


def line(table: Array) -> tuple[int, ...] | None:
    """Return low, slope, half, shift, first and most of a table that rises by even steps.

    table[x] = min(first + ((slope max(x - low, 0) >> 8) + half >> shift), most), in 16 bits each:
    compilers make vectors of that, as they cannot of a table.
    """
    first, most = int(table[0]), int(table[-1])
    rises = table.astype(np.int64) - first
    low, high = int((table == first).sum()) - 1, int((table < most).sum())
    if high <= low:
        return None
    x = np.maximum(np.arange(256) - low, 0)
    for shift in range(7, -1, -1):
        near = round((most - first) / (high - low) * 2 ** (8 + shift))
        for slope in range(max(near - 2 ** (shift + 1), 1), near + 2 ** (shift + 1)):
            y = slope * x >> 8
            half = max(int(((rises << shift) - y)[low : high + 1].max()), 0)
            above = y + half >> shift
            fits = slope < 2**16 and int(y.max()) + half < 2**16 and int(above.max()) < 2**14
            if fits and (np.minimum(first + above, most) == table).all():
                return low, slope, half, shift, first, most
    return None


def read_as_bytes(w: "Writer", name: str) -> tuple[str, float, int] | None:
    """Return the bytes that a tensor is made of, with their scale and zero, if it is."""
    node = w.made.get(name)
    if node is None or node.kind != "DequantizeLinear" or w.constant(name) is not None:
        return None
    return node.inputs[0], *steps(w, node)


def weights(w: "Writer", name: str, axis: int) -> tuple[Array, Array | None]:
    """Return a layer's weights, and their scales per result if they are bytes.

    Raises UserError for what is no constant.
    """
    if (value := w.constant(name)) is not None:
        return value, None
    node = w.made.get(name)
    if node is not None and node.kind == "DequantizeLinear":
        small, scale = (w.constant(one) for one in node.inputs[:2])
        if small is not None and scale is not None:
            return small, np.broadcast_to(scale.ravel(), (small.shape[axis],)).astype(np.float32)
    raise UserError(f"a layer multiplies by what is no constant ({name}): {INSTEAD}")
