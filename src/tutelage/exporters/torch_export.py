"""``torch.export``: a file that PyTorch alone runs."""

import io
from pathlib import Path

import torch

from tutelage.errors import UserError
from tutelage.exporters import onnx_files
from tutelage.exporters.base import Portable, Run, States, Written, trace
from tutelage.files import write_atomic
from tutelage.importers.base import spelled_head
from tutelage.quantisation import layers_of
from tutelage.types import Array

FILE = "policy.pt2"


def write(policy: Portable, folder: Path, states: States) -> Written:
    """Write the program; raise UserError for what cannot be traced."""
    if layers_of(policy):
        raise UserError(
            "the policy learnt in bytes, which torch.export cannot trace: "
            "choose onnx-int8 or c-int8"
        )
    if onnx_files.within(policy.policy):
        raise UserError(
            "the policy is an ONNX file, which torch.export cannot trace: "
            "choose onnx, onnx-int8, c or c-int8"
        )
    program = trace(policy, policy.examples(2))
    torch.export.save(program, buffer := io.BytesIO())
    write_atomic(folder / FILE, buffer.getvalue())
    return Written(
        FILE,
        {"format": "torch.export", "bytes": len(buffer.getvalue())},
        f"torch-export:{FILE}+output:1+head:{spelled_head(policy.head)}+units:range",
    )


def open_file(folder: Path, written: Written) -> Run:
    """Return the program as PyTorch runs it."""
    module = torch.export.load(folder / written.file).module()

    def run(*given: Array) -> list[Array]:
        with torch.inference_mode():
            said = module(*(torch.from_numpy(one) for one in given))
        return [one.numpy() for one in said]

    return run
