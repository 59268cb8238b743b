"""ONNX files, run by ONNX Runtime on the CPU."""

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.errors import UserError, choose_from
from tutelage.files import file_digest
from tutelage.heads import Head
from tutelage.importers.base import (
    Observation,
    Reading,
    Space,
    beginning,
    chosen_head,
    line_of,
    one_tensor,
    quoted,
    read_bytes,
    shaped,
)
from tutelage.policies import Carry, Model
from tutelage.types import Array

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}
EXTERNAL = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")
"""Where a model says that weights are in a file beside it: StringStringEntryProto, key, value."""


def recognises(path: Path) -> bool:
    """Return whether a file begins as a ModelProto does: a version, then known fields only."""
    head = beginning(path, 4096)
    if head[:1] != b"\x08" or len(head) < 8:
        return False
    at, graph = 0, False
    while at < len(head) - 12:
        tag, at = _varint(head, at)
        if not 1 <= tag >> 3 <= 25 or tag & 7 not in (0, 2):
            return False
        number, at = _varint(head, at)
        at += number if tag & 7 else 0
        graph = graph or tag >> 3 in (7, 8)
    return graph


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number of Protocol Buffers at ``at``, and where the next one is."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            break
    return value, at


def load(
    path: Path,
    *,
    space: Space | None = None,
    output: str = "",
    head: str = "",
    units: str = "env",
    scaling: str = "none",
) -> Model:
    """Return the network of an ONNX file.

    ``output`` chooses one of several outputs, ``head`` says what its numbers mean, ``units`` those
    of continuous actions (env or range), ``scaling`` is unit where the file wants x / 255. Inputs
    and outputs of a memory are found in pairs. Raises UserError for several outputs of which none
    is chosen, and for what ONNX Runtime cannot run.
    """
    try:
        onnxruntime: Any = import_module("onnxruntime")
    except ImportError as error:
        raise UserError(
            f"{path} is an ONNX file, which needs the package onnxruntime: "
            "pip install 'tutelage[onnx]'"
        ) from error
    data, files = read_bytes(path)
    for match in EXTERNAL.finditer(data):
        name = data[match.end() : match.end() + match[1][0]].decode(errors="replace")
        if Path(name).anchor or ".." in Path(name).parts:
            raise UserError(
                f"{path} names the file {quoted(name)} as its weights, expected one beside it"
            )
        if (beside := path.parent / name).is_file():
            files[name] = file_digest(beside)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime has a class of its own for each of its failures
        raise UserError(f"{path} cannot be run by ONNX Runtime: {line_of(error)}") from error
    if scaling not in ("unit", "none"):
        raise choose_from("scaling", scaling, ["unit", "none"])
    policy = OnnxPolicy(session, str(path), space, output, head, units, scaling == "unit")
    return Model(
        policy,
        name=str(path),
        format="onnx",
        card={
            "observations": policy.shapes,
            "output": policy.output,
            "memory": [one.name for one in policy.states],
        },
        files=files,
        path=path,
    )


