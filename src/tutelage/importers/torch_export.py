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

    Inputs behind the first are a memory, which begins at zero; as many outputs, the last, hold it
    after a step. Raises UserError for a file that is not whole, a program whose inputs are no such
    thing, and numbers whose meaning nothing says.
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
        card={"observations": policy.shape, "memory": [list(sides) for sides in policy.memory]},
        parameters=sum(p.numel() for p in program.parameters()),
        files=files,
        path=path,
    )


class ExportedPolicy:
    """The program of an observation and perhaps a memory; a fixed number of states is kept to."""

    head: Head

    def __init__(
        self, program: Any, space: Space | None, output: str, head: str, units: str, scaling: str
    ) -> None:
        inputs = program.graph_signature.user_inputs
        outputs = program.graph_signature.user_outputs
        if scaling not in ("unit", "none"):
            raise choose_from("scaling", scaling, ["unit", "none"])
        nodes = {node.name: node for node in program.graph.nodes}
        value, *memory = (nodes[name].meta["val"] for name in inputs)
        after = [nodes[name].meta["val"] for name in outputs[len(outputs) - len(memory) :]]
        if len(outputs) <= len(memory) or any(
            not isinstance(one, Tensor) or one.shape[1:] != other.shape[1:]
            for one, other in zip(memory, after, strict=True)
        ):
            raise UserError(
                f"the program has inputs {', '.join(map(str, inputs))}, expected one, or a memory "
                "behind it that is its last outputs as well"
            )
        self.memory = [tuple(one.shape[1:]) for one in memory]
        self._dtype = value.dtype
        self._batch, *self.shape = (side if isinstance(side, int) else None for side in value.shape)
        self._module = program.module()
        self._output = number(output)
        self._unit = scaling == "unit"
        said = [nodes[name].meta["val"] for name in outputs]
        chosen = said[self._output or 0] if (self._output or 0) < len(said) else said[0]
        width = chosen.shape[-1] if chosen.ndim == 2 and chosen.is_floating_point() else None
        self.head = chosen_head(head, space, width if isinstance(width, int) else None)
        self._read = Reading(self.head, space, units)

    def initial(self, n: int) -> Carry:
        """Return zeros, ``[N,…]`` for each part of the memory; mostly there is none."""
        return tuple(torch.zeros(n, *sides) for sides in self.memory)

    def step(self, obs: Observation, carry: Carry) -> tuple[Tensor, Carry]:
        """Return ``out[N,L]`` and the memory after."""
        given = one_tensor(obs)
        x = shaped(given.cpu(), self.shape)
        x = (x / 255.0 if self._unit else x).to(self._dtype)
        n, batch = x.shape[0], self._batch or x.shape[0]
        whole = (x, *(part.cpu() for part in carry))
        said, after = [], []
        for start in range(0, n, batch) if self._batch else (0,):
            rows = [self._filled(part[start : start + batch]) for part in whole]
            with torch.no_grad():
                answer = self._module(*rows)
            said.append(one_output(answer, self._output))
            after.append(tuple(answer[len(answer) - len(carry) :]) if carry else ())
        memory = (torch.cat(parts)[:n].to(given.device) for parts in zip(*after, strict=True))
        return self._read(torch.cat(said)[:n], n).to(given.device), tuple(memory)

    def _filled(self, rows: Tensor) -> Tensor:
        """Return as many rows as the program is fixed to, if it is: the last one is repeated."""
        missing = self._batch - rows.shape[0] if self._batch else 0
        if missing <= 0:
            return rows
        return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])
