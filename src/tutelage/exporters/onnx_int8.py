"""ONNX in eight bits: weights and what goes into layers, quantised statically (QDQ).

The ranges of activations are read off states that the policy itself visits. What the last layer
says stays in floating point: in bytes, two actions of nearly equal value would become one.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.errors import UserError
from tutelage.exporters.base import Portable, States, Written
from tutelage.exporters.onnx import model_of, needed, session, write_model
from tutelage.importers.base import line_of
from tutelage.quantisation import layers_of
from tutelage.types import Array

LAYERS = ("Conv", "Gemm", "MatMul")
CALIBRATION = 512
"""States that the ranges are read off."""


def write(policy: Portable, folder: Path, states: States) -> Written:
    """Write the graph; raise UserError for what cannot be traced or quantised."""
    return write_model(quantised(policy, states), policy, folder)


def quantised(policy: Portable, states: States) -> Any:
    """Return the ONNX model with weights and activations of int8.

    Of a network that learnt in bytes, with the scales it learnt with.
    """
    if layers_of(policy):
        return model_of(policy)
    onnx = needed("onnx")
    quantization = needed("onnxruntime.quantization")
    model = model_of(policy)
    # Or it would advise, through the root logger, to prepare the model by its own tool.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    visited = states(CALIBRATION)
    level(model, policy.inputs(), visited)
    seen = iter(visited)
    names = policy.inputs()

    class Visited(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def get_next(self) -> dict[str, Array] | None:
            given = next(seen, None)
            return None if given is None else dict(zip(names, given, strict=True))

    with tempfile.TemporaryDirectory() as scratch:
        source, target = (Path(scratch) / name for name in ("fp32.onnx", "int8.onnx"))
        onnx.save(model, source)
        try:
            quantization.quantize_static(
                str(source),
                str(target),
                Visited(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=list(LAYERS),
                extra_options={"OpTypesToExcludeOutputQuantization": list(LAYERS)},
            )
        except Exception as error:  # it has no one error of its own
            raise UserError(f"ONNX Runtime cannot quantise the policy: {line_of(error)}") from error
        made = onnx.load(target)
    if not any(node.op_type == "QuantizeLinear" for node in made.graph.node):
        raise UserError("the policy has no layer that eight bits would make smaller: choose onnx")
    return made


def level(model: Any, names: Sequence[str], states: Sequence[tuple[Array, ...]]) -> None:
    """Bring the numbers of each vector that a first layer reads to one range, in place.

    W x = (W diag(r)) (x / r), r_k = max |x_k| over the states: one step for all of a vector is too
    coarse for those of its numbers that are small. As SmoothQuant (Xiao et al. 2023, equation 3),
    the weights taking all of it.
    """
    onnx = needed("onnx")
    graph = model.graph
    held = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    first = _first_layers(graph, held)
    if not first:
        return
    largest = _largest(model, names, states, sorted({node.input[0] for node in first}))
    nodes = list(graph.node)
    for node in first:
        ranges = largest[node.input[0]]
        turned = any(one.name == "transB" and one.i for one in node.attribute)
        weight = held[node.input[1]] * (ranges if turned else ranges[:, None])
        by, into, levelled = (f"{node.output[0]}_{end}" for end in ("by", "level", "levelled"))
        graph.initializer.extend(
            onnx.numpy_helper.from_array(value, name)
            for name, value in ((by, 1.0 / ranges), (levelled, weight))
        )
        at = next(i for i, one in enumerate(nodes) if one is node)
        nodes.insert(at, onnx.helper.make_node("Mul", [node.input[0], by], [into], name=into))
        node.input[0], node.input[1] = into, levelled
    used = {name for node in nodes for name in node.input}
    kept = [one for one in graph.initializer if one.name in used]
    made = onnx.helper.make_graph(nodes, graph.name, graph.input, graph.output, kept)
    graph.CopyFrom(made)


def _first_layers(graph: Any, held: Mapping[str, Array]) -> list[Any]:
    """Return the layers of constant weights that multiply vectors and come after no layer."""
    found, behind = [], set[str]()
    for node in graph.node:
        follows = not behind.isdisjoint(node.input)
        if follows or node.op_type in LAYERS:
            behind.update(node.output)
        weight = held.get(node.input[1]) if node.op_type in ("Gemm", "MatMul") else None
        if not follows and weight is not None and weight.ndim == 2:
            found.append(node)
    return found


def _largest(
    model: Any, names: Sequence[str], states: Sequence[tuple[Array, ...]], read: Sequence[str]
) -> dict[str, Array]:
    """Return the largest magnitude of each number of the tensors ``read``; 1 where all are 0."""
    onnx = needed("onnx")
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in read if name not in names
    )
    ask = session(exposed.SerializeToString())
    largest: dict[str, Array] = {}
    for state in states:
        fed = dict(zip(names, state, strict=True))
        for name in read:
            value = fed[name] if name in fed else ask.run([name], fed)[0]
            now = np.abs(value.reshape(-1, value.shape[-1])).max(axis=0)
            largest[name] = np.maximum(largest[name], now) if name in largest else now
    return {name: np.where(r > 0.0, r, 1.0).astype(np.float32) for name, r in largest.items()}
