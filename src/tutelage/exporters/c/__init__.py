"""C: one header and one C99 file without dependencies, in floating point or in eight bits.

An ONNX graph of one state (``graph``) becomes statements (``writer``): what works number by number
is an expression (``pointwise``), all else has loops (``loops``, ``layers``). A new operator is one
entry in either table.
"""

from pathlib import Path
from typing import Any

from tutelage.exporters import onnx_int8
from tutelage.exporters.base import Portable, States, Written
from tutelage.exporters.c.compiled import FAST, open_file, sizes
from tutelage.exporters.c.file import HEADER, SOURCE, header, memory, source
from tutelage.exporters.c.graph import network_of
from tutelage.exporters.c.writer import program_of
from tutelage.exporters.onnx import model_of
from tutelage.files import write_atomic

__all__ = ["open_file", "write", "write_int8"]


def write(policy: Portable, folder: Path, states: States) -> Written:
    """Write header and source; raise UserError for an operator that C has no loop for."""
    return _write(policy, model_of(policy), folder)


def write_int8(policy: Portable, folder: Path, states: States) -> Written:
    """Write the same with layers of eight bits, as ``onnx-int8`` quantises them."""
    return _write(policy, onnx_int8.quantised(policy, states), folder)


def _write(policy: Portable, model: Any, folder: Path) -> Written:
    kinds = {node.op_type for node in model.graph.node}
    precision = "int8" if "QuantizeLinear" in kinds else "float32"
    network = network_of(model, policy)
    given = {"obs": "obs", **{name: memory(i) for i, name in enumerate(policy.inputs()[1:])}}
    program = program_of(network, given)
    write_atomic(folder / HEADER, header(policy, network).encode())
    write_atomic(folder / SOURCE, source(policy, network, program).encode())
    about = {"format": "C99", "precision": precision, "compiled": f"cc {FAST}"}
    return Written(SOURCE, {**about, **sizes(policy, program, folder)})
