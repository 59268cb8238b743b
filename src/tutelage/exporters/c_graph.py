"""An ONNX graph of one state as C is made of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.types import Array

TYPES: Mapping[str, str] = {
    "float32": "float",
    "float64": "double",
    "uint8": "uint8_t",
    "int8": "int8_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "bool": "uint8_t",
}
INSTEAD = "choose onnx or torch"

Index = Sequence[str]
"""An expression for each side of a tensor."""


@dataclass(frozen=True)
class Node:
    """One operator of a graph."""

    kind: str
    inputs: Sequence[str]
    output: str
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Network:
    """A graph of one state, all shapes known; what depends on no input is a constant."""

    nodes: Sequence[Node]
    constants: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    inputs: Sequence[str]
    outputs: Sequence[str]


@dataclass(frozen=True)
class Layer:
    """What a layer multiplies by and adds."""

    weight: Array
    """``[M,K]``."""
    scales: Array | None
    """``[M]``, if the weights are bytes."""
    bias: Array | None
    bits: tuple[float, int] | None
    """The scale and zero of what goes in, if that is bytes."""
    rows: int = 1
    """How many x there are altogether."""


def number(value: Any) -> str:
    """Return a constant as C spells it, exactly."""
    if isinstance(value, np.bool_ | np.integer):
        return f"({int(value)})" if int(value) < 0 else str(int(value))
    if math.isinf(value):
        return "(-INFINITY)" if value < 0 else "INFINITY"
    single = isinstance(value, np.float32)
    text = f"{float(value):.9g}" if single else f"{float(value):.17g}"
    if not any(c in text for c in ".en"):
        text += ".0"
    text += "f" * single
    return f"({text})" if text.startswith("-") else text


def shifted(i: str, start: int, step: int) -> str:
    """Return an index that begins elsewhere, or goes in steps."""
    scaled = i if step == 1 or i == "0" else f"{i} * {step}"
    if start == 0:
        return scaled
    return str(start) if i == "0" else f"({scaled} + {start})"
