"""TorchScript files: programs, so that they are run only where a person names them as such.

What such a module keeps in itself between calls, as an LSTM's state, becomes a memory of each
environment: it is put in before a call and taken out after it.
"""

import io
import re
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
)
from tutelage.policies import Carry, Model, natural

IN_PLACE = re.compile(r"aten::(?:copy|add|sub|mul|div|fill|zero|lerp|index_put|set)_\(")
"""What changes a buffer, in the text of a graph; an activation in place changes none."""
SETS = re.compile(r'prim::SetAttr\[name="(\w+)"\]')


def recognises(path: Path) -> bool:
    """Return whether a zip holds a compiled module."""
    return any("/code/__torch__" in name for name in members(path))


def load(
    path: Path,
    *,
    space: Space | None = None,
    output: str = "",
    head: str = "",
    units: str = "env",
    scaling: str = "none",
) -> Model:
    """Return a compiled module as a policy; its options are those of an ONNX file.

    ``output`` is the number of the one that says the actions, of several. Raises UserError for a
    file that is not whole and for numbers whose meaning nothing says.
    """
    data, files = read_bytes(path)
    check_archive(data, str(path), "TorchScript")
    try:
        module = torch.jit.load(  # type: ignore[no-untyped-call]
            io.BytesIO(data), map_location="cpu"
        ).eval()
        policy = ScriptPolicy(module, space, output, head, units, scaling)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path} is damaged or no TorchScript: {line_of(error)}") from error
    return Model(
        policy,
        name=f"torchscript:{path}",
        format="torchscript",
        card={"memory": policy.states},
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        files=files,
        path=path,
    )


class ScriptPolicy(nn.Module):
    """A compiled module; with a state of its own it is asked of one environment after the other."""

    head: Head

    def __init__(
        self, module: Any, space: Space | None, output: str, head: str, units: str, scaling: str
    ) -> None:
        super().__init__()
        self._module = module
        self._output = number(output)
        if scaling not in ("unit", "none"):
            raise choose_from("scaling", scaling, ["unit", "none"])
        self._unit = scaling == "unit"
        floating = (p.dtype for p in module.parameters() if p.is_floating_point())
        self._dtype = next(floating, torch.float32)
        self.states = _states(module)
        self._fresh = [self._get(name).clone() for name in self.states]
        self.head = chosen_head(head, space, None)
        self._read = Reading(self.head, space, units)

    def initial(self, n: int) -> Carry:
        """Return the state that the file holds, for each environment."""
        return tuple(
            torch.stack([state] * n).to(self._get(name).device)
            for name, state in zip(self.states, self._fresh, strict=True)
        )

    def step(self, obs: Observation, carry: Carry) -> tuple[Tensor, Carry]:
        """Return ``out[N,L]`` and the memory after."""
        x = natural(one_tensor(obs))
        x = (x / 255.0 if self._unit else x).to(self._dtype)
        if not self.states:
            return self._read(self._ask(x), x.shape[0]), ()
        said, after = [], []
        for i in range(len(x)):
            for name, part in zip(self.states, carry, strict=True):
                owner, leaf = self._owner(name)
                setattr(owner, leaf, part[i].clone())
            said.append(self._ask(x[i : i + 1]))
            after.append([self._get(name).clone() for name in self.states])
        memory = tuple(torch.stack(parts) for parts in zip(*after, strict=True))
        return self._read(torch.cat(said), len(x)), memory

    def _get(self, name: str) -> Tensor:
        tensor: Tensor = getattr(*self._owner(name))
        return tensor

    def _owner(self, name: str) -> tuple[Any, str]:
        *path, leaf = name.split(".")
        return reduce(getattr, path, self._module), leaf

    def _ask(self, x: Tensor) -> Tensor:
        try:
            with torch.no_grad():
                return one_output(self._module(x), self._output)
        except (RuntimeError, torch.jit.Error) as error:
            *_, cause = str(error).strip().splitlines() or [repr(error)]  # above it is its code
            raise UserError(
                f"the program cannot take observations {list(x.shape[1:])}: {cause}"
            ) from error


def number(output: str) -> int | None:
    """Return which output is meant; raise UserError for what is no number."""
    if output and not output.isdecimal():
        raise UserError(f"output {output!r}: expected its number, from 0 on")
    return int(output) if output else None


def one_output(said: Any, which: int | None) -> Tensor:
    """Return the tensor that a program says, the one chosen of several."""
    if isinstance(said, Tensor) and which in (None, 0):
        return said
    several = list(said.values()) if isinstance(said, dict) else said
    if isinstance(several, tuple | list) and several:
        if which is None and len(several) == 1:
            which = 0
        if which is not None and which < len(several) and isinstance(several[which], Tensor):
            tensor: Tensor = several[which]
            return tensor
        raise UserError(
            f"the program has {len(several)} outputs: choose one, as in +output:0, from 0 to "
            f"{len(several) - 1}"
        )
    raise UserError(f"the program says a {type(said).__name__}, expected a tensor [N, L]")


def _states(module: Any) -> list[str]:
    """Return the names of what the module may change of itself when it is asked."""
    text = str(module.inlined_graph)
    buffers = {name for name, _ in module.named_buffers()}
    names = set(SETS.findall(text))
    for name in sorted(names - buffers):
        if not isinstance(getattr(module, name, None), Tensor):
            raise UserError(
                f"the program keeps a state inside of itself ({name}) that cannot be told apart "
                "by environment: export it with its memory as an input and an output"
            )
    return sorted(names | buffers if IN_PLACE.search(text) else names)