class OnnxPolicy:
    """The network of an ONNX session; a fixed number of states a call is kept to."""

    head: Head

    def __init__(
        self,
        session: Any,
        where: str,
        space: Space | None,
        output: str,
        head: str,
        units: str,
        unit: bool,
    ) -> None:
        self._session = session
        self.where = where
        self._unit = unit
        inputs, outputs = session.get_inputs(), session.get_outputs()
        for one in inputs:
            if one.type not in DTYPES:
                raise UserError(
                    f"{where}: its input {one.name} is a {one.type}, which is not known"
                )
            if not one.shape:
                raise UserError(
                    f"{where}: its input {one.name} says no shape, expected a side for states and "
                    "others, as in [N, …]: export it with the shapes of its inputs"
                )
        pairs = _pairs(inputs, outputs)
        self.states = [one for one, _ in pairs]
        self._after = [one.name for _, one in pairs]
        self._inputs = {one.name: one for one in inputs if one not in self.states}
        choices = {one.name: one for one in outputs if one.name not in self._after}
        if output and output not in choices:
            raise choose_from(f"output of {where}", output, choices)
        if not output and len(choices) != 1:
            raise UserError(
                f"{where} has several outputs: choose one, as in +output:{next(iter(choices))}, of "
                f"{', '.join(choices)}"
            )
        self.output = output or next(iter(choices))
        shape = choices[self.output].shape
        size = shape[-1] if len(shape) == 2 and isinstance(shape[-1], int) else None
        floating = "float" in choices[self.output].type or "double" in choices[self.output].type
        self.head = chosen_head(head, space, size if floating else None, hint=self.output)
        self.read = Reading(self.head, space, units)
        for name, one in self._inputs.items():
            if len(one.shape) < 2:
                raise UserError(
                    f"{where}: its input {name} has the shape {list(one.shape)}, expected a side "
                    "for states before it, as in [N, …]: export it with a batch"
                )
        sizes = {one.shape[0] for one in self._inputs.values()} - {None}
        fixed = [size for size in sizes if isinstance(size, int)]
        self._batch = fixed[0] if fixed else None

    @property
    def takes_parts(self) -> bool:
        """Whether it has an input for each part of a Dict."""
        return len(self._inputs) > 1

    @property
    def shapes(self) -> dict[str, list[Any]]:
        """What the file says of each input's shape, without its first side."""
        return {name: list(one.shape[1:]) for name, one in self._inputs.items()}

    def initial(self, n: int) -> Carry:
        """Return zeros, ``[N,…]`` for each part of the memory."""
        return tuple(torch.zeros(n, *_without_batch(one.shape)) for one in self.states)

    def step(self, obs: Observation, carry: Carry) -> tuple[Tensor, Carry]:
        """Return ``out[N,L]`` and the memory after."""
        fed = {name: x.cpu().numpy() for name, x in self.fed(obs, carry).items()}
        n = len(next(iter(fed.values())))
        device = (obs if isinstance(obs, Tensor) else next(iter(obs.values()))).device
        said = self._run(fed, n)
        after = tuple(torch.from_numpy(part).float().to(device) for part in said[1:])
        return self.read(said[0], n).to(device), after

    @property
    def outputs(self) -> list[str]:
        """The output that says the actions, then those of the memory."""
        return [self.output, *self._after]

    @property
    def axes(self) -> list[int]:
        """Which side of each part of the memory counts states."""
        return [_batch_axis(one.shape) for one in self.states]

    def fed(self, obs: Observation, carry: Carry) -> dict[str, Tensor]:
        """Return what each input is given, ``[N,…]``, the memory's as well."""
        names = list(self._inputs)
        if len(names) == 1:
            parts: Mapping[str, Tensor] = {names[0]: one_tensor(obs)}
        elif isinstance(obs, Tensor) or not set(names) <= set(obs):
            raise UserError(f"{self.where} has inputs {', '.join(names)}: expected a Dict of these")
        else:
            parts = obs
        fed: dict[str, Tensor] = {}
        for name, one in self._inputs.items():
            want = [side if isinstance(side, int) else None for side in one.shape[1:]]
            x = shaped(parts[name], want)
            x = x / 255.0 if self._unit else x
            fed[name] = x.to(_torch_type(one.type)).contiguous()
        for one, part in zip(self.states, carry, strict=True):
            fed[one.name] = part.to(_torch_type(one.type))
        return fed

    def _run(self, fed: Mapping[str, Array], n: int) -> list[Array]:
        """Run the session on all states, or on as many at once as the file fixes."""
        batch = self._batch or n
        rows = [self._run_batch(fed, start, batch) for start in range(0, n, batch)]
        return [np.concatenate(parts)[:n] for parts in zip(*rows, strict=True)]

    def _run_batch(self, fed: Mapping[str, Array], start: int, batch: int) -> list[Array]:
        given = {}
        axes = {one.name: _batch_axis(one.shape) for one in self.states}
        for name, whole in fed.items():
            part = whole[start : start + batch]
            if self._batch and len(part) < batch:
                part = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
            given[name] = np.moveaxis(part, 0, axes.get(name, 0))
        try:
            out, *after = self._session.run([self.output, *self._after], given)
        except Exception as error:  # as above
            raise UserError(f"{self.where} failed in ONNX Runtime: {line_of(error)}") from error
        moved = [
            np.moveaxis(part, axes[one.name], 0)
            for one, part in zip(self.states, after, strict=True)
        ]
        return [out, *moved]


def _torch_type(kind: str) -> torch.dtype:
    return torch.from_numpy(np.empty(0, DTYPES[kind])).dtype


def _batch_axis(shape: Sequence[Any]) -> int:
    """Return which side of a memory counts states: that without a size, or the layers' second."""
    free = [i for i, side in enumerate(shape) if not isinstance(side, int)]
    return free[0] if len(free) == 1 else 1 if len(shape) == 3 else 0


def _without_batch(shape: Sequence[Any]) -> list[int]:
    sides = list(shape)
    del sides[_batch_axis(shape)]
    return [side if isinstance(side, int) else 1 for side in sides]


def _pairs(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Return the inputs of a memory, each with the output that holds it after the step.

    A pair has one name but for words such as in, out, new, next or initial, and one shape.
    """

    def plain(name: str) -> str:
        words = re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())
        fillers = {"in", "out", "input", "output", "new", "next", "prev", "init", "initial", ""}
        return re.sub(r"^([hc])[0n]$", r"\1", "_".join(w for w in words if w not in fillers))

    def alike(one: Any, other: Any) -> bool:
        sides = list(zip(one.shape, other.shape, strict=False))
        return len(one.shape) == len(other.shape) and all(
            a == b for a, b in sides if isinstance(a, int) and isinstance(b, int)
        )

    pairs = [
        (one, other)
        for one in inputs
        for other in outputs
        if plain(one.name) and plain(one.name) == plain(other.name) and alike(one, other)
    ]
    return pairs if len(pairs) < len(inputs) else []
