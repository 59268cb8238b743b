"""ONNX in eight bits: weights and what goes into layers, quantised statically (QDQ).

The ranges of activations are read off states that the policy itself visits. What the last layer
says stays in floating point: in bytes, two actions of nearly equal value would become one.
"""

import tempfile
from pathlib import Path
from typing import Any

from tutelage.errors import UserError
from tutelage.exporters.base import Portable, States, Written
from tutelage.exporters.onnx import model_of, needed, write_model
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
    seen = iter(states(CALIBRATION))
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
