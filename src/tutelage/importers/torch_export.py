"""Programs of ``torch.export``: run only where a person names them as such."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import UserError, choose_from
from tutelage.heads import Head
from tutelage.importers.base import (
    Observation,
    Reading,
    Space,
    check_archive,
    chosen_head,
    line_of,
    members,
    one_tensor,
    read_bytes,
    shaped,
)
from tutelage.importers.torchscript import number, one_output
from tutelage.policies import Carry, Model


def recognises(path: Path) -> bool:
    """Return whether a zip holds an exported program."""
    return any(
        name.endswith(("models/model.json", "serialized_exported_program.json"))
        for name in members(path)
    )


def load(
    path: Path,
    *,
    space: Space | None = None,
    output: str = "",
    head: str = "",
    units: str = "env",
    scaling: str = "none",
) -> Model:
    """Return an exported program as a policy; its options are those of a TorchScript file.

    Raises UserError for a file that is not whole, a program of several inputs, and numbers whose
    meaning nothing says.
    """
    data, files = read_bytes(path)
    check_archive(data, str(path), "program of torch.export")
    try:
        program = torch.export.load(io.BytesIO(data))
    except Exception as error:  # a damaged file can fail in any part of PyTorch
        raise UserError(
            f"{path} is damaged or no program of torch.export: {line_of(error)}"
        ) from error
    policy = ExportedPolicy(program, space, output, head, units, scaling)
    return Model(
        policy,
        name=f"torch-export:{path}",
        format="torch-export",
        card={"observations": policy.shape},
        parameters=sum(p.numel() for p in program.parameters()),
        files=files,
        path=path,
    )


class ExportedPolicy:
    """The program of one tensor; a fixed number of states a call is kept to."""

    head: Head

    def __init__(
        self, program: Any, space: Space | None, output: str, head: str, units: str, scaling: str
    ) -> None:
        inputs = program.graph_signature.user_inputs
        if len(inputs) != 1:
            raise UserError(f"the program has inputs {', '.join(map(str, inputs))}, expected one")
        if scaling not in ("unit", "none"):
            raise choose_from("scaling", scaling, ["unit", "none"])
        nodes = {node.name: node for node in program.graph.nodes}
        value = nodes[inputs[0]].meta["val"]
        self._dtype = value.dtype
        self._batch, *self.shape = (side if isinstance(side, int) else None for side in value.shape)
        self._module = program.module()
        self._output = number(output)
        self._unit = scaling == "unit"
        said = [nodes[name].meta["val"] for name in program.graph_signature.user_outputs]
        chosen = said[self._output or 0] if (self._output or 0) < len(said) else said[0]
        width = chosen.shape[-1] if chosen.ndim == 2 and chosen.is_floating_point() else None
        self.head = chosen_head(head, space, width if isinstance(width, int) else None)
        self._read = Reading(self.head, space, units)

    def initial(self, n: int) -> Carry:
        """There is no memory."""
        return ()

    def step(self, obs: Observation, carry: Carry) -> tuple[Tensor, Carry]:
        """Return ``out[N,L]``."""
        given = one_tensor(obs)
        x = shaped(given.cpu(), self.shape)
        x = (x / 255.0 if self._unit else x).to(self._dtype)
        n, batch = len(x), self._batch or len(x)
        said = []
        for start in range(0, n, batch) if self._batch else (0,):
            rows = x[start : start + batch]
            if len(rows) < batch:
                rows = torch.cat([rows, rows[-1:].expand(batch - len(rows), *rows.shape[1:])])
            with torch.no_grad():
                said.append(one_output(self._module(rows), self._output))
        return self._read(torch.cat(said)[:n], n).to(given.device), ()
