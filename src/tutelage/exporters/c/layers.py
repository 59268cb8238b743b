"""Layers in C: what multiplies by a matrix of constants."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.c.graph import INSTEAD, Node
from tutelage.exporters.c.quantised import read_as_bytes, weights
from tutelage.types import Array

if TYPE_CHECKING:
    from tutelage.exporters.c.writer import Writer

WIDE, WIDTH = 32, 16
"""Results that are summed up at once, of one x and of several."""

Place = tuple[str, str]
"""Where a result goes, behind the test of whether it does."""


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
    plus = beta * added(w, bias, len(weight))
    layer = Layer(node.output, weight, plus, scales, bits[1:] if bits else None)
    into, value = w.result(node, [*["0"] * (len(w.shape(node.output)) - 1), "m + j"])
    if bits:
        return of_bytes(w, layer, [f"{source}[k]"], rounded(w, layer, "a0", f"{into}[m]", value))
    head = f"for (int k = 0; k < {layer.weight.shape[1]}; k++)"
    return of_floats(w, layer, head, [f"{source}[k]"], [("", f"{into}[m + j]")], value)


def added(w: "Writer", bias: Sequence[str], size: int) -> Array:
    """Return what a layer adds, ``[M]``."""
    plus = w.constant(bias[0]) if bias else np.zeros(1)
    if plus is None:
        raise UserError(f"a layer adds what is no constant: {INSTEAD}")
    return np.broadcast_to(plus.ravel(), (size,)).astype(np.float32)


def of_bytes(w: "Writer", layer: Layer, x: Sequence[str], kept: str) -> str:
    """Return a_m = sum_k x_k w_mk in int32, of one x or of several.

    ``x`` are the numbers at k; ``kept`` is what is done with their sums ``a0``, ``a1``, … of m.
    """
    M, K = layer.weight.shape
    weight = w.table(f"{layer.name}_w", layer.weight)
    sums = ", ".join(f"a{t} = 0" for t in range(len(x)))
    numbers = ", ".join(f"x{t} = {one}" for t, one in enumerate(x))
    adds = " ".join(f"a{t} += x{t} * u;" for t in range(len(x)))
    return (
        f"for (int m = 0; m < {M}; m++) {{\n"
        f"        const int8_t *w = {weight} + m * {K};\n        int32_t {sums};\n"
        f"        for (int k = 0; k < {K}; k++) {{\n"
        f"            const int16_t u = w[k], {numbers};\n            {adds}\n        }}\n"
        f"        {kept}\n    }}"
    )


def rounded(w: "Writer", layer: Layer, total: str, place: str, value: str) -> str:
    """Return what puts ``value`` of ``r`` = s_x s_m (a_m - zero sum_k w_mk) + b_m to ``place``.

    ``total`` is a_m.
    """
    assert layer.scales is not None
    assert layer.bits is not None
    scale, zero = layer.bits
    begin = (-zero * layer.weight.astype(np.int64).sum(axis=1)).astype(np.int32)
    b, z = w.table(f"{layer.name}_b", layer.bias), w.table(f"{layer.name}_z", begin)
    s = w.table(f"{layer.name}_s", np.float32(scale) * layer.scales)
    return f"const float r = (float)({total} + {z}[m]) * {s}[m] + {b}[m]; {place} = {value};"


def of_floats(
    w: "Writer", layer: Layer, head: str, x: Sequence[str], places: Sequence[Place], value: str
) -> str:
    """Return y_m = sum_k x_k w_mk + b_m of one x, or of several: a place for each.

    ``head`` are loops over all k, within which ``x`` are the numbers; ``value`` of ``r`` = y_m goes
    to a place. A block of results is summed up at once, and the weights lie in blocks as well.
    """
    M, K = layer.weight.shape
    width = WIDE if len(x) == 1 else WIDTH
    floats = layer.floats()
    blocks = [np.ascontiguousarray(floats[m : m + width].T).ravel() for m in range(0, M, width)]
    b = w.table(f"{layer.name}_b", layer.bias)
    weight = w.table(f"{layer.name}_w", np.concatenate(blocks))
    values = ", ".join(f"v{t} = {one}" for t, one in enumerate(x))
    begins = " = ".join(f"a{t}[j]" for t in range(len(x)))
    adds = " ".join(f"a{t}[j] += v{t} * u;" for t in range(len(x)))
    kept = "".join(
        f"        {test}{{ const float r = a{t}[j]; {place} = {value}; }}\n"
        for t, (test, place) in enumerate(places)
    )

    def block(start: int, end: int, size: int) -> str:
        sums = ", ".join(f"a{t}[{size}]" for t in range(len(x)))
        return (
            f"for (int m = {start}; m < {end}; m += {size}) {{\n"
            f"        float {sums};\n        const float *w = {weight} + m * {K};\n"
            f"        for (int j = 0; j < {size}; j++) {begins} = {b}[m + j];\n"
            f"        {head} {{\n"
            f"            const float {values};\n"
            f"            VECTORS\n"
            f"            for (int j = 0; j < {size}; j++) "
            f"{{ const float u = w[j]; {adds} }}\n"
            f"            w += {size};\n        }}\n"
            f"        for (int j = 0; j < {size}; j++) {{\n{kept}        }}\n    }}"
        )

    whole = M - M % width
    bounds = ((0, whole, width), (whole, M, M - whole))
    return "\n    ".join(block(*one) for one in bounds if one[0] < one[1])
