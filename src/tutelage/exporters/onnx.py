"""ONNX: one graph of plain operators, which ONNX Runtime and others run anywhere."""

import operator
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from tutelage.errors import UserError
from tutelage.exporters import onnx_files, onnx_operators
from tutelage.exporters.base import Portable, Run, States, Written, trace
from tutelage.exporters.onnx_operators import Graph
from tutelage.files import write_atomic
from tutelage.importers.base import line_of, spelled_head
from tutelage.types import Array

FILE = "policy.onnx"
OPSET = 18
IR_VERSION = 9
"""Of the file format: what ONNX Runtime has read since version 1.15."""


def write(policy: Portable, folder: Path, states: States) -> Written:
    """Write the graph; raise UserError for what cannot be traced or has no operator."""
    return write_model(model_of(policy), policy, folder)


def write_model(model: Any, policy: Portable, folder: Path) -> Written:
    """Write a model of the policy; return what is known of the file."""
    data: bytes = model.SerializeToString()
    write_atomic(folder / FILE, data)
    return Written(
        FILE,
        {"format": "onnx", "opset": OPSET, "bytes": len(data), "batch": "any"},
        f"{FILE}+output:{policy.output}+head:{spelled_head(policy.head)}+units:range",
    )


def model_of(policy: Portable) -> Any:
    """Return the ONNX model; raise UserError for what cannot be traced or has no operator.

    Of a policy that is an ONNX file itself, its graph stands between what is done to observations
    and what is done to its numbers.
    """
    onnx = needed("onnx")
    source = onnx_files.within(policy.policy)
    if source is None:
        graph = grown(onnx, policy, policy.examples(2), policy.inputs(), policy.outputs())
        nodes, initializers, opsets = graph.nodes, graph.initializers, {"": OPSET}
    else:
        before, after = onnx_files.around(policy, source)
        inside = onnx_files.read(onnx, source.where, OPSET)
        turning, fed = onnx_files.turned(onnx, source, into=True)
        back, said = onnx_files.turned(onnx, source, into=False)
        first = grown(onnx, before, policy.examples(2), policy.inputs(), fed, prefix="b")
        examples = after.examples(2)
        graph = grown(onnx, after, examples, ["obs", *said], policy.outputs(), prefix="a")
        nodes = [*first.nodes, *turning, *inside.graph.node, *back, *graph.nodes]
        initializers = [*first.initializers, *inside.graph.initializer, *graph.initializers]
        opsets = {one.domain: one.version for one in inside.opset_import}
    kinds = [output.dtype for output in graph.said]
    memory: list[tuple[int | str, ...]] = [("batch", *sides) for sides in policy.memory]
    shapes: list[tuple[int | str, ...]] = [
        ("batch", *policy.action_shape),
        ("batch", policy.head.size),
        *memory,
    ]

    def value(name: str, kind: torch.dtype, sides: Sequence[int | str]) -> Any:
        return onnx.helper.make_tensor_value_info(name, onnx_operators.TYPES[kind], sides)

    inputs = [value("obs", policy.dtype, ("batch", *policy.shape))] + [
        value(name, torch.float32, sides)
        for name, sides in zip(policy.inputs()[1:], memory, strict=True)
    ]
    outputs = [
        value(name, kind, sides)
        for name, kind, sides in zip(policy.outputs(), kinds, shapes, strict=True)
    ]
    made = onnx.helper.make_graph(nodes, "policy", inputs, outputs, initializers)
    model = onnx.helper.make_model(
        made,
        opset_imports=[onnx.helper.make_opsetid(name, n) for name, n in opsets.items()],
        ir_version=IR_VERSION,
        producer_name="tutelage",
    )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise UserError(f"the policy makes no valid ONNX: {line_of(error)}") from error
    return model


def grown(
    onnx: Any,
    module: nn.Module,
    examples: Sequence[Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    prefix: str = "",
) -> Graph:
    """Return a module as a graph of such inputs and outputs; names in it begin with ``prefix``."""
    program = trace(module, examples).run_decompositions()
    graph = Graph(onnx, inputs[0], prefix=prefix)
    acting = _acting(program)
    for node in program.graph.nodes:
        if node in acting:
            _take(graph, node, program, inputs, outputs)
    return graph


def _acting(program: Any) -> set[Node]:
    """Return the nodes that an output depends on: checks of what is given are left out."""
    found: set[Node] = set()
    left = [node for node in program.graph.nodes if node.op == "output"]
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += node.all_input_nodes
    return found


def _take(
    graph: Graph, node: Any, program: Any, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    """Add what one node of the program says."""
    if node.op == "placeholder":
        signature = program.graph_signature
        if node.name in signature.user_inputs:
            graph.known[node] = inputs[signature.user_inputs.index(node.name)]
        else:
            graph.known[node] = _constant(program, node.name)
    elif node.op == "output":
        for name, said in zip(outputs, node.args[0], strict=True):
            graph.say(name, said)
    elif node.target is operator.getitem:
        several, index = node.args
        graph.known[node] = graph.known[several][index]
    elif isinstance(node.meta.get("val"), torch.SymInt | int):
        return  # the number of states: every shape says it again
    elif node.op == "call_function":
        graph.take(node)


def _constant(program: Any, name: str) -> Tensor:
    signature = program.graph_signature
    for table in (signature.inputs_to_parameters, signature.inputs_to_buffers):
        if name in table:
            target = table[name]
            held: Tensor = program.state_dict.get(target, program.constants.get(target))
            return held.detach()
    constant: Tensor = program.constants[signature.inputs_to_lifted_tensor_constants[name]]
    return constant.detach()


def open_file(folder: Path, written: Written) -> Run:
    """Return the file as ONNX Runtime runs it on the CPU."""
    runtime = needed("onnxruntime")
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    try:
        session = runtime.InferenceSession(
            str(folder / written.file), settings, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime has a class of its own for each of its failures
        raise UserError(f"ONNX Runtime cannot run what was exported: {line_of(error)}") from error
    names = [one.name for one in session.get_inputs()]

    def run(*given: Array) -> list[Array]:
        try:
            said: list[Array] = session.run(None, dict(zip(names, given, strict=True)))
        except Exception as error:  # as above
            raise UserError(f"what was exported fails in ONNX Runtime: {line_of(error)}") from error
        return said

    return run


def needed(package: str) -> Any:
    """Return a package of the extra ``onnx``; raise UserError where it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(
            f"this format needs the package {package}: pip install 'tutelage[onnx]'"
        ) from error
