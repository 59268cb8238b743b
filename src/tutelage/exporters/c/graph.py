"""An ONNX graph of one state as C is made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.base import Portable
from tutelage.exporters.onnx import needed
from tutelage.importers.base import line_of
from tutelage.types import Array

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


def network_of(model: Any, policy: Portable) -> Network:
    """Return an ONNX model of one state: shapes known, constants computed."""
    onnx = needed("onnx")
    runtime = needed("onnxruntime")
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for one in (*fixed.graph.input, *fixed.graph.output):
        for side in one.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_value = 1
    outputs = [one.name for one in fixed.graph.output]
    exposed = onnx.ModelProto()
    exposed.CopyFrom(fixed)
    del exposed.graph.value_info[:]
    exposed.graph.output.extend(
        onnx.ValueInfoProto(name=name)
        for node in fixed.graph.node
        for name in node.output
        if name and name not in outputs
    )
    settings = runtime.SessionOptions()
    settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 4
    try:
        session = runtime.InferenceSession(
            exposed.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        fed = dict(zip(policy.inputs(), (one.numpy() for one in policy.examples(1)), strict=True))
        names = [one.name for one in session.get_outputs()]
        values = {**fed, **dict(zip(names, session.run(None, fed), strict=True))}
    except Exception as error:  # ONNX Runtime has a class of its own for each of its failures
        raise UserError(f"ONNX Runtime cannot run the policy: {line_of(error)}") from error
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in fixed.graph.initializer}
    nodes = []
    for proto in fixed.graph.node:
        name = proto.output[0]
        known = all(one in constants for one in proto.input if one)
        bytes_of_a_layer = (
            proto.op_type == "DequantizeLinear"
            and known
            and constants[proto.input[0]].dtype == np.int8
        )
        if (known and not bytes_of_a_layer) or proto.op_type == "Shape":
            constants.update({one: values[one] for one in proto.output if one})
            continue
        if proto.op_type == "Split":
            nodes += _slices(onnx, proto, values, constants)
            continue
        about = {one.name: onnx.helper.get_attribute_value(one) for one in proto.attribute}
        nodes.append(Node(proto.op_type, list(proto.input), name, {**about, "proto": proto}))
    known_values = {**values, **constants}
    return Network(
        nodes,
        constants,
        {name: value.shape for name, value in known_values.items()},
        {name: str(value.dtype) for name, value in known_values.items()},
        policy.inputs(),
        outputs,
    )


def _slices(
    onnx: Any, proto: Any, values: Mapping[str, Array], constants: dict[str, Array]
) -> list[Node]:
    """Return a slice for each part that a tensor is split into."""
    axis = next(
        (onnx.helper.get_attribute_value(a) for a in proto.attribute if a.name == "axis"), 0
    )
    nodes, start = [], 0
    for name in proto.output:
        end = start + values[name].shape[axis]
        bounds = [f"{name}_{which}" for which in ("start", "end", "axis")]
        constants.update(
            {b: np.array([n], np.int64) for b, n in zip(bounds, (start, end, axis), strict=True)}
        )
        nodes.append(Node("Slice", [proto.input[0], *bounds], name, {"proto": None}))
        start = end
    return nodes
