"""Numbers, types, indices and loops as C spells them."""

from collections.abc import Mapping
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


def spelled(values: Array) -> list[str]:
    """Return numbers as C spells them, so that they are read back exactly."""
    if values.dtype.kind != "f":
        return [str(int(one)) for one in values.ravel().tolist()]
    digits, end = (9, "f") if values.dtype == np.float32 else (17, "")

    def word(text: str) -> str:
        if "n" in text:
            return text.replace("inf", "INFINITY").replace("nan", "NAN")
        return text + end if "." in text or "e" in text else f"{text}.0{end}"

    return [word(f"{one:.{digits}g}") for one in values.ravel().tolist()]


def number(value: Any) -> str:
    """Return one constant as a term of an expression."""
    (text,) = spelled(np.asarray(value))
    return f"({text})" if text.startswith("-") else text


def nest(sides: Mapping[str, int]) -> str:
    """Return the heads of loops, ``index -> side``, each within the one before."""
    return "".join(f"for (int {i} = 0; {i} < {side}; {i}++) " for i, side in sides.items())


def shifted(i: str, start: int, step: int) -> str:
    """Return an index that begins elsewhere, or goes in steps."""
    scaled = i if step == 1 or i == "0" else f"{i} * {step}"
    if start == 0:
        return scaled
    return str(start) if i == "0" else f"({scaled} + {start})"
