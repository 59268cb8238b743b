"""ONNX in eight bits by the scales that a network learnt with: nothing is calibrated anew."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tutelage.errors import UserError
from tutelage.quantisation import QuantisedLayer
from tutelage.types import Array

LAYERS = ("Conv", "Gemm", "MatMul")


def quantise(onnx: Any, model: Any, layers: Sequence[QuantisedLayer]) -> None:
    """Give the layers of a model bytes for weights and inputs, in place (QDQ).

    Biases are whole as well, in units of both scales: that is what fast loops take. Raises
    UserError where the model's layers are not these.
    """
    graph = model.graph
    found = [node for node in graph.node if node.op_type in LAYERS]
    if len(found) != len(layers):
        raise UserError(
            f"the policy has {len(found)} layers in ONNX, {len(layers)} of them learnt in bytes: "
            "it cannot be exported"
        )
    of_node = {node.output[0]: layer for node, layer in zip(found, layers, strict=True)}
    held = {one.name: one for one in graph.initializer}
    nodes = []

    def constant(name: str, value: Array) -> str:
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        return name

    def read_back(name: str, inputs: Sequence[str], **about: int) -> str:
        nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [name], name=name, **about))
        return name

    for node in graph.node:
        layer = of_node.get(node.output[0])
        if layer is not None:
            name = node.output[0]
            step, zero = (part.cpu().numpy() for part in layer.inputs.steps())
            scales, whole = layer.scales().cpu().numpy(), layer.whole().cpu().numpy()
            turned = node.op_type == "MatMul" or (
                node.op_type == "Gemm" and not _attribute(onnx, node, "transB", 0)
            )
            shape = tuple(held[node.input[1]].dims) if node.input[1] in held else None
            whole = np.ascontiguousarray(whole.T) if turned else whole
            if shape != whole.shape:
                raise UserError(
                    f"layer {name} has weights {shape} in ONNX, {whole.shape} were learnt in bytes:"
                    " it cannot be exported"
                )
            by = [
                constant(f"{name}_step", step),
                constant(f"{name}_zero", zero.astype(np.int8)),
            ]
            into = f"{name}_bytes"
            nodes.append(
                onnx.helper.make_node(
                    "QuantizeLinear", [node.input[0], *by], [into], name=f"{name}_in_bytes"
                )
            )
            node.input[0] = read_back(f"{name}_rounded", [into, *by])
            small = constant(f"{name}_weight", whole)
            zeros = constant(f"{name}_weight_zeros", np.zeros(len(scales), np.int8))
            steps = constant(f"{name}_weight_steps", scales)
            node.input[1] = read_back(
                f"{name}_weight_rounded", [small, steps, zeros], axis=int(turned)
            )
            if len(node.input) > 2 and node.input[2] in held:
                units, counted = layer.units().cpu().numpy(), layer.counted().cpu().numpy()
                if np.abs(counted).max() < 2**31:
                    given = [
                        constant(f"{name}_bias", counted.astype(np.int32)),
                        constant(f"{name}_bias_steps", units),
                    ]
                    node.input[2] = read_back(f"{name}_bias_rounded", given, axis=0)
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [one for one in graph.initializer if one.name in used]
    made = onnx.helper.make_graph(nodes, graph.name or "policy", graph.input, graph.output, kept)
    graph.CopyFrom(made)


def _attribute(onnx: Any, node: Any, name: str, usual: int) -> int:
    found = (onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name)
    return int(next(found, usual))
