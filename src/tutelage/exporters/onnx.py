"""ONNX: one graph of plain operators, which ONNX Runtime and others run anywhere."""

import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import UserError
from tutelage.exporters import onnx_files, onnx_trained
from tutelage.exporters.base import Portable, Run, States, Written, trace
from tutelage.files import write_atomic
from tutelage.importers.base import line_of, spelled_head
from tutelage.quantisation import frozen, layers_of
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
    and what is done to its numbers. Of a network that learnt in bytes, the layers are so here too.
    """
    onnx = needed("onnx")
    trained, policy = layers_of(policy), frozen(policy)
    source = onnx_files.within(policy.policy)
    if source is None:
        model = translated(policy, policy.examples(2), policy.inputs(), policy.outputs())
    else:
        before, after = onnx_files.around(policy, source)
        model = onnx_files.read(onnx, source.where, OPSET)
        turning, fed = onnx_files.turned(onnx, source, into=True)
        back, said = onnx_files.turned(onnx, source, into=False)
        first = translated(before, policy.examples(2), policy.inputs(), fed)
        last = translated(after, after.examples(2), ["obs", *said], policy.outputs())
        one, other = (
            onnx.compose.add_prefix(part, prefix, rename_inputs=False, rename_outputs=False).graph
            for part, prefix in ((first, "before_"), (last, "after_"))
        )
        inside = model.graph
        nodes = [*one.node, *turning, *inside.node, *back, *other.node]
        held = [*one.initializer, *inside.initializer, *other.initializer]
        model.graph.CopyFrom(onnx.helper.make_graph(nodes, "policy", one.input, other.output, held))
    if trained:
        onnx_trained.quantise(onnx, model, trained)
    model.ir_version = IR_VERSION
    model.producer_name = "tutelage"
    model.ClearField("producer_version")
    model.graph.name = "policy"
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise UserError(f"the policy makes no valid ONNX: {line_of(error)}") from error
    return model


def translated(
    module: nn.Module, examples: Sequence[Tensor], inputs: Sequence[str], outputs: Sequence[str]
) -> Any:
    """Return a module as an ONNX model of such inputs and outputs, of any number of states.

    PyTorch's own exporter writes it, from core operators: of these, C and eight bits know all.
    """
    needed("onnxscript")
    traced = trace(module, examples)
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # or it tells of each package that it could have used
    try:
        made = torch.onnx.export(
            traced.run_decompositions(),
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
    except Exception as error:  # as in trace
        cause = error
        while isinstance(cause.__cause__, Exception):  # above it stands advice to PyTorch's makers
            cause = cause.__cause__
        raise UserError(
            f"the policy has no counterpart in ONNX, choose torch: {line_of(cause)}"
        ) from error
    finally:
        log.setLevel(level)
    assert made is not None
    model: Any = made.model_proto
    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")  # paths of this machine and lines of code
        part.ClearField("doc_string")
    for value in (*graph.input, *graph.output):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_param = "batch"
    return model


def session(model: bytes | str) -> Any:
    """Return a model or file as ONNX Runtime runs it on the CPU; raise UserError if it cannot."""
    runtime = needed("onnxruntime")
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    try:
        return runtime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of its own for each of its failures
        raise UserError(f"ONNX Runtime cannot run what was exported: {line_of(error)}") from error


def open_file(folder: Path, written: Written) -> Run:
    """Return the file as ONNX Runtime runs it."""
    loaded = session(str(folder / written.file))
    names = [one.name for one in loaded.get_inputs()]

    def run(*given: Array) -> list[Array]:
        try:
            said: list[Array] = loaded.run(None, dict(zip(names, given, strict=True)))
        except Exception as error:  # as above
            raise UserError(f"what was exported fails in ONNX Runtime: {line_of(error)}") from error
        return said

    return run


def needed(module: str) -> Any:
    """Return a module of the extra ``onnx``; raise UserError where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(
            f"this format needs the package {package}: pip install 'tutelage[onnx]'"
        ) from error
