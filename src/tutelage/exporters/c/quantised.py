"""Eight bits in C: numbers made bytes and back, and the layers that read bytes."""

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
    found = byte_table(w, node) if node.output in w.lazy and not w.local else None
    if found is not None:
        leaf, values = found
        return f"{w.table(f'{node.output}_q', values)}[{w.at(leaf, index)}]"
    scale, zero = steps(w, node)
    x = w.broadcast(node.inputs[0], index)
    return f"p_byte({x} / {number(np.float32(scale))}, {zero})"


def dequantise(w: "Writer", node: Node, index: Index) -> str:
    """Return the number that a byte stands for."""
    scale, zero = steps(w, node)
    return f"((float)({w.at(node.inputs[0], index)} - {zero}) * {number(np.float32(scale))})"


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
